import os
from pathlib import Path

import numpy as np
import pytest

from tests.golden_numbers import FOLDER, load
from tests.utils.events.recordings import make_events
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.formats.reader import read_events
from utils.events.frames import to_frames
from utils.system.errors import UserError

HEADER = b"#!AER-DAT2.0\r\n# a comment\r\n"
FIELDS = ("t", "x", "y", "p")
CLIPS = sorted(file.stem for file in (FOLDER / "dvs128_frames").glob("*.npz"))


def body(*pairs):
    return np.array(pairs, ">u4").tobytes()


def file_with(tmp_path, content, name="recording.aedat"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("clip", CLIPS)
def test_real_recordings_give_the_golden_frames(clip):
    if "DSR_DVS_CLIPS" not in os.environ:
        pytest.skip("DSR_DVS_CLIPS does not name the folder of the real recordings")
    golden = load(f"dvs128_frames/{clip}")
    events = read_events(next(Path(os.environ["DSR_DVS_CLIPS"]).rglob(f"{clip}.aedat")))
    assert len(events) == golden["num_events"]
    for end, index in (("first", 0), ("last", -1)):
        assert [getattr(events, field)[index] for field in FIELDS] == golden[end].tolist()
    for name, split_by, T in (
        ("number_10", "number", 10),
        ("number_20", "number", 20),
        ("time_10", "time", 10),
    ):
        np.testing.assert_array_equal(to_frames(events, T, split_by), golden[name])


FAULTS = {
    "empty": (b"", "is empty"),
    "no header": (body((1, 2)), "first line"),
    "version 1": (b"#!AER-DAT1.0\r\n" + bytes(6), "AEDAT 1.0"),
    "version 3": (b"#!AER-DAT3.1\r\n" + bytes(28), "AEDAT 3.1"),
    "another camera": (
        HEADER + b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n" + bytes(8),
        "DAVIS240C",
    ),
    "truncated": (HEADER + bytes(13), "truncated, the 13 bytes"),
    "no events": (HEADER, "no events"),
    "an unfinished header": (b"#!AER-DAT2.0\r\n# broken o", "no events"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_file_is_named_with_its_fault(tmp_path, fault):
    content, words = FAULTS[fault]
    path = file_with(tmp_path, content)
    with pytest.raises(UserError, match=words) as error:
        read_events(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.aedat"):
        read_events(tmp_path / "nowhere.aedat")


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.aedat")
    for path in (tmp_path / "pipe.aedat", "/dev/zero", tmp_path):
        with pytest.raises(UserError, match="cannot be read .not a regular file"):
            read_events(path)
    with (tmp_path / "large.aedat").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(UserError, match="large.aedat: cannot be read .*more than"):
        read_events(tmp_path / "large.aedat")


def test_the_header_decides_not_the_file_name(tmp_path):
    path = file_with(tmp_path, encode_aedat2(make_events()), "recording.aedat4")
    assert len(read_events(path)) == 300
