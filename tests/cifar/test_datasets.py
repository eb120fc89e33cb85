import hashlib
import pickle
from argparse import Namespace
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from cifar.datasets import build_data, known_datasets
from utils.datasets.digits import EMBEDDED
from utils.datasets.loader import Batching
from utils.system.errors import UserError


class OneOf:
    """Stands in for one process of `size`."""

    device = torch.device("cpu")

    def __init__(self, rank=0, size=1):
        self.rank, self.size, self.is_main = rank, size, rank == 0
        self.waits = 0

    def print_main(self, line):
        print(line)

    def run_on_main_first(self, work):
        self.waits += 1
        if self.is_main:
            work()


def load(dataset="digits", path="nowhere", world=None, batch=128, val_split=0.0, **changes):
    """Return the data set as the loaders of one process."""
    values = {"timesteps": 4, "mean": None, "std": None, "given": frozenset(), **changes}
    batching = Batching(batch, 50, workers=2, sync_bn=False, seed=1, val_split=val_split)
    args = Namespace(dataset=dataset, path=str(path), **values)
    return build_data(args, batching, world or OneOf())


def labels_of(loader):
    return [label for _, labels in loader for label in labels.tolist()]


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A CIFAR-10 of 50 + 10 random images in the genuine format, passing torchvision's check."""
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name):
        pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
        return write(name, {"data": pixels, "labels": list(range(10))})

    train = [batch(f"data_batch_{k}") for k in range(1, 6)]
    name, md5 = write("batches.meta", {"label_names": list("abcdefghij")})
    meta = {"filename": name, "key": "label_names", "md5": md5}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [batch("test_batch")])
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    """No network: every request fails as it does without one."""

    def refuse(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    monkeypatch.setattr("urllib.request.urlretrieve", refuse)


def test_digits_are_ready_without_any_preparation():
    data = load()
    assert (data.name, data.num_classes, data.in_channels) == ("digits", 10, 3)
    assert (data.train.num_samples, data.test.num_samples) == (1438, 359)
    assert (len(data.train), len(data.test)) == (12, 8)
    assert "1,438 training and 359 test images" in data.description
    images = torch.cat([images for images, _ in data.test])
    assert abs(images.mean()) < 0.05 and abs(images.std() - 1) < 0.05


def test_validation_images_are_training_images_that_are_never_trained_on():
    whole, data = load(), load(val_split=0.1)
    assert "1,294 training, 144 validation (held out) and 359 test images" in data.description
    parts = [part.data for part in (data.train, data.validation)]
    rows = [tensor.numpy().tobytes() for part in parts for tensor in part.images]
    assert sorted(rows) == sorted(tensor.numpy().tobytes() for tensor in whole.train.data.images)
    classes = whole.train.data.labels.bincount() * 0.1
    assert (parts[1].labels.bincount() - classes).abs().max() < 1
    assert whole.validation is None and whole.selection is whole.test
    assert data.selection is data.validation
    images = torch.cat([images for images, _ in data.validation])
    assert torch.equal(images, data.validation.normalise(parts[1].images))
    assert labels_of(data.test) == labels_of(whole.test)


def test_processes_share_one_validation_set():
    shares = [load(world=OneOf(rank, 2), val_split=0.1).validation for rank in range(2)]
    alone = load(val_split=0.1).validation
    assert shares[0].checksum() == shares[1].checksum() == alone.checksum()
    assert [x for share in shares for x in labels_of(share)] == labels_of(alone)


def test_a_path_given_for_the_embedded_digits_is_pointed_out(tmp_path, capsys):
    load(path=tmp_path, given={"path"})
    assert f"note: --path {tmp_path}: has no digits.npz" in capsys.readouterr().out
    load(path=tmp_path)
    load(path=EMBEDDED, given={"path"})
    assert capsys.readouterr().out == ""


def test_cifar10_is_read_as_torchvision_reads_it(cifar10):
    data = load("cifar10", cifar10)
    original = datasets.CIFAR10(cifar10, train=False)
    images, labels = next(iter(data.test))
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    expected = (torch.from_numpy(original.data).float() / 255 - mean) / std
    assert torch.equal(images, expected.permute(0, 3, 1, 2))
    assert labels.tolist() == original.targets
    assert data.classes == tuple("abcdefghij") and data.train.num_samples == 50


@pytest.mark.parametrize("rank, downloads", [(0, [True]), (1, [])])
def test_only_the_main_process_downloads_and_the_others_wait(cifar10, monkeypatch, rank, downloads):
    asked = []
    genuine = datasets.CIFAR10.download
    monkeypatch.setattr(
        datasets.CIFAR10, "download", lambda self: (asked.append(True), genuine(self))
    )
    world = OneOf(rank, 2)
    load("cifar10", cifar10, world=world)
    assert asked == downloads and world.waits == 1


def test_a_node_without_the_data_is_named(tmp_path):
    with pytest.raises(UserError, match="--path .*: process 1 .*all nodes share"):
        load("cifar10", tmp_path, world=OneOf(1, 2))


@pytest.mark.parametrize(
    "name, archive",
    [("cifar10", "cifar-10-python.tar.gz"), ("cifar100", "cifar-100-python.tar.gz")],
)
def test_a_root_without_the_data_and_no_network(tmp_path, offline, name, archive):
    with pytest.raises(UserError, match=f"--path .*no route to host.*{archive}") as caught:
        load(name, tmp_path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_data_are_never_used(cifar10, offline):
    with open(cifar10 / datasets.CIFAR10.base_folder / "test_batch", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="--path"):
        load("cifar10", cifar10)


def test_folder_takes_mean_and_deviation_from_the_training_images(tmp_path):
    write_folder(tmp_path)
    data = load("folder", tmp_path)
    assert data.classes == ("a", "b") and "mean 0.5000 0.5000 0.5000" in data.description
    images, labels = next(iter(data.test))
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([-1.0, 1.0]))
    assert labels.tolist() == [0, 1]


def test_given_mean_and_deviation_replace_the_data_sets_own(tmp_path):
    write_folder(tmp_path)
    changes = {"mean": [0.0, 0.0, 0.0], "std": [0.5, 0.5, 0.5]}
    images, _ = next(iter(load("folder", tmp_path, **changes).test))
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.0, 2.0]))


