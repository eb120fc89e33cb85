import re
import sys

import numpy as np
import pytest
from PIL import Image

from tests.full_disk import largest_file
from utils.datasets.digits import load_digits, split_digits
from utils.events.batches import COLLECTIONS
from utils.events.cifar10_dvs import ARCHIVES, CIFAR10DVS
from utils.events.collection import prepare, read_sample
from utils.events.formats.reader import read_events
from utils.events.frame_cache import FrameKind
from utils.events.simulation import simulate
from utils.sample_data import main
from utils.system.errors import UserError


def call(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["sample_data", *map(str, argv)])
    main()


def recordings(root):
    return {file.name: file.read_bytes() for file in sorted(root.rglob("*.aedat"))}


@pytest.fixture
def make(monkeypatch, tmp_path):
    def make(name, *argv):
        root = tmp_path / name
        call(monkeypatch, "dvs", "--path", root, "--recordings", 40, "--workers", 0, *argv)
        return root

    return make


def test_recordings_have_the_layout_of_cifar10_dvs(make):
    samples = CIFAR10DVS().samples(make("data"), FrameKind(10))
    assert [(s.label, s.number) for s in samples] == [(c, k) for c in range(10) for k in range(4)]
    train, test = CIFAR10DVS().split(samples)
    assert len(train) == 30 and len(test) == 10


def test_each_recording_shows_a_digit_of_its_class(make):
    images, labels = load_digits()
    for sample in CIFAR10DVS().samples(make("data"), FrameKind(10))[::7]:
        content = sample.events.read_bytes()
        row = int(re.search(rb"# simulated: digit \d, row (\d+) of digits.npz", content)[1])
        assert labels[row] == sample.label
        expected = simulate(images[row] / 16, np.random.default_rng([0, row]))
        events = read_events(sample.events)
        assert events.description.startswith(f"simulated: digit {sample.label}, row {row} ")
        for field in "txyp":
            np.testing.assert_array_equal(getattr(events, field), getattr(expected, field))


@pytest.mark.parametrize(
    ("dataset", "sizes"),
    [("DVS128Gesture", (30, 10)), ("NMNIST", (30, 10)), ("NCaltech101", (30, 10))],
)
def test_other_layouts_are_read_by_their_loaders(make, dataset, sizes):
    root = make("data", "--dataset", dataset)
    collection = COLLECTIONS[dataset]
    kind = collection.kind(4)
    assert collection.missing(root, kind) == []
    halves = collection.split(collection.samples(root, kind))
    assert tuple(map(len, halves)) == sizes
    for half in halves:
        assert sorted(s.label for s in half) == sorted(list(range(10)) * (len(half) // 10))
    prepare(collection, root, kind, workers=0)
    assert all(read_sample(sample, kind).sum() > 300 for half in halves for sample in half[::9])
    with pytest.raises(UserError, match="already contains recordings or frames"):
        make("data", "--dataset", dataset)


def test_no_digit_is_recorded_twice(make):
    files = make("data").rglob("*.aedat")
    rows = [re.search(rb"row (\d+)", file.read_bytes())[1] for file in files]
    assert len(set(rows)) == 40


def test_the_seed_fixes_the_files(make):
    assert recordings(make("a")) == recordings(make("b")) != recordings(make("c", "--seed", 1))


def test_a_folder_with_recordings_is_not_changed(make):
    before = recordings(make("data"))
    with pytest.raises(UserError, match="--path .*data: it already contains recordings or frames"):
        make("data", "--seed", 1)
    assert recordings(make("other")) == before


def test_an_interrupted_call_is_repeated(make, tmp_path):
    unfinished = tmp_path / "data" / ".events.partial"
    unfinished.mkdir(parents=True)
    (unfinished / "rest").write_text("")
    assert sorted(f.name for f in make("data").iterdir()) == ["events"]
    assert sorted(f.name for f in (tmp_path / "data" / "events").iterdir()) == list(ARCHIVES)


@pytest.mark.parametrize("argv", [["dvs", "--recordings", "3"], ["dvs", "--seed", "-1"], ["x"], []])
def test_wrong_flags_are_one_line(monkeypatch, argv):
    with pytest.raises(UserError) as error:
        call(monkeypatch, *argv)
    assert "\n" not in str(error.value)


def test_the_image_folder_holds_every_digit_once(monkeypatch, tmp_path):
    root = tmp_path / "digits"
    call(monkeypatch, "imagefolder", "--path", root)
    images, labels = load_digits()
    for half, rows in zip(("train", "val"), split_digits(labels), strict=True):
        files = {int(file.stem): file for file in (root / half).rglob("*.png")}
        assert sorted(files) == sorted(rows)
        assert all(int(file.parent.name) == labels[row] for row, file in files.items())
    with Image.open(files[min(files)]) as image:
        assert (image.mode, image.size) == ("RGB", (64, 64))
    with pytest.raises(UserError, match="it exists already"):
        call(monkeypatch, "imagefolder", "--path", root)


@pytest.mark.parametrize("kind", ["dvs", "imagefolder"])
def test_a_full_disk_is_one_line_and_leaves_nothing(monkeypatch, tmp_path, kind):
    flags = ["--recordings", 20, "--workers", 0] if kind == "dvs" else []
    with largest_file(100), pytest.raises(UserError, match="cannot write .*make room.*--path"):
        call(monkeypatch, kind, "--path", tmp_path / "new", *flags)
    assert [path for path in tmp_path.rglob("*") if path.name != "new"] == []


@pytest.mark.parametrize("kind", ["dvs", "imagefolder"])
def test_a_dangling_link_is_not_followed(monkeypatch, tmp_path, kind):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UserError, match="--path|cannot write"):
        call(monkeypatch, kind, "--path", tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_the_folders_of_simulated_digits_are_explained(make, capsys):
    make("data")
    assert "airplane to truck stand for the digits 0 to 9" in capsys.readouterr().out
