from pathlib import Path

import numpy as np
import pytest

from utils.monitoring.comparison_plot import draw
from utils.monitoring.run_logs import Group, RunLog


def _group(label, *accuracies):
    rows = [[[0.1, 2.0, 2.1, a / 2, a] for a in run] for run in accuracies]
    return Group(label, [RunLog(Path(f"{k}.txt"), r, {}) for k, r in enumerate(rows)])


def test_mean_and_band_of_one_standard_deviation():
    figure = draw([_group("three seeds", [10, 20], [20, 40], [30, 60])])
    _, accuracy = figure.axes
    trained, tested = accuracy.get_lines()
    np.testing.assert_allclose(tested.get_ydata(), [20, 40])
    np.testing.assert_allclose(trained.get_ydata(), [10, 20])
    np.testing.assert_array_equal(tested.get_xdata(), [1, 2])
    (band,) = accuracy.collections
    heights = {(x, y) for x, y in band.get_paths()[0].vertices}
    assert {(1, 10), (1, 30), (2, 20), (2, 60)} <= heights


def test_a_single_run_has_no_band_and_all_groups_are_told_apart():
    figure = draw([_group(f"$group_{k}", [k, k + 1.0]) for k in range(9)])
    _, accuracy = figure.axes
    assert not accuracy.collections
    styles = {(line.get_color(), line.get_linestyle()) for line in accuracy.get_lines()}
    assert len(styles) == 9
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][8] == r"\$group_8 (n = 1)"


def test_groups_of_other_lengths_and_of_one_epoch_are_drawn(tmp_path):
    for lengths in ((1,), (1, 3), (2, 40)):
        figure = draw([_group(str(n), [1.0] * n, [2.0] * n) for n in lengths])
        figure.savefig(tmp_path / "x.png")


@pytest.mark.filterwarnings("error")
def test_an_infinite_loss_leaves_a_gap(tmp_path):
    group = _group("diverged", [10, 20])
    group.runs[0].rows[1][2] = float("inf")
    figure = draw([group])
    assert np.isnan(figure.axes[0].get_lines()[1].get_ydata()[1])
    figure.savefig(tmp_path / "x.svg")
