import pytest

from utils.analysis.svg import Axes, Series, line_plot, ticks


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((71.2, 88.9), [75, 80, 85]),
        ((0, 26.4), [0, 5, 10, 15, 20, 25]),
        ((0, 0.0031), [0, 0.001, 0.002, 0.003]),
    ],
)
def test_ticks_are_round_numbers_within_the_limits(limits, expected):
    assert ticks(limits) == expected


@pytest.mark.parametrize(
    ("T", "expected"), [(2, [1, 2]), (5, [1, 2, 3, 4, 5]), (20, [5, 10, 15, 20]), (1, [1])]
)
def test_whole_ticks_for_timesteps(T, expected):
    assert ticks(Axes((1, T), (0, 1)).x_range, whole=True) == expected


def test_axes_map_the_limits_to_the_edges_of_the_plot():
    axes = Axes((1, 3), (0, 10))
    assert axes.x(1) < axes.x(2) < axes.x(3)
    assert axes.x(2) == (axes.x(1) + axes.x(3)) / 2
    assert axes.y(0) > axes.y(10)


def test_points_have_a_text_to_hover_over():
    series = Series("<s>", [(1, 50.0), (2, 75.0)], text=["first", "second"])
    plot = line_plot([series, series], (1, 2), (40.0, 80.0), "x", "y", 'say "so"')
    assert "<title>second</title>" in plot
    assert "&lt;s&gt;" in plot and "say &quot;so&quot;" in plot
