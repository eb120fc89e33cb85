import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.utils.events.layouts import atis_bytes, random_rows
from utils.events.formats.atis import decode_atis, encode_atis
from utils.events.formats.reader import read_events
from utils.events.frames import to_frames
from utils.system.errors import UserError


def rows(events):
    fields = events.t, events.x, events.y, events.p
    return [tuple(map(int, row)) for row in zip(*fields, strict=True)]


def test_bits_of_an_event():
    content = bytes([0x21, 0x0A, 0b1000_0001, 0x02, 0x03])
    assert rows(decode_atis(content)) == [(0x10203, 33, 10, 1)]


@given(st.integers(1, 60), st.integers(0, 99))
def test_files_written_byte_by_byte_are_read(n, seed):
    written = random_rows(np.random.default_rng(seed), n, 180)
    events = decode_atis(atis_bytes(written), sensor=(180, 240))
    assert rows(events) == written and events.sensor == (180, 240)
    assert encode_atis(events) == atis_bytes(written)


def test_a_row_of_240_advances_time_and_is_no_event():
    content = atis_bytes(
        [(8000, 1, 2, 0), (5, 0, 240, 0), (7, 3, 4, 1), (0, 0, 240, 0), (1, 5, 6, 0)]
    )
    assert rows(decode_atis(content)) == [(8000, 1, 2, 0), (8199, 3, 4, 1), (16385, 5, 6, 0)]


def test_timestamps_continue_after_23_bits():
    events = decode_atis(atis_bytes([(2**23 - 1, 0, 0, 0), (2, 0, 0, 0)]))
    assert events.t.tolist() == [2**23 - 1, 2**23 + 2]


def test_the_sensor_is_the_smaller_one_that_fits():
    assert decode_atis(atis_bytes([(0, 33, 33, 0)])).sensor == (34, 34)
    assert decode_atis(atis_bytes([(0, 34, 0, 0)])).sensor == (180, 240)


def test_another_public_reader_agrees(tmp_path):
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    path = tmp_path / "00001.bin"
    path.write_bytes(atis_bytes(random_rows(np.random.default_rng(1), 500, 34)))
    theirs, events = utils.load_ATIS_bin(path), read_events(path)
    for field in "txyp":
        np.testing.assert_array_equal(theirs[field], getattr(events, field))


def test_bins_count_the_events_of_5x5_pixels_of_the_centred_sensor():
    """Rows 0 and 179 are rows 30 and 209 of the square of 240, so rows 6 and 41 of its bins."""
    content = atis_bytes([(0, 0, 0, 1), (1, 4, 4, 1), (2, 5, 0, 1), (3, 239, 179, 0)])
    frames = to_frames(decode_atis(content, sensor=(180, 240)).binned(5), 1)
    assert frames.shape == (1, 2, 48, 48) and frames.sum() == 4
    assert (frames[0, 1, 6, 0], frames[0, 1, 6, 1], frames[0, 0, 41, 47]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("content", "sensor", "said"),
    [
        (bytes(7), None, "truncated, its 7 bytes"),
        (atis_bytes([(0, 0, 240, 0)]), None, "no events"),
        (atis_bytes([(0, 0, 200, 0)]), None, "row 200 .*outside of 180 rows and 240 columns"),
        (atis_bytes([(0, 34, 0, 0)]), (34, 34), "column 34, outside of 34 rows"),
    ],
)
def test_faults_are_named(content, sensor, said):
    with pytest.raises(UserError, match=f"file.bin: .*{said}"):
        decode_atis(content, "file.bin", sensor)


def test_an_empty_file_and_another_format_are_named(tmp_path):
    for content, said in ((b"", "empty"), (b"#!AER-DAT2.0\r\n" + bytes(8), "128x128 .* 34x34")):
        (tmp_path / "1.bin").write_bytes(content)
        with pytest.raises(UserError, match=f"1.bin: .*{said}"):
            read_events(tmp_path / "1.bin", (34, 34))
