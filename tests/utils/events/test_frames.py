import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden_numbers import load
from tests.utils.events.recordings import make_events
from utils.events.formats.aedat2 import decode_aedat2
from utils.events.frames import normalize, to_frames
from utils.events.recording import Events
from utils.system.errors import UserError

recordings = st.builds(make_events, st.integers(20, 200), st.integers(0, 999), st.just(10_000))


def events_at(*times):
    zeros = np.zeros(len(times), np.uint8)
    return Events(np.array(times), zeros, zeros, zeros)


def naive_number(events, T):
    frames = np.zeros((T, 2, 128, 128), int)
    for i in range(len(events)):
        j = min(i // (len(events) // T), T - 1)
        frames[j, events.p[i], events.y[i], events.x[i]] += 1
    return frames


def naive_time(events, T):
    frames = np.zeros((T, 2, 128, 128), int)
    length = int(events.t[-1] - events.t[0]) // T
    for i in range(len(events)):
        j = min(int(events.t[i] - events.t[0]) // length, T - 1)
        frames[j, events.p[i], events.y[i], events.x[i]] += 1
    return frames


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("split_by, T", [("number", 10), ("number", 20), ("time", 10)])
def test_golden_frames(case, split_by, T):
    golden = load("aedat")
    events = decode_aedat2(golden[f"{case}.file"].tobytes())
    np.testing.assert_array_equal(
        to_frames(events, T, split_by), golden[f"{case}.frames_{split_by}_{T}"]
    )


@given(recordings, st.integers(1, 20))
def test_frames_by_number_equal_those_of_a_loop(events, T):
    np.testing.assert_array_equal(to_frames(events, T), naive_number(events, T))


@given(recordings, st.integers(1, 6))
def test_frames_by_time_equal_those_of_a_loop(events, T):
    expected = naive_time(events, T)
    if expected.sum((1, 2, 3)).all():
        np.testing.assert_array_equal(to_frames(events, T, "time"), expected)
    else:
        with pytest.raises(UserError, match="no event in segment"):
            to_frames(events, T, "time")


def test_fewer_events_than_frames_are_an_error():
    events = make_events(3)
    for split_by in ("number", "time"):
        with pytest.raises(UserError, match="3 events for 4 frames"):
            to_frames(events, 4, split_by)


def test_an_empty_segment_by_time_is_an_error():
    with pytest.raises(UserError, match="events: no event in segment 2 of 3"):
        to_frames(events_at(0, 1, 2, 90), 3, "time")


def test_decreasing_timestamps_are_accepted_only_by_number():
    events = events_at(5, 3, 9, 20)
    assert to_frames(events, 2).sum() == 4
    with pytest.raises(UserError, match="1 timestamps step backwards"):
        to_frames(events, 2, "time")


@pytest.mark.parametrize("wrong", [{"split_by": "size"}, {"normalization": "mean"}])
def test_unknown_arguments_are_errors(wrong):
    with pytest.raises(ValueError, match="unknown"):
        to_frames(make_events(), 4, **wrong)


def test_frequency_by_number_divides_by_the_time_to_the_next_segment():
    frames = to_frames(events_at(0, 2, 10, 11, 40, 45, 60), 3, "number", "frequency")
    np.testing.assert_allclose(frames[:, 0, 0, 0], [2 / 10, 2 / 30, 3 / 20], rtol=1e-15)


def test_frequency_by_time_adds_the_remainder_to_the_last_segment():
    frames = to_frames(events_at(0, 2, 10, 11, 20, 32), 3, "time", "frequency")
    np.testing.assert_allclose(frames[:, 0, 0, 0], [2 / 10, 2 / 10, 2 / 12], rtol=1e-15)


def test_frequency_uses_durations_of_at_least_a_microsecond():
    frames = to_frames(events_at(7, 7, 7, 7), 2, "number", "frequency")
    assert frames[:, 0, 0, 0].tolist() == [2, 2]


@given(st.integers(0, 99))
def test_normalisations_are_per_frame_and_polarity(seed):
    frames = np.random.default_rng(seed).poisson(0.5, (3, 2, 16, 16))
    for j in range(3):
        for p in range(2):
            one = frames[j, p].astype(float)
            expected = {
                "max": one / one.max(),
                "sum": one / one.sum(),
                "norm": (one - one.mean()) / np.sqrt(((one - one.mean()) ** 2).sum() / 255),
            }
            for name, value in expected.items():
                np.testing.assert_allclose(normalize(frames, name)[j, p], value, rtol=1e-12)


@pytest.mark.parametrize("name", ["max", "sum", "norm"])
def test_an_empty_polarity_stays_zero(name):
    assert not normalize(np.zeros((1, 2, 4, 4), int), name).any()


def test_without_normalization_counts_are_unchanged():
    frames = to_frames(make_events(), 4)
    assert normalize(frames, None) is frames and frames.dtype.kind == "i"
