import pytest

from tests.utils.events.recordings import write_collection
from utils.events.cifar10_dvs import ARCHIVES, CIFAR10DVS, CLASSES
from utils.events.frame_cache import FrameKind
from utils.system.errors import UserError

KIND = FrameKind(4)
COLLECTION = CIFAR10DVS()


def test_other_files_are_not_samples(tmp_path):
    write_collection(tmp_path, CLASSES, per_class=2, n=10)
    folder = tmp_path / "events" / "cat"
    for name in ("cifar10_dog_7.aedat", "cifar10_cat_x.aedat", "notes.txt", "cifar10_cat_5.npz~"):
        (folder / name).write_text("")
    (folder / "cifar10_cat_1.aedat").rename(folder / "cifar10_cat_10.aedat4")
    cats = [s.number for s in COLLECTION.samples(tmp_path, KIND) if CLASSES[s.label] == "cat"]
    assert cats == [0, 10]


def test_the_split_is_by_class_and_number(tmp_path):
    for number in range(1000):
        (tmp_path / "events" / "cat").mkdir(parents=True, exist_ok=True)
        (tmp_path / "events" / "cat" / f"cifar10_cat_{number}.aedat").touch()
    train, test = COLLECTION.split(COLLECTION.samples(tmp_path, KIND))
    assert [sample.number for sample in train] == list(range(900))
    assert [sample.number for sample in test] == list(range(900, 1000))


def test_the_split_uses_the_existing_numbers(tmp_path):
    write_collection(tmp_path, CLASSES[:2], per_class=30)
    for number in range(0, 30, 3):
        (tmp_path / "events" / "airplane" / f"cifar10_airplane_{number}.aedat").unlink()
    train, test = COLLECTION.split(COLLECTION.samples(tmp_path, KIND))
    assert [(s.label, s.number) for s in test] == [(0, 28), (0, 29)] + [
        (1, k) for k in (27, 28, 29)
    ]
    assert len(train) == 18 + 27


def test_too_few_recordings_for_a_split_are_an_error(tmp_path):
    write_collection(tmp_path, CLASSES, per_class=1)
    with pytest.raises(UserError, match="too few"):
        COLLECTION.split(COLLECTION.samples(tmp_path, KIND))


def test_the_ten_classes_are_in_label_order():
    assert list(CLASSES) == sorted(CLASSES) and len(CLASSES) == 10


def test_downloads_try_the_working_address_first():
    assert ARCHIVES["ship"].addresses == (
        "https://api.figshare.com/v2/file/download/7712836",
        "https://ndownloader.figshare.com/files/7712836",
    )
