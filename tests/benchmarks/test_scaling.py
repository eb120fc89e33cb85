"""The model of a step on many nodes, against hand counts."""

import pytest
import torch

from benchmarks.scaling import (
    BUCKET,
    FIRST_BUCKET,
    Compute,
    Link,
    buckets,
    build_parser,
    measure,
    step_seconds,
    table,
)
from models import NeuronSetting, create_model
from utils.distributed.world import World

MB = 10**6
# Two buckets, of 2 MB at 1 s and of 4 MB at 3 s, where the backward pass ends; optimizer 0.5 s.
COMPUTE = Compute(3.0, 3.5, ((1.0, 2 * MB), (3.0, 4 * MB)))


def test_buckets_are_filled_in_order_the_first_a_small_one():
    gradients = [(1.0, FIRST_BUCKET // 2), (2.0, FIRST_BUCKET), (3.0, 8), (4.0, BUCKET), (5.0, 8)]
    filled = [(2.0, FIRST_BUCKET // 2 + FIRST_BUCKET), (4.0, BUCKET + 8), (5.0, 8)]
    assert buckets(gradients) == filled


def test_a_ring_sends_nearly_twice_the_bytes():
    link = Link(1e6, 0.01)
    assert link.all_reduce(4 * MB, 1) == 0
    assert link.all_reduce(4 * MB, 2) == pytest.approx(4 + 0.02)
    assert link.all_reduce(4 * MB, 4) == pytest.approx(6 + 0.06)


def test_one_process_exchanges_nothing():
    assert step_seconds(COMPUTE, Link(1.0, 1.0), 1) == 3.5


@pytest.mark.parametrize(
    ("bandwidth", "seconds"),
    [
        (2e6, 1 + 1 + (3 - 2) + 2 + 0.5),  # the first within the backward pass, the second after
        (0.5e6, 1 + 4 + 8 + 0.5),  # the second waits for the first
        (1e15, 3.5),
    ],
)
def test_what_the_backward_pass_hides_costs_nothing(bandwidth, seconds):
    assert step_seconds(COMPUTE, Link(bandwidth, 0.0), 2) == pytest.approx(seconds)


def test_the_table_goes_on_from_a_measured_step():
    flags = "--batch 2 --timesteps 1 --steps 1 --nodes 1 64"
    args = build_parser().parse_args(flags.split())
    one = measure(args, World(torch.device("cpu")))
    assert 0 < one.gradients[0][0] <= one.gradients[-1][0] <= one.backward < one.whole
    network = create_model(args.model, NeuronSetting())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert sum(size for _, size in one.gradients) == 4 * parameters
    _, _, first, last = table(args, one).splitlines()
    assert first.count("(100 %)") == 6
    assert last.startswith("| 64 | ") and "(100 %)" not in last.split("|")[-2]
