import hashlib
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.utils.events.layouts import atis_bytes, write_n_caltech101, write_n_mnist
from utils.datasets.loader import Batching
from utils.distributed.world import World
from utils.events import archives, saccades
from utils.events.batches import build
from utils.events.collection import prepare, read_sample
from utils.events.saccades import NMNIST, NCaltech101
from utils.system.download import DownloadFailed
from utils.system.errors import UserError

T = 3


def loaders(name, root):
    batching = Batching(4, test_batch=5, workers=0, sync_bn=False, seed=3)
    return build(name, str(root), T, batching, World(torch.device("cpu")))


def test_n_mnist_is_split_by_its_folders(tmp_path):
    write_n_mnist(tmp_path)
    data = loaders("NMNIST", tmp_path)
    assert (data.train.num_samples, data.test.num_samples, data.num_classes) == (20, 20, 10)
    frames, labels = next(iter(data.train))
    assert frames.shape == (4, T, 2, 34, 34) and frames.dtype == torch.float32
    labels = torch.cat([labels for _, labels in data.test])
    assert labels.tolist() == [digit for digit in range(10) for _ in range(2)]


def test_frames_of_n_mnist_are_counts_of_events_by_hand(tmp_path):
    write_n_mnist(tmp_path, per_class=1, n=10)
    rows = [(0, 1, 2, 0), (1, 1, 2, 0), (2, 33, 0, 1), (3, 0, 33, 1), (4, 5, 6, 0), (5, 5, 6, 1)]
    file = tmp_path / "Test" / "0" / "00001.bin"
    file.write_bytes(atis_bytes(rows))
    frames = next(iter(loaders("NMNIST", tmp_path).test))[0][0]
    expected = torch.zeros(T, 2, 34, 34)
    expected[0, 0, 2, 1] = 2
    expected[1, 1, 0, 33] = expected[1, 1, 33, 0] = 1
    expected[2, 0, 6, 5] = expected[2, 1, 6, 5] = 1
    assert torch.equal(frames, expected)


def test_counts_above_a_byte_are_kept(tmp_path):
    write_n_mnist(tmp_path, per_class=1)
    file = tmp_path / "Test" / "3" / "00004.bin"
    file.write_bytes(atis_bytes([(k, 7, 8, 1) for k in range(900)]))
    data = loaders("NMNIST", tmp_path)
    frames = torch.cat([frames for frames, _ in data.test])
    assert frames[3, :, 1, 8, 7].tolist() == [300] * T
    assert frames[[0, 1, 2, 4]].sum() == 4 * 60


def test_n_caltech101_has_the_classes_of_its_folders(tmp_path):
    write_n_caltech101(tmp_path)
    (tmp_path / "Caltech101" / ".DS_Store").write_text("")
    data = loaders("NCaltech101", tmp_path)
    assert data.classes == ("BACKGROUND_Google", "accordion", "yin_yang")
    assert (data.train.num_samples, data.test.num_samples) == (27, 3)
    frames, labels = next(iter(data.test))
    assert frames.shape == (3, T, 2, 48, 48) and labels.tolist() == [0, 1, 2]
    assert frames.sum((1, 2, 3, 4)).tolist() == [60] * 3
    assert (frames[:, :, :, :6] == 0).all() and (frames[:, :, :, 42:] == 0).all()


def test_the_half_of_a_recording_does_not_depend_on_the_other_classes(tmp_path):
    collection = NCaltech101()
    write_n_caltech101(tmp_path / "all", per_class=30)
    write_n_caltech101(tmp_path / "one", classes=["yin_yang"], per_class=30)
    names = []
    for root in (tmp_path / "all", tmp_path / "one"):
        train, test = collection.split(collection.samples(root, collection.kind(T)))
        assert len(train) == 9 * len(test)
        names.append([s.events.name for s in test if s.events.parent.name == "yin_yang"])
    assert names[0] == names[1] == ["image_0011.bin", "image_0015.bin", "image_0020.bin"]


def test_a_file_of_another_sensor_is_named(tmp_path):
    write_n_mnist(tmp_path, per_class=1)
    (tmp_path / "Train" / "2" / "00003.bin").write_bytes(atis_bytes([(0, 34, 0, 0)] * 9))
    with pytest.raises(UserError, match="00003.bin: .*outside of 34 rows"):
        loaders("NMNIST", tmp_path)


def test_damaged_frames_are_converted_again(tmp_path):
    write_n_mnist(tmp_path, per_class=1)
    collection = NMNIST()
    kind = collection.kind(T)
    prepare(collection, tmp_path, kind, workers=0)
    sample = collection.samples(tmp_path, kind)[13]
    before = read_sample(sample, kind)
    sample.frames.write_bytes(b"half")
    np.testing.assert_array_equal(read_sample(sample, kind), before)


def test_too_few_recordings_are_an_error(tmp_path):
    write_n_caltech101(tmp_path / "a", per_class=0)
    (tmp_path / "b" / "Train").mkdir(parents=True)
    (tmp_path / "b" / "Test").mkdir()
    for name, root in (("NCaltech101", "a"), ("NMNIST", "b")):
        with pytest.raises(UserError, match="--path: .*recordings"):
            loaders(name, tmp_path / root)


def zipped(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
        archive.writestr(f"__MACOSX/{folder.name}/0/._00001.bin", b"x")
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_archives_placed_by_hand_are_extracted(tmp_path, monkeypatch):
    write_n_mnist(tmp_path / "made")
    for half, archive in saccades.N_MNIST_ARCHIVES.items():
        md5 = zipped(tmp_path / "made" / half, tmp_path / archive.file)
        monkeypatch.setitem(saccades.N_MNIST_ARCHIVES, half, replace(archive, md5=md5))
    assert loaders("NMNIST", tmp_path).train.num_samples == 20
    files = {f.relative_to(tmp_path / "made") for f in (tmp_path / "made").rglob("*.bin")}
    assert {f.relative_to(tmp_path) for f in tmp_path.glob("T*/*/*.bin")} == files


def test_without_a_network_the_files_to_fetch_are_named(tmp_path, monkeypatch):
    def fail(urls, target, md5):
        raise DownloadFailed(f"{target.name} could not be downloaded (no network)")

    monkeypatch.setattr(archives, "fetch", fail)
    page = "https://www.garrickorchard.com/datasets/n-mnist"
    with pytest.raises(UserError, match=f"--path .*Train.zip from {page}, Test.zip from {page}"):
        loaders("NMNIST", tmp_path)
    page = "https://www.garrickorchard.com/datasets/n-caltech101"
    with pytest.raises(UserError, match=f"no Caltech101/ .*: Caltech101.zip from {page}$"):
        loaders("NCaltech101", tmp_path)
    (tmp_path / "Caltech101.zip").write_bytes(b"half")
    with pytest.raises(UserError, match="Caltech101.zip: its md5 is not .*remove it, get it from"):
        loaders("NCaltech101", tmp_path)
