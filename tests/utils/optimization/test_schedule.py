import math

import pytest

from utils.optimization.schedule import Schedule


def test_is_half_a_cosine_over_the_epochs():
    schedule = Schedule(lr=0.1, epochs=200)
    assert schedule.cosine(0) == 0.1
    assert schedule.cosine(100) == pytest.approx(0.05)
    assert schedule.cosine(199) == pytest.approx(0.05 * (1 + math.cos(math.pi * 199 / 200)))


def test_warm_up_scales_the_epochs_rate_by_iterations_of_all_epochs():
    schedule = Schedule(lr=0.1, epochs=4, warmup=10)
    assert schedule.at(0, 0) == pytest.approx(0.01)
    assert schedule.at(1, 8) == pytest.approx(schedule.cosine(1) * 0.9)
    assert schedule.at(1, 9) == schedule.cosine(1)
    assert schedule.at(3, 1000) == schedule.cosine(3)


def test_no_warm_up_at_zero():
    assert Schedule(lr=0.1, epochs=4, warmup=0).at(0, 0) == 0.1


def test_warm_up_can_end_with_the_first_epoch():
    schedule = Schedule(lr=0.1, epochs=4, warmup=10, first_epoch_only=True)
    assert schedule.at(0, 4) == pytest.approx(0.05)
    assert schedule.at(1, 5) == schedule.cosine(1)
