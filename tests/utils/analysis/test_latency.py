import pytest
import torch

from tests.utils.analysis.made import measurements
from utils.analysis.latency import accuracy_by_step, early_stop, operations_by_step, stopping_steps


def test_accuracy_after_each_number_of_steps():
    assert accuracy_by_step(measurements()) == [25.0, 50.0, 75.0]


def test_operations_up_to_each_step():
    assert operations_by_step(measurements()) == [3.0, 7.5, 9.0]


def test_images_stop_at_the_first_step_of_enough_confidence():
    m = measurements()
    assert stopping_steps(m.confidences, 0.8).tolist() == [1, 2, 3, 3]
    stop = early_stop(m, 0.8)
    # Images 0, 1 and 2 are right where they stop: after 1, 2 and 3 steps.
    assert stop == (0.8, 75.0, 9 / 4, [1, 1, 2], (3 + (3 + 6) + (3 + 3 + 3) + (3 + 3 + 0)) / 4)


@pytest.mark.parametrize(("confidence", "row", "steps"), [(0.0, 0, 1.0), (1.0, -1, 3.0)])
def test_the_ends_are_the_first_and_the_last_step(confidence, row, steps):
    m = measurements()
    stop = early_stop(m, confidence)
    assert (stop.accuracy, stop.mean_steps) == (accuracy_by_step(m)[row], steps)
    assert stop.operations == operations_by_step(m)[row]


def test_confidence_that_falls_again_does_not_matter():
    assert stopping_steps(torch.tensor([[0.2], [0.9], [0.1]]), 0.9).tolist() == [2]
