import os
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.utils.events.recordings import make_events
from utils.events import frame_cache
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.frame_cache import (
    Clip,
    DamagedFrames,
    FrameKind,
    convert_all,
    read_frames,
    write_frames,
)
from utils.events.frames import normalize, to_frames
from utils.system.errors import UserError

KIND = FrameKind(4)
FRAMES = to_frames(make_events(), 4)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cifar10_cat_0.npz"


@pytest.fixture
def jobs(tmp_path):
    """Six recordings and their cache files; one has timestamps that step backwards."""
    clips = []
    for k in range(6):
        events = make_events(200, k)
        if k == 3:
            events.t[:] = events.t[::-1].copy()
        recording = tmp_path / f"{k}.aedat"
        recording.write_bytes(encode_aedat2(events))
        clips.append(Clip(recording, tmp_path / "cache" / f"{k}.npz"))
    return clips


def test_the_folder_has_the_published_name():
    assert KIND.folder == "frames_num_4_split_by_number_normalization_None"


@pytest.mark.parametrize("most, dtype", [(255, "uint8"), (256, "uint16"), (70_000, "uint32")])
def test_counts_are_kept_in_the_smallest_integers(path, most, dtype):
    frames = FRAMES.copy()
    frames[1, 0, 5, 7] = most
    write_frames(path, frames)
    read = read_frames(path, KIND)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, frames)


def test_published_caches_are_read_as_they_are(path):
    np.savez_compressed(path, FRAMES.astype(np.float64))
    before = path.read_bytes()
    np.testing.assert_array_equal(read_frames(path, KIND), FRAMES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["max", "sum", "norm"])
def test_frames_are_normalised_when_read(path, name):
    write_frames(path, FRAMES)
    np.testing.assert_array_equal(
        read_frames(path, FrameKind(4, normalization=name)), normalize(FRAMES, name)
    )


def test_frequency_is_applied_during_conversion(jobs):
    kind = FrameKind(4, normalization="frequency")
    convert_all(jobs[:1], kind, workers=0)
    expected = to_frames(make_events(200, 0), 4, "number", "frequency")
    np.testing.assert_array_equal(read_frames(jobs[0][1], kind), expected)


def test_equal_frames_give_equal_bytes(path):
    write_frames(path, FRAMES)
    first = path.read_bytes()
    os.utime(path, (0, 0))
    write_frames(path, FRAMES)
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        [member] = archive.infolist()
    assert member.date_time == (1980, 1, 1, 0, 0, 0) and member.filename == "arr_0.npy"


@given(st.data())
def test_all_damage_is_detected(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cache") / "frames.npz"
    write_frames(path, FRAMES)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "byte")] ^= data.draw(
            st.integers(1, 255), "flip"
        )
    path.write_bytes(content)
    try:
        read = read_frames(path, KIND)
    except DamagedFrames:
        return
    np.testing.assert_array_equal(read, FRAMES)  # the byte does not matter


@pytest.mark.parametrize(
    "arrays",
    [
        {"other": FRAMES},
        {"arr_0": FRAMES[:3]},
        {"arr_0": FRAMES.astype("U4")},
        {"arr_0": np.array([None])},
    ],
)
def test_other_content_is_damage(path, arrays):
    np.savez(path, **arrays)
    with pytest.raises(DamagedFrames, match="cifar10_cat_0.npz"):
        read_frames(path, KIND)


def test_a_missing_file_is_damage(path):
    with pytest.raises(DamagedFrames):
        read_frames(path, KIND)


def test_the_number_of_processes_does_not_change_the_files(jobs, capsys):
    convert_all(jobs, KIND, workers=2)
    together = [clip.frames.read_bytes() for clip in jobs]
    convert_all(jobs, KIND, workers=0)
    assert [clip.frames.read_bytes() for clip in jobs] == together
    out = capsys.readouterr().out
    assert out.count("warning: timestamps step backwards 1") == 2  # one line per conversion
    assert "Converting 6/6" in out


def test_a_bad_recording_is_named_and_converted_frames_are_kept(jobs):
    jobs[4][0].write_bytes(b"#!AER-DAT2.0\r\n123")
    with pytest.raises(UserError, match="4.aedat"):
        convert_all(jobs, KIND, workers=0)
    assert [clip.frames.exists() for clip in jobs] == [True] * 4 + [False] * 2


def test_leftovers_of_a_killed_conversion_are_removed(jobs):
    folder = jobs[0][1].parent
    folder.mkdir()
    (folder / ".0.123.tmp").write_bytes(b"half")
    convert_all(jobs, KIND, workers=0)
    assert sorted(file.name for file in folder.iterdir()) == [f"{k}.npz" for k in range(6)]


def test_a_full_disk_is_one_line_and_leaves_nothing(path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache.np.lib.format, "write_array", refuse)
    with pytest.raises(UserError, match="cannot write .*No space left.*--path"):
        write_frames(path, FRAMES)
    assert list(path.parent.iterdir()) == []


def test_a_pipe_is_damage(path):
    os.mkfifo(path)
    with pytest.raises(DamagedFrames, match="not a regular file"):
        read_frames(path, KIND)


@pytest.mark.parametrize("target", ["nowhere", "file"])
def test_a_folder_that_cannot_be_created_is_one_line(jobs, tmp_path, target):
    (tmp_path / "file").write_text("")
    (tmp_path / "cache").symlink_to(target)
    with pytest.raises(UserError, match="cannot write .*cache .*--path"):
        convert_all(jobs, KIND, workers=0)