def write_folder(root):
    from PIL import Image

    for part in ("train", "val"):
        for name, level in (("a", 0), ("b", 255)):
            (root / part / name).mkdir(parents=True)
            Image.new("RGB", (8, 8), (level,) * 3).save(root / part / name / "0.png")


@pytest.mark.parametrize("size", [2, 3])
def test_processes_see_the_test_set_once_and_share_the_training_batches(size):
    shares = [load(batch=64, world=OneOf(rank, size)) for rank in range(size)]
    alone = load(batch=64)
    assert [x for data in shares for x in labels_of(data.test)] == labels_of(alone.test)
    first = [label for data in shares for label in next(iter(data.train))[1].tolist()]
    assert first == next(iter(alone.train))[1].tolist()


def test_a_batch_smaller_than_the_number_of_processes():
    with pytest.raises(UserError, match="--train-batch 2: .* 3 processes"):
        load(batch=2, world=OneOf(0, 3))


def test_fewer_training_images_than_processes(tmp_path):
    write_folder(tmp_path)
    with pytest.raises(UserError, match="--path .*2 training samples for 3 processes"):
        load("folder", tmp_path, world=OneOf(0, 3))


def test_event_recordings_come_from_their_own_module(monkeypatch):
    train = SimpleNamespace(num_samples=9)
    events = SimpleNamespace(train=train)

    def build(name, path, timesteps, batching, world):
        assert (name, path) == ("NMNIST", "here")
        return events

    monkeypatch.setattr("utils.events.batches.build", build)
    assert load("NMNIST", "here") is events


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(UserError) as caught:
        load("cifar10dvs")
    message = str(caught.value)
    assert all(name in message for name in known_datasets())
    assert message.startswith("--dataset cifar10dvs: ") and message.endswith("CIFAR10DVS?")


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UserError) as caught:
        load("stl", world=SimpleNamespace())
    assert "did you mean" not in str(caught.value)
