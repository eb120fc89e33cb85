"""The anchor of the benchmarks computes what the engines compute."""

from __future__ import annotations

import copy

import pytest

from benchmarks.published import as_published
from tests.models.networks import assert_equal_steps, images, network, step


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_the_published_way_gives_the_same_step(name: str) -> None:
    model, x = network(name, 3), images(name, 3, 2)
    published = as_published(copy.deepcopy(model))
    model.configure(engine="folded")
    assert_equal_steps(step(published, x), step(model, x))
