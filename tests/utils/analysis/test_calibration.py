import pytest
import torch

from utils.analysis.calibration import expected_calibration_error, reliability


def test_bins_and_error_worked_out_by_hand():
    confidences = torch.tensor([0.05, 0.55, 0.6, 0.95, 1.0], dtype=torch.float64)
    correct = torch.tensor([False, True, False, True, True])
    low, middle, high = reliability(confidences, correct, bins=10)
    assert low == (0.0, 0.1, 1, 0.05, 0.0)
    assert (middle.images, middle.accuracy) == (2, 0.5)
    assert middle.confidence == pytest.approx(0.575)
    assert (high.low, high.high, high.images, high.accuracy) == (0.9, 1.0, 2, 1.0)
    error = (1 * 0.05 + 2 * 0.075 + 2 * 0.025) / 5
    assert expected_calibration_error([low, middle, high]) == pytest.approx(error)


def test_right_as_often_as_confident_is_no_error():
    bins = reliability(torch.full((4,), 0.75), torch.tensor([True, True, True, False]))
    assert expected_calibration_error(bins) == 0
