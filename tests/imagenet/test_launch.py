import socket

import pytest
import torch

from imagenet import launch
from imagenet.build import read_batching
from imagenet.launch import start
from imagenet.options import build_parser
from tests.frozen_args import FrozenArgs
from utils.distributed.launch_env import connect
from utils.distributed.world import World
from utils.system.errors import UserError

CPU = torch.device("cpu")


def _start(line, gpus=0):
    """What a process is given for the flags of `line`."""
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        patch.setattr(torch.cuda, "device_count", lambda: gpus)
        args = FrozenArgs(build_parser().parse_args(line.split()))
        start(lambda *given: seen.append(given), args)
    (given,) = seen
    return given


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--multiprocessing-distributed",
        "--multiprocessing-distributed --world-size 1 --rank 0 --dist-backend nccl",
        "--multiprocessing-distributed --nproc 1 --dist-url tcp://127.0.0.1:20500",
    ],
)
def test_without_a_gpu_one_process_is_alone(line):
    args, layout, world = _start(line)
    assert (world.rank, world.size, world.device.type) == (0, 1, "cpu")
    batching = read_batching(args, layout, None, world)
    assert (batching.train_batch, batching.test_batch, batching.workers) == (144, 144, 4)


def test_a_gpu_can_be_named():
    *_, world = _start("--gpu 1", gpus=2)
    assert world.device == torch.device("cuda", 1)


def test_idle_gpus_are_pointed_out(capsys):
    _start("", gpus=3)
    assert "2 more GPUs here; --multiprocessing-distributed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "gpus", "said"),
    [
        ("--world-size 2", 0, "--world-size 2 --rank -1"),
        ("--world-size 2 --rank 2", 0, "--world-size 2 --rank 2"),
        ("--world-size 0 --rank 0", 0, "--world-size 0"),
        ("--rank 1", 0, "--world-size -1 --rank 1"),
        ("--multiprocessing-distributed --rank 3 --world-size 2", 1, "--rank 3"),
        ("--nproc 2", 0, "--nproc 2: needs --multiprocessing-distributed"),
        ("--nproc 3 --multiprocessing-distributed", 2, "--nproc 3: there are 2 GPUs"),
        ("--gpu 0 --multiprocessing-distributed", 1, "--gpu"),
        ("--gpu 2", 2, "--gpu 2: there are 2 GPUs"),
        ("--gpu 0", 0, "--gpu 0: there are 0 GPUs"),
        ("--world-size 2 --rank 0", 0, "--dist-url tcp://224.*address of node 0"),
        ("--world-size 2 --rank 0 --dist-url nonsense", 0, "--dist-url nonsense"),
        ("--world-size 2 --rank 0 --dist-url tcp://host:99999", 0, "--dist-url tcp://host:99999"),
        ("--world-size 2 --rank 0 --dist-url tcp://a..b:99", 0, "--dist-url tcp://a..b:99"),
        ("--world-size 2 --rank 0 --dist-url env://", 0, "MASTER_ADDR"),
    ],
)
def test_flags_that_do_not_fit_are_named(line, gpus, said):
    with pytest.raises(UserError, match=said) as caught:
        _start(line, gpus)
    assert "\n" not in str(caught.value)


def test_a_launcher_gives_the_layout(monkeypatch):
    environment = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1", "RANK": "3"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    joined = []
    monkeypatch.setattr(launch, "join", lambda *given: joined.append(given) or World(CPU))
    args, layout, world = _start("-b 100 -j 5 --local-rank 1 --timeout 30")
    batching = read_batching(args, layout, None, world)
    assert joined == [(1, 30.0)]
    assert batching.train_batch == 200  # on two nodes
    assert batching.workers == 3  # half of one node's, rounded up


def test_a_port_in_use_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--dist-url {url}"):
            connect(url, "gloo", 0, 2, torch.device("cpu"))
