import hashlib
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.utils.events.layouts import AEDAT3_HEADER, aedat3_packet, write_gesture
from utils.datasets.loader import Batching
from utils.distributed.world import World
from utils.events import archives, dvs_gesture
from utils.events.batches import build
from utils.events.collection import prepare, read_sample
from utils.events.dvs_gesture import DVS128Gesture
from utils.system.errors import UserError

T = 3
COLLECTION = DVS128Gesture()
KIND = COLLECTION.kind(T)


@pytest.fixture
def root(tmp_path):
    write_gesture(tmp_path)
    return tmp_path


def loaders(root):
    batching = Batching(4, test_batch=11, workers=0, sync_bn=False, seed=3)
    return build("DVS128Gesture", str(root), T, batching, World(torch.device("cpu")))


def test_gestures_are_cut_by_their_times_and_split_by_the_lists(root):
    data = loaders(root)
    assert (data.train.num_samples, data.test.num_samples, data.num_classes) == (22, 11, 11)
    frames, labels = next(iter(data.test))
    assert frames.shape == (11, T, 2, 48, 48) and labels.tolist() == list(range(11))
    cache = root / KIND.folder
    assert (cache / "train" / "4" / "user01_led_4.npz").is_file()
    assert len(list(cache.rglob("*.npz"))) == 33


def test_frames_are_counts_of_events_by_hand(tmp_path):
    write_gesture(tmp_path, users=(("user01", "train"), ("user24", "test")))
    folder = tmp_path / "DvsGesture"
    rows = [
        (9, 0, 0, 0),
        (10, 1, 2, 0),
        (11, 1, 2, 0),
        (12, 127, 0, 1),
        (13, 3, 4, 1),
        (19, 3, 4, 1),
    ]
    rows += [(19, 5, 5, 0), (20, 9, 9, 1)]  # the first and the last are outside
    (folder / "user24_led.aedat").write_bytes(AEDAT3_HEADER + aedat3_packet(rows))
    (folder / "user24_led_labels.csv").write_text(f"{dvs_gesture.HEADER}\r\n8,10,20\r\n")
    prepare(COLLECTION, tmp_path, KIND, workers=0)
    *_, sample = COLLECTION.samples(tmp_path, KIND)
    expected = np.zeros((T, 2, 128, 128), int)
    expected[0, 0, 2, 1] = 2
    expected[1, 1, 0, 127] = expected[1, 1, 4, 3] = 1
    expected[2, 1, 4, 3] = expected[2, 0, 5, 5] = 1
    assert (sample.label, sample.half) == (7, "test")
    np.testing.assert_array_equal(read_sample(sample, KIND), expected)


def test_an_interrupted_conversion_continues(root):
    prepare(COLLECTION, root, KIND, workers=0)
    files = sorted((root / KIND.folder).rglob("*.npz"))
    before = [file.read_bytes() for file in files]
    for file in files[3:20]:
        file.unlink()
    kept = files[0].stat().st_mtime_ns
    prepare(COLLECTION, root, KIND, workers=2)
    assert [file.read_bytes() for file in files] == before
    assert files[0].stat().st_mtime_ns == kept


FAULTS = {  # file: content, what is said
    "no header": ("user01_led_labels.csv", b"1,2,3\n", "first line is not class,"),
    "empty": ("user01_led_labels.csv", b"", "first line is not class,"),
    "class 12": ("user01_led_labels.csv", b"12,1,5\n", "line 2 is not"),
    "end before start": ("user01_led_labels.csv", b"1,5,5\n", "line 2 is not"),
    "words": ("user01_led_labels.csv", b"1,5,\x1b[2Jx\n", "line 2 is not"),
    "not text": ("user01_led_labels.csv", b"\xff\xfe", "not a text file"),
    "many": ("user01_led_labels.csv", b"1,5,9\n" * 1001, "1001 gestures"),
    "a path": ("trials_to_train.txt", b"../user01_led.aedat\n", "line 1 is not the name"),
    "missing": ("trials_to_train.txt", b"\nuser09_led.aedat\n", "user09_led.aedat, which is not"),
    "no trials": ("trials_to_train.txt", b"", "no gestures in DvsGesture/"),
    "few events": ("user01_led_labels.csv", b"1,0,5\n", "user01_led.aedat, 0 to 5 us: 0 events"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(root, fault):
    name, content, said = FAULTS[fault]
    if name.endswith("csv") and fault not in ("no header", "empty", "not text"):
        content = f"{dvs_gesture.HEADER}\n".encode() + content
    (root / "DvsGesture" / name).write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        loaders(root)
    assert "\n" not in str(error.value)
    assert name.partition("_labels")[0] in str(error.value) or fault == "no trials"


def test_a_missing_file_of_labels_is_named(root):
    (root / "DvsGesture" / "user01_led_labels.csv").unlink()
    with pytest.raises(UserError, match="user01_led_labels.csv: cannot be read"):
        loaders(root)


def tarred(root, file, *members):
    with tarfile.open(file, "w:gz") as archive:
        archive.add(root / "DvsGesture", "DvsGesture")
        for member in members:
            archive.addfile(member)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Write an archive as if it was placed by hand, with these members as well."""

    def give(*members, change=lambda content: content):
        write_gesture(tmp_path / "made")
        file = tmp_path / "data" / "DvsGesture.tar.gz"
        file.parent.mkdir()
        tarred(tmp_path / "made", file, *members)
        file.write_bytes(change(file.read_bytes()))
        md5 = hashlib.md5(file.read_bytes()).hexdigest()
        monkeypatch.setattr(dvs_gesture, "ARCHIVE", replace(dvs_gesture.ARCHIVE, md5=md5))
        return file.parent

    return give


def test_an_archive_placed_by_hand_is_extracted(given):
    root = given()
    assert loaders(root).train.num_samples == 22
    assert len(list((root / "DvsGesture").iterdir())) == 8


def member(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("DvsGesture/../../x.aedat")], "outside of its folder"),
        ([member("/etc/x.aedat")], "outside of its folder"),
        ([member("DvsGesture/x.aedat", tarfile.SYMTYPE)], "is a link"),
        ([member("DvsGesture/x.aedat", tarfile.LNKTYPE)], "is a link"),
        ([member("DvsGesture/user01_led.aedat")], "two recordings"),
    ],
)
def test_an_unsafe_archive_leaves_nothing(given, members, said):
    root = given(*members)
    with pytest.raises(UserError, match=f"DvsGesture.tar.gz: .*{said}"):
        loaders(root)
    assert sorted(path.name for path in root.iterdir()) == ["DvsGesture.tar.gz"]


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_leaves_nothing(given, share):
    root = given(change=lambda content: content[: int(share * len(content))])
    with pytest.raises(UserError, match="DvsGesture.tar.gz: damaged") as error:
        loaders(root)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in root.iterdir()) == ["DvsGesture.tar.gz"]


def test_a_large_member_is_refused(tmp_path):
    """A header alone, of a member of a terabyte, is refused before anything is read."""
    file = tmp_path / "DvsGesture.tar"
    file.write_bytes(member("DvsGesture/x.aedat", size=10**12).tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(UserError, match="100 times as large"):
        archives.extract(file, tmp_path / "DvsGesture", dvs_gesture.ARCHIVE.members)


def test_the_file_to_fetch_is_named(tmp_path):
    with pytest.raises(
        UserError, match="--path .*by hand .*: DvsGesture.tar.gz from https://ibm.*"
    ):
        loaders(tmp_path)
