import re
from types import SimpleNamespace

import pytest
import torch

from models import NeuronSetting
from models.engines import select
from tests.cifar.tiny_net import tiny_lif
from utils.optimization import optimizer
from utils.training import out_of_memory
from utils.training.out_of_memory import GIB, hint


def linear(fixed, each):
    """Return the peak of a step that takes so many GiB, and so many more per image."""
    return lambda images: int((fixed + each * images) * GIB)


@pytest.mark.parametrize(
    ("peak", "processes", "parts", "said"),
    [
        (linear(1, 0.5), 1, 1, "--b 18 needs 10.0 GiB, and 64 --accumulate 4"),
        (linear(1, 0.5), 2, 1, "--b 36 needs 10.0 GiB, and 64 --accumulate 2"),
        (linear(1, 0.5), 1, 2, "--b 36 needs 10.0 GiB, and 64 --accumulate 4"),
        (linear(1, 0.1), 1, 1, "--b 64 needs 7.4 GiB"),
        (linear(9.5, 0.5), 1, 1, ""),
    ],
)
def test_hints_are_of_batches_that_fit_and_of_parts_that_do(peak, processes, parts, said):
    assert hint(peak, "", "--b", 64, processes, parts, 10 * GIB) == said


@pytest.fixture
def run(monkeypatch):
    """A run on a GPU of 1 MiB with bf16 arithmetic."""
    monkeypatch.setattr(select, "has_bf16", lambda device: True)
    gpu = SimpleNamespace(total_memory=1 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}
    return SimpleNamespace(
        world=SimpleNamespace(device=torch.device("cuda"), size=1),
        model=tiny_lif(NeuronSetting(timesteps=4)),
        data=SimpleNamespace(train=[(torch.zeros(64, 3, 32, 32), torch.zeros(64).long())]),
        training=SimpleNamespace(accumulate=1, evaluate=False),
        engine=SimpleNamespace(sync_bn=False),
        batch_flag=("--train-batch", 64),
        build_optimizer=lambda model: optimizer.build("SGD", model, **settings),
    )


def test_advice_counts_each_way_to_compute_and_leaves_the_network_as_it_was(run):
    choice, line = run.model.choice, out_of_memory.advice(run)
    said = r"--train-batch (\d+) needs 0.0 GiB, and 64 --accumulate (\d+)"
    ways = re.fullmatch(
        "out of memory on the cuda with --train-batch 64, engine folded \\(exact\\), precision "
        f"fp32. Counted for 0.0 GiB: {said}; --engine folded --precision bf16 {said}; "
        f"--engine rate --precision bf16 {said}",
        line,
    )
    single, parts, half, *_ = map(int, ways.groups())
    assert 2 <= single <= half < 64 and parts == -(-64 // single)
    assert run.model.choice is choice
    assert {p.device.type for p in run.model.parameters()} == {"cpu"}


def test_evaluation_and_parts_are_counted_as_they_are(run):
    def batch():
        return int(re.search(r"--train-batch (\d+) needs", out_of_memory.advice(run))[1])

    whole = batch()
    run.training.accumulate = 2
    assert whole < batch() < 2 * whole + 2  # the gradients of one part stay
    run.training = SimpleNamespace(accumulate=1, evaluate=True)
    assert batch() > whole


def test_no_batch_may_fit(run, monkeypatch):
    gpu = SimpleNamespace(total_memory=1 << 10)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert "no batch fits: take a smaller network" in out_of_memory.advice(run)


def test_without_a_gpu_nothing_is_counted(run):
    run.world.device = torch.device("cpu")
    assert "lower --train-batch" in out_of_memory.advice(run)
    assert "Counted" not in out_of_memory.advice(run)
