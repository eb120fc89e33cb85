"""The published commands as a user types them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import ranks

SCRIPT = Path(__file__).parents[2] / "imagenet" / "main.py"
ANN = (
    "--arch preresnet_ann.resnet18 --data ./data/imagenet --name model_ann --optimizer SGD "
    "--wd 1e-4 --batch-size 256 --lr 0.1"
)
CALIBRATION = (
    "--arch preresnet_cal_Vth.resnet18 --data ./data/imagenet --pre_train model_ann.pth "
    "--calculate_Vth resnet18_Vth"
)
SNN = (
    "--dist-url tcp://127.0.0.1:{port} --dist-backend nccl --multiprocessing-distributed "
    "--world-size 1 --rank 0 --arch preresnet_snn.resnet18_if --data ./data/imagenet "
    "--pre_train model_ann.pth --load_Vth resnet18_Vth.dict"
)
SMALL = " --image-size 32 --epochs 1 --timesteps 2 -j 1 --compile off"


def _run(folder, line):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, SCRIPT, *line.split()],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
    )


def _printed(folder, line):
    result = _run(folder, line)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    """A folder with data/imagenet, in which the first two stages were run."""
    folder = tmp_path_factory.mktemp("three_stages")
    (folder / "data").mkdir()
    (folder / "data" / "imagenet").symlink_to(images)
    _printed(folder, ANN + SMALL)
    _printed(folder, CALIBRATION + SMALL)
    return folder


def test_the_three_published_commands_run_without_a_gpu(folder):
    printed = _printed(folder, SNN.format(port=ranks.free_port()) + SMALL)
    assert "before training: loss" in printed
    output = folder / "checkpoint" / "imagenet"
    names = {path.name for path in output.iterdir()}
    assert {"model_ann.pth", "model_ann_best.pth", "resnet18_Vth.dict"} <= names
    assert {f"preresnet_snn.resnet18_if{s}" for s in (".pth", "_best.pth", ".txt")} <= names


def test_two_processes_train_and_test_the_snn(folder):
    line = SNN.format(port=ranks.free_port()) + SMALL + " --nproc 2 -j 0 --name two"
    printed = _printed(folder, line)
    assert "2 processes" in printed
    assert "of 9 samples" in printed
    assert printed.count("before training") == printed.count("epoch 1/1:") == 1
    output = folder / "checkpoint" / "imagenet"
    content = torch.load(output / "two.pth", weights_only=True)
    assert (content["epoch"], len(content["random_states"])) == (1, 2)
    assert len((output / "two.txt").read_text().splitlines()) == 2


def test_a_launcher_starts_the_program_too(folder):
    launch = "-m torch.distributed.launch --nproc_per_node 2 --master_port"
    flags = ANN + SMALL + " -e --resume model_ann.pth -j 0 --name launched"
    process = subprocess.Popen(
        [sys.executable, *launch.split(), ranks.free_port(), SCRIPT, *flags.split()],
        cwd=folder,
        env=os.environ | ranks.here(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ((printed, _),) = ranks.finish([process])
    assert "2 processes" in printed
    assert "of 9 samples" in printed


def test_a_mistake_of_several_processes_is_one_line(folder):
    """Each of them imports the network before it misses the thresholds."""
    line = SNN.format(port=ranks.free_port()) + SMALL + " --nproc 2 --load_Vth gone.dict "
    own = ranks.ROOT / "tests" / "own_networks.py"
    result = _run(folder, line + f"--pre_train= --arch mine.cnn --import {own}")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --load_Vth gone.dict")


def test_a_port_in_use_is_one_line(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = _run(folder, SNN.format(port=port) + SMALL + " --nproc 2")
    assert result.returncode == 2
    assert f"error: --dist-url tcp://127.0.0.1:{port}" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_from_elsewhere_a_mistake_is_one_line(tmp_path):
    result = _run(tmp_path, "--arch preresnet_ann.resnet18")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --data data/imagenet")
    assert list(tmp_path.iterdir()) == []
