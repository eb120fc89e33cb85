import numpy as np
import pytest

from utils.datasets.digits import load_digits
from utils.events.frames import count_events
from utils.events.simulation import Camera, simulate

QUIET = Camera(noise_rate=0, mismatch=0)
EDGE = np.pad(np.ones((4, 4)), 2)  # a bright square


def whole(events):
    """Return the recording's counts `(2, 128, 128)`: OFF, ON."""
    return count_events(events, np.array([0, len(events)]))[0]


@pytest.fixture(scope="module")
def digits():
    return load_digits()[0] / 16


def test_the_seed_fixes_the_recording(digits):
    one, same, other = (simulate(digits[0], np.random.default_rng(s)) for s in (1, 1, 2))
    for field in "txyp":
        np.testing.assert_array_equal(getattr(one, field), getattr(same, field))
    assert len(one) != len(other) or (one.t != other.t).any()


def test_recordings_look_like_recordings(digits):
    events = simulate(digits[3], np.random.default_rng(0))
    assert 20_000 < len(events) < 60_000
    assert events.backward_steps == 0
    assert events.t[0] >= 0 and 1_000_000 < events.t[-1] <= 1_200_000
    assert max(events.x.max(), events.y.max()) < 128 and set(events.p) == {0, 1}


def test_a_uniform_image_gives_only_noise():
    camera = Camera(noise_rate=0.5)
    events = simulate(np.zeros((8, 8)), np.random.default_rng(0), camera)
    expected = 0.5 * 128**2 * 1.2
    assert abs(len(events) - expected) < 5 * np.sqrt(expected)
    assert len(simulate(np.zeros((8, 8)), np.random.default_rng(0), QUIET)) == 0


def test_events_lie_where_the_image_has_edges():
    counts = whole(simulate(EDGE, np.random.default_rng(0), QUIET)).sum(0)
    rows, columns = np.nonzero(counts)
    assert counts[60:68, 60:68].sum() == 0  # inside the square
    assert min(rows.min(), columns.min()) > 20 and max(rows.max(), columns.max()) < 108


def test_on_a_closed_path_each_pixel_has_as_many_on_as_off_events():
    off, on = whole(simulate(EDGE, np.random.default_rng(0), QUIET)).astype(int)
    assert np.abs(on - off).max() <= 2  # the first and the last event of a pixel are not paired
    assert on.max() >= 5


def test_the_event_rate_has_no_peak(digits):
    """All pixels firing together as the path closes would show in the event rate."""
    events = simulate(digits[3], np.random.default_rng(0))
    rate, _ = np.histogram(events.t, 100)
    assert rate.max() < 3 * np.median(rate)


def test_events_of_a_pixel_are_a_threshold_apart():
    """Between two events of one polarity the log intensity has changed by the threshold."""
    fine, coarse = (
        len(simulate(EDGE, np.random.default_rng(0), Camera(noise_rate=0, threshold=threshold)))
        for threshold in (0.125, 0.25)
    )
    assert 1.7 < fine / coarse < 2.3


def test_the_step_of_the_simulation_hardly_changes_the_number_of_events():
    coarse, fine = (
        len(simulate(EDGE, np.random.default_rng(0), Camera(noise_rate=0, steps=steps)))
        for steps in (64, 256)
    )
    assert abs(fine / coarse - 1) < 0.05


def test_the_image_stands_upright():
    image = np.zeros((8, 8))
    image[1, 2] = 1  # above and left of the centre
    rows, columns = np.nonzero(whole(simulate(image, np.random.default_rng(0), QUIET)).sum(0))
    assert rows.mean() < 50 and columns.mean() < 60
