from types import SimpleNamespace

import pytest
import torch

from models import NeuronSetting
from models.engines import select
from tests.cifar.tiny_net import tiny_lif
from utils.training import out_of_memory
from utils.training.out_of_memory import GIB, Need, hint, measure


def test_what_a_step_needs_follows_from_two_small_ones():
    asked = []

    def peak(images, labels):
        assert len(images) == len(labels)
        asked.append(len(images))
        return 1000 + 30 * len(images)

    need = measure(torch.zeros(4, 3), torch.zeros(4), peak)
    assert asked == [2, 4]
    assert (need.fixed, need.each) == (1000, 30)
    assert need.of(10) == 1300
    assert need.most(1300) == 10 and need.most(1329) == 10 and need.most(0) == 0


@pytest.mark.parametrize(
    ("need", "processes", "parts", "said"),
    [
        (Need(1 * GIB, 0.5 * GIB), 1, 1, "--b 18 needs 10.0 GiB, and 64 --accumulate 4"),
        (Need(1 * GIB, 0.5 * GIB), 2, 1, "--b 36 needs 10.0 GiB, and 64 --accumulate 2"),
        (Need(1 * GIB, 0.5 * GIB), 1, 2, "--b 36 needs 10.0 GiB, and 64 --accumulate 4"),
        (Need(1 * GIB, 0.1 * GIB), 1, 1, "--b 64 needs 7.4 GiB"),
        (Need(9 * GIB, 0.5 * GIB), 1, 1, ""),
    ],
)
def test_hints_are_of_batches_that_fit_and_of_parts_that_do(need, processes, parts, said):
    assert hint(need, "", "--b", 64, processes, parts, 10 * GIB) == said


@pytest.fixture
def run(monkeypatch):
    """A run on a GPU of 8 GiB, of which a step of an image takes one, and half of it in bf16."""
    model = tiny_lif(NeuronSetting(timesteps=2))

    def peak(net, images, labels):
        assert net is model and len(images) == len(labels)
        each = GIB if net.choice.precision == "fp32" else GIB // 2
        return GIB + each * len(images)

    monkeypatch.setattr(out_of_memory, "_peak", peak)
    monkeypatch.setattr(select, "has_bf16", lambda device: True)
    gpu = SimpleNamespace(total_memory=10 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    return SimpleNamespace(
        world=SimpleNamespace(device=torch.device("cuda"), size=1),
        model=model,
        data=SimpleNamespace(train=[(torch.zeros(16, 3, 32, 32), torch.zeros(16).long())]),
        training=SimpleNamespace(accumulate=1, evaluate=False),
        engine=SimpleNamespace(sync_bn=False),
        batch_flag=("--train-batch", 16),
    )


def test_advice_estimates_each_way_to_compute_and_leaves_the_network_as_it_was(run):
    choice = run.model.choice
    assert out_of_memory.advice(run) == (
        "out of memory on the cuda with --train-batch 16, engine folded (exact), precision fp32. "
        "Estimated for 9.0 GiB: --train-batch 8 needs 9.0 GiB, and 16 --accumulate 2; "
        "--engine folded --precision bf16 --train-batch 16 needs 9.0 GiB; "
        "--engine rate --precision bf16 --train-batch 16 needs 9.0 GiB"
    )
    assert run.model.choice is choice


def test_without_a_gpu_nothing_is_estimated(run):
    run.world.device = torch.device("cpu")
    assert "lower --train-batch" in out_of_memory.advice(run)
    assert "Estimated" not in out_of_memory.advice(run)
