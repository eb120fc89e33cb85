import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.utils.events.recordings import write_collection
from utils.events import collection
from utils.events.cifar10_dvs import CIFAR10DVS, CLASSES
from utils.events.collection import missing_frames, prepare, read_sample
from utils.events.formats.reader import read_events
from utils.events.frame_cache import FrameKind
from utils.events.frames import to_frames
from utils.system.errors import UserError
from utils.system.file_lock import FileLock

ROOT = Path(__file__).resolve().parents[3]
KIND = FrameKind(4)
COLLECTION = CIFAR10DVS()
PREPARE = """
import sys
from pathlib import Path
from utils.events.cifar10_dvs import CIFAR10DVS
from utils.events.collection import prepare
from utils.events.frame_cache import FrameKind
if __name__ == "__main__":
    prepare(CIFAR10DVS(), Path(sys.argv[1]), FrameKind(4), workers=2)
"""


@pytest.fixture
def root(tmp_path):
    write_collection(tmp_path / "data", CLASSES, per_class=2)
    return tmp_path / "data"


def caches(root):
    return {
        file.name: file.read_bytes() for file in (root / KIND.folder).rglob("*") if file.is_file()
    }


def start(script, root):
    script.write_text(PREPARE)
    return subprocess.Popen(
        [sys.executable, script, root],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_recording_gets_its_frames(root):
    prepare(COLLECTION, root, KIND, workers=0)
    samples = COLLECTION.samples(root, KIND)
    assert [(s.label, s.number) for s in samples] == [(c, k) for c in range(10) for k in range(2)]
    for sample in samples:
        expected = to_frames(read_events(sample.events), 4)
        np.testing.assert_array_equal(read_sample(sample, KIND), expected)


def test_existing_frames_are_not_converted_again(root):
    prepare(COLLECTION, root, KIND, workers=0)
    kept, missing = COLLECTION.samples(root, KIND)[:2]
    os.utime(kept.frames, (1, 1))
    missing.frames.unlink()
    prepare(COLLECTION, root, KIND, workers=0)
    assert kept.frames.stat().st_mtime == 1 and missing.frames.exists()


def test_a_complete_folder_may_be_read_only(root, monkeypatch):
    prepare(COLLECTION, root, KIND, workers=0)
    monkeypatch.setattr(collection, "FileLock", None)
    prepare(COLLECTION, root, KIND, workers=0)


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--path .*file: cannot be written"):
        prepare(COLLECTION, tmp_path / "file", KIND, workers=0)


def test_caches_without_recordings_are_enough(root):
    prepare(COLLECTION, root, KIND, workers=0)
    (root / "events").rename(root / "elsewhere")
    prepare(COLLECTION, root, KIND, workers=0)
    samples = COLLECTION.samples(root, KIND)
    assert len(samples) == 20 and all(sample.events is None for sample in samples)


def test_missing_classes_are_downloaded(root, monkeypatch):
    (root / "events" / "ship").rename(root / "kept")
    requested = []

    def obtain(archives, folder):
        requested.extend(archive.file for archive in archives)
        for archive in archives:
            (folder / "kept").rename(folder / archive.folder)

    monkeypatch.setattr(collection, "obtain", obtain)
    prepare(COLLECTION, root, KIND, workers=0)
    assert requested == ["ship.zip"]
    assert len(caches(root)) == 20


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file"])
def test_damaged_frames_are_converted_again(root, damage, capsys):
    prepare(COLLECTION, root, KIND, workers=0)
    before = caches(root)
    sample = COLLECTION.samples(root, KIND)[7]
    sample.frames.write_bytes(damage)
    expected = to_frames(read_events(sample.events), 4)
    np.testing.assert_array_equal(read_sample(sample, KIND), expected)
    assert caches(root) == before
    assert f"{sample.frames} is damaged" in capsys.readouterr().out


def test_damaged_frames_without_a_recording_are_named(root):
    prepare(COLLECTION, root, KIND, workers=0)
    (root / "events").rename(root / "elsewhere")
    sample = COLLECTION.samples(root, KIND)[7]
    sample.frames.write_bytes(b"")
    with pytest.raises(UserError, match=f"{sample.frames.name}.*no recording"):
        read_sample(sample, KIND)


def test_a_second_process_waits_and_converts_nothing(root, tmp_path):
    lock = FileLock(root / ".lock")
    lock.acquire()
    second = start(tmp_path / "second.py", root)
    assert second.stdout.readline().startswith(f"process {os.getpid()} on ")
    prepare_under_the_held_lock(root)
    before = caches(root)
    lock.release()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and "Converting" not in out
    assert caches(root) == before and len(before) == 20


def prepare_under_the_held_lock(root):
    collection.convert_all(missing_frames(COLLECTION, root, KIND), KIND, workers=0)


def test_two_processes_at_once_leave_the_same_caches_as_one(root, tmp_path):
    both = [start(tmp_path / f"{i}.py", root) for i in range(2)]
    outs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("Converting" in out for out in outs) == 1
    parallel = caches(root)
    for file in (root / KIND.folder).rglob("*.npz"):
        file.unlink()
    prepare(COLLECTION, root, KIND, workers=0)
    assert caches(root) == parallel


def test_killed_conversions_end_in_the_same_caches(tmp_path):
    root = tmp_path / "data"
    write_collection(root, CLASSES, per_class=30, n=3000)
    rng = np.random.default_rng(0)
    for _ in range(8):
        process = start(tmp_path / "killed.py", root)
        seen = len(caches_written(root))
        while len(caches_written(root)) == seen and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()  # not for its workers, which may still run when the next one starts
        process.stdout.close()
    killed_at = len(caches_written(root))
    last = start(tmp_path / "last.py", root)
    last.communicate(timeout=60)
    assert last.returncode == 0
    interrupted = caches(root)
    assert killed_at < len(interrupted) == len(COLLECTION.samples(root, KIND))
    for file in (root / KIND.folder).rglob("*.npz"):
        file.unlink()
    prepare(COLLECTION, root, KIND, workers=0)
    assert caches(root) == interrupted


def caches_written(root):
    return list((root / KIND.folder).glob("*/*.npz"))
