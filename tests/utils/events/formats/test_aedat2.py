import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden_numbers import load
from tests.utils.events.recordings import make_events
from utils.events.formats.aedat2 import decode_aedat2, encode_aedat2
from utils.events.simulation import simulate

HEADER = b"#!AER-DAT2.0\r\n# a comment\r\n"
FIELDS = ("t", "x", "y", "p")


def body(*pairs):
    return np.array(pairs, ">u4").tobytes()


@pytest.mark.parametrize("case", range(2))
def test_golden_files_decode_to_the_golden_events(case):
    golden = load("aedat")
    events = decode_aedat2(golden[f"{case}.file"].tobytes())
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(events, field), golden[f"{case}.event_{field}"])


def test_address_bits():
    address = 0b1_1010101_0110011_1  # bit 15 marks a special event
    events = decode_aedat2(HEADER + body((address | 1 << 31, 7)))
    assert (events.y[0], events.x[0], events.p[0]) == (0b1010101, 127 - 0b0110011, 0)
    assert events.t[0] == 7


@given(st.integers(1, 50), st.integers(0, 2**31))
def test_encoding_is_the_inverse_of_decoding(n, seed):
    events = make_events(n, seed)
    decoded = decode_aedat2(encode_aedat2(events, ["a line", "another"]))
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(decoded, field), getattr(events, field))


def test_a_body_that_starts_with_the_byte_of_a_comment_is_not_header():
    events = decode_aedat2(HEADER + body((0x23 << 24 | 5, 10), (6, 2**31 + 1)))
    assert events.t.tolist() == [10, 2**31 + 1]


def test_the_end_mark_ends_the_header():
    content = HEADER + b"#End Of ASCII Header\r\n" + b"# \r\n" * 2
    assert len(decode_aedat2(content)) == 1


def times(*values):
    return decode_aedat2(HEADER + body(*((0, value) for value in values))).t.tolist()


def test_timestamps_are_unsigned():
    assert times(2**31 - 1, 2**31, 2**32 - 1) == [2**31 - 1, 2**31, 2**32 - 1]


def test_timestamps_continue_after_an_overflow():
    assert times(2**32 - 2, 3, 5) == [2**32 - 2, 2**32 + 3, 2**32 + 5]


def test_a_late_event_from_before_the_overflow_is_placed_there():
    assert times(2**32 - 5, 2, 2**32 - 1, 4) == [2**32 - 5, 2**32 + 2, 2**32 - 1, 2**32 + 4]


def test_a_long_pause_is_not_an_overflow():
    assert times(0, 3 * 2**30, 5) == [0, 3 * 2**30, 2**32 + 5]


def test_small_steps_backwards_are_kept_and_counted():
    events = decode_aedat2(HEADER + body((0, 100), (0, 90), (0, 95), (0, 94)))
    assert events.t.tolist() == [100, 90, 95, 94]
    assert events.backward_steps == 2


@given(st.lists(st.integers(0, 2**30), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_unwrapping_recovers_any_increasing_time(steps, start):
    true = start + np.cumsum(steps)
    wrapped = decode_aedat2(HEADER + body(*((0, t % 2**32) for t in true))).t
    np.testing.assert_array_equal(wrapped - wrapped[0], true - true[0])


@pytest.mark.parametrize("chip", ["ch.unizh.ini.jaer.chip.retina.DVS128", "DVS128HSRetina"])
def test_the_camera_may_be_named(chip):
    assert len(decode_aedat2(HEADER + f"# AEChip: {chip}\r\n".encode() + bytes(8))) == 1


def test_another_public_reader_reads_simulated_recordings(tmp_path):
    """Compare with tonic; only its reader is loaded, since its audio part is slow to import."""
    spec = importlib.util.find_spec("tonic")
    if spec is None:
        pytest.skip("tonic is not installed (pip install --no-deps tonic)")
    source = Path(spec.submodule_search_locations[0]) / "io.py"
    spec = importlib.util.spec_from_file_location("tonic_io", source)
    reader = sys.modules["tonic_io"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    events = simulate(np.eye(8), np.random.default_rng(0))
    path = tmp_path / "recording.aedat"
    path.write_bytes(encode_aedat2(events, ["a comment"]))
    version, start, *_ = reader.read_aedat_header_from_file(str(path))
    theirs = reader.get_aer_events_from_file(str(path), version, start)
    address = theirs["address"]
    np.testing.assert_array_equal(theirs["timeStamp"], events.t)
    np.testing.assert_array_equal(address >> 8 & 0x7F, events.y)  # tonic calls it x
    np.testing.assert_array_equal(127 - (address >> 1 & 0x7F), events.x)
    np.testing.assert_array_equal(1 - (address & 1), events.p)


def test_the_description_of_a_simulation_is_read():
    events = make_events()
    decoded = decode_aedat2(encode_aedat2(events, ["a comment", "simulated: digit 3"]))
    assert decoded.description == "simulated: digit 3"
    assert decode_aedat2(encode_aedat2(events, ["a comment"])).description == ""
