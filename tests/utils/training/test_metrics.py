import pytest
import torch

from utils.distributed.world import World
from utils.training.metrics import Meter, hits

CPU = torch.device("cpu")


def test_hits_counts_first_and_first_five():
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
    top1, top5 = hits(logits, torch.tensor([0, 4, 5]))
    assert (top1.item(), top5.item()) == (1, 2)


def test_fewer_than_five_classes_make_top_five_certain():
    assert hits(torch.randn(8, 3), torch.randint(0, 3, (8,)))[1].item() == 8


def test_batches_of_unequal_size_are_weighted_by_their_samples():
    meter = Meter(CPU)
    meter.add(torch.tensor(1.0), torch.eye(3)[:1], torch.tensor([0]))
    meter.add(torch.tensor(4.0), torch.eye(3)[:2], torch.tensor([1, 1]))
    scores = meter.reduce(World(CPU))
    assert scores == pytest.approx((3.0, 200 / 3, 100.0, 3))
    assert meter.copy_to_host().read() == scores


def test_reading_twice_counts_once():
    meter = Meter(CPU)
    meter.add(torch.tensor(1.0), torch.eye(2), torch.tensor([0, 1]))
    assert meter.reduce(World(CPU)) == meter.reduce(World(CPU))


def test_an_empty_share_of_the_test_set_has_scores():
    assert Meter(CPU).copy_to_host().read().samples == 0
