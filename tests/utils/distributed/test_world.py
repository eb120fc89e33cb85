import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F

from tests import ranks
from utils.distributed.world import ProcessGroup, World, join
from utils.system.errors import UserError

CPU = torch.device("cpu")
PARTS = (3, 5)  # samples of a batch on each process


def test_a_process_alone_exchanges_nothing():
    world, net, tensor = World(CPU), nn.Linear(2, 2), torch.ones(2)
    assert world.all_reduce_sum(tensor) is tensor
    assert world.wrap(net) is net
    assert world.all_gather("x") == ["x"]
    assert world.all_reduce_min(3) == 3
    assert world.broadcast("x") == "x"
    assert world.loss_weight(7) == 1.0
    assert world.is_main


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join().size == 1


def test_a_local_rank_without_a_launcher_is_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match="--local_rank.*torchrun"):
        join(local_rank=1)


@pytest.mark.parametrize(
    "message",
    [
        "Application timeout caused pair closure",
        "[/src/gloo/pair.cc:5] Connection closed by peer [127.0.0.1]:9. This is typical",
        "[Rank 0] Watchdog caught collective operation timeout: ProcessGroupNCCL",
    ],
)
def test_a_failed_exchange_is_told_from_other_errors(monkeypatch, message):
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    with (
        pytest.raises(UserError, match="process 1 of 2 lost the others .*--timeout 600 s"),
        ProcessGroup(CPU, 1, 2),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="shapes"), ProcessGroup(CPU, 1, 2):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT", "RANK"])
def test_half_an_environment_is_refused(monkeypatch, missing):
    for name, value in ranks.group(0, 2, "1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(UserError, match=f"{missing}.*torchrun"):
        join()


def test_only_the_first_process_prints(capsys):
    World(CPU, rank=1, size=2).print_main("second")
    World(CPU).print_main("first")
    assert capsys.readouterr().out == "first\n"


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--nproc_per_node"):
        join()


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
    """The names of this process's threads, where the system tells."""
    return [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]


def _refusal(world):
    """What a process is told when the first one cannot prepare."""

    def fail():
        raise UserError(f"--path: refused on {world.rank}")

    with pytest.raises(UserError) as caught:
        world.run_on_main_first(fail)
    return str(caught.value)


def _process(folder):
    """What each of two processes does and saves."""
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
    results["least"] = world.all_reduce_min(7 - world.rank)
    world.run_on_main_first((folder / "prepared").touch)
    results["prepared"] = (folder / "prepared").exists()
    results["refused"] = _refusal(world)
    world.close()
    results["threads"] = _threads()
    torch.save(results, folder / f"{world.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What two processes on the CPU came to."""
    folder = tmp_path_factory.mktemp("world")
    ranks.run(2, __file__, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_averaged_gradients_are_those_of_one_process_also_for_unequal_shares(results):
    net = Net()
    expected = _gradients(net, net, *_batch())
    for result in results:
        assert result["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(result["gradients"][name], gradient, rtol=1e-12, atol=0)


def test_statistics_are_averaged_and_constants_left_alone(results):
    for result in results:
        assert torch.equal(result["mean"], torch.full((3,), 0.5))
        assert torch.equal(result["constant"], torch.tensor(1 / 3))


def test_every_process_learns_what_the_others_have(results):
    for result in results:
        assert (result["size"], result["device"]) == (2, "cpu")
        assert result["sum"].item() == 3.0
        assert result["ranks"] == [{"rank": 0}, {"rank": 1}]
        assert result["shared"] == "from 0"
        assert result["least"] == 6


def test_no_thread_outlives_the_group(results):
    for result in results:  # it would abort a process that ends meanwhile
        assert not any("gloo" in name for name in result["threads"])


def test_the_first_process_prepares_for_all_or_refuses_for_all(results):
    for result in results:
        assert result["prepared"]
        assert result["refused"] == "--path: refused on 0"


if __name__ == "__main__":
    _process(Path(sys.argv[1]))
