import os
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from tests import ranks
from utils.distributed.launch_env import join
from utils.distributed.world import ProcessGroup, World
from utils.system.errors import UserError

CPU = torch.device("cpu")
PARTS = (3, 5)  # samples of a batch on each process


def test_one_process_needs_no_collectives():
    world, net, tensor = World(CPU), nn.Linear(2, 2), torch.ones(2)
    assert world.all_reduce_sum(tensor) is tensor
    assert world.wrap(net) is net
    assert world.all_gather("x") == ["x"]
    assert world.all_reduce_min(3) == 3
    assert world.broadcast("x") == "x"
    assert world.loss_weight(7) == 1.0
    assert world.is_main


@pytest.mark.parametrize(
    "message",
    [
        "Application timeout caused pair closure",
        "[/src/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:9. This is typical",
        "[Rank 0] Watchdog caught collective operation timeout: ProcessGroupNCCL",
    ],
)
def test_a_failed_collective_is_distinguished_from_other_errors(monkeypatch, message):
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    with (
        pytest.raises(UserError, match="rank 1 of 2 lost the other ranks .*--timeout 600 s"),
        ProcessGroup(CPU, 1, 2),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shapes"), ProcessGroup(CPU, 1, 2):
        raise RuntimeError("shapes do not fit")


def test_only_rank_0_prints(capsys):
    World(CPU, rank=1, size=2).print_main("second")
    World(CPU).print_main("first")
    assert capsys.readouterr().out == "first\n"


class Net(nn.Module):
    """A network without BatchNorm in its path, so that shares of a batch do not interact."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3).double()
        self.Vth = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.register_buffer("constant", torch.tensor(1 / 3), persistent=False)

    def forward(self, x):
        return self.linear(x) * self.Vth


def _batch():
    torch.manual_seed(1)
    return torch.randn(sum(PARTS), 4, dtype=torch.float64), torch.randint(0, 3, (sum(PARTS),))


def _gradients(net, model, x, y, weight=1.0):
    (F.cross_entropy(model(x), y) * weight).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def _threads():
    """The names of this process's threads, where /proc exists."""
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


def _listening():
    """The addresses at which this process listens, in hexadecimal, where /proc exists."""
    sockets = {os.readlink(fd) for fd in Path("/proc/self/fd").glob("*") if fd.is_symlink()}
    rows = [line.split() for file in ("tcp", "tcp6") for line in _lines(f"/proc/self/net/{file}")]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def _lines(path):
    return Path(path).read_text().splitlines()[1:] if Path(path).exists() else []


def _failed_preparation(world):
    """The error that a rank gets when rank 0 fails to prepare."""

    def fail():
        raise UserError(f"--path: failed on {world.rank}")

    with pytest.raises(UserError) as caught:
        world.run_on_main_first(fail)
    return str(caught.value)


def _process(folder):
    """What each of two ranks computes and saves."""
    torch.set_num_threads(1)
    world = join()
    results = {"size": world.size, "device": str(world.device)}
    x, y = (half.split(PARTS)[world.rank].to(world.device) for half in _batch())
    net = Net().to(world.device)
    net.norm.running_mean.fill_(world.rank)
    results["gradients"] = _gradients(net, world.wrap(net), x, y, world.loss_weight(len(y)))
    world.average_running_statistics(net)
    results["mean"], results["constant"] = net.norm.running_mean, net.constant
    results["sum"] = world.all_reduce_sum(torch.tensor([1.0 + world.rank], device=world.device))
    results["ranks"] = world.all_gather({"rank": world.rank})
    results["shared"] = world.broadcast(f"from {world.rank}")
    results["minimum"] = world.all_reduce_min(7 - world.rank)
    world.run_on_main_first((folder / "prepared").touch)
    results["prepared"] = (folder / "prepared").exists()
    results["error"] = _failed_preparation(world)
    results["listening"] = _listening()
    world.close()
    results["threads"] = _threads()
    torch.save(results, folder / f"{world.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two ranks on the CPU computed."""
    folder = tmp_path_factory.mktemp("world")
    ranks.run(2, __file__, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_averaged_gradients_equal_those_of_one_process_for_unequal_shares(results):
    net = Net()
    expected = _gradients(net, net, *_batch())
    for result in results:
        assert result["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(result["gradients"][name], gradient, rtol=1e-12, atol=0)


def test_statistics_are_averaged_and_constants_unchanged(results):
    for result in results:
        assert torch.equal(result["mean"], torch.full((3,), 0.5))
        assert torch.equal(result["constant"], torch.tensor(1 / 3))


def test_collectives_return_the_same_on_every_rank(results):
    for result in results:
        assert (result["size"], result["device"]) == (2, "cpu")
        assert result["sum"].item() == 3.0
        assert result["ranks"] == [{"rank": 0}, {"rank": 1}]
        assert result["shared"] == "from 0"
        assert result["minimum"] == 6


def test_no_thread_outlives_the_group(results):
    for result in results:  # a process that exits while it runs would abort
        assert not any("gloo" in name for name in result["threads"])


def test_ranks_of_one_node_listen_on_loopback_only(results):
    assert results[0]["listening"] or not Path("/proc").exists()
    for result in results:
        assert all(address.startswith("0100007F:") for address in result["listening"])


def test_rank_0_prepares_for_all_ranks_or_fails_on_all(results):
    for result in results:
        assert result["prepared"]
        assert result["error"] == "--path: failed on 0"


if __name__ == "__main__":
    _process(Path(sys.argv[1]))
