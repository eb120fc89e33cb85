import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from imagenet.build import read_batching
from imagenet.launch import Layout
from imagenet.loaders import MEAN, STD, build_calibration, build_data
from imagenet.options import build_parser
from imagenet.transforms import test_transform as resize_and_crop
from tests.ranks import here
from utils.datasets.image_folder import open_rgb
from utils.distributed.world import World
from utils.system.errors import UserError

CPU = torch.device("cpu")
ALONE = World(CPU)


def _build(build, root, line="", world=ALONE):
    flags = f"--data {root} -j 0 -b 8 --image-size 32 --seed 3 {line}"
    args = build_parser().parse_args(flags.split())
    return build(args, read_batching(args, Layout(1, 0, 1), None, world), world)


def _epoch(loader, epoch):
    loader.set_epoch(epoch)
    batches = list(loader)
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])


@pytest.fixture
def damaged(images, tmp_path):
    """The folder with a truncated training image and a validation file that is not an image."""
    root = shutil.copytree(images, tmp_path / "damaged")
    cut = root / "train" / "class1" / "2.png"
    cut.write_bytes(cut.read_bytes()[:300])
    (root / "val" / "class0" / "1.png").write_text("no image")
    return root


def test_an_epoch_is_a_function_of_seed_and_epoch(images):
    one, two = (_build(build_data, images).train for _ in range(2))
    x, y = _epoch(one, 2)
    _epoch(two, 0)
    again_x, again_y = _epoch(two, 2)
    assert torch.equal(x, again_x) and torch.equal(y, again_y)
    assert x.shape == (21, 3, 32, 32)
    assert y.bincount().tolist() == [7, 7, 7]
    assert not torch.equal(_epoch(one, 3)[0], x)
    other = _build(build_data, images, "--seed 4").train
    assert not torch.equal(_epoch(other, 2)[0], x)


def test_validation_images_are_held_out_of_train_and_not_augmented(images):
    whole, data = _build(build_data, images), _build(build_data, images, "--val_split 0.3")
    files = [set(loader.images.files) for loader in (data.train, data.validation)]
    assert files[0] | files[1] == set(whole.train.images.files) and not files[0] & files[1]
    assert _epoch(data.validation, 0)[1].bincount().tolist() == [2, 2, 2]
    assert torch.equal(_epoch(data.validation, 0)[0], _epoch(data.validation, 1)[0])
    assert torch.equal(_epoch(data.test, 0)[0], _epoch(whole.test, 0)[0])
    assert "15 training, 6 validation (held out) and 9 test images" in data.description
    assert "21 training and 9 validation images" in whole.description


def test_loader_processes_change_nothing_and_stay(images):
    alone, helped = _build(build_data, images), _build(build_data, images, "-j 2")
    for epoch in (1, 2):
        for half in ("train", "test"):
            expected, actual = (_epoch(getattr(data, half), epoch) for data in (alone, helped))
            assert torch.equal(expected[0], actual[0]) and torch.equal(expected[1], actual[1])
    assert helped.train.loader.persistent_workers


def test_loading_leaves_the_random_state_alone(images):
    train = _build(build_data, images).train
    before = torch.get_rng_state()
    _epoch(train, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_two_processes_see_what_one_sees(images):
    whole = _build(build_data, images)
    parts = [_build(build_data, images, world=World(CPU, rank, 2)) for rank in range(2)]
    for part in parts:
        part.train.set_epoch(1)
    whole.train.set_epoch(1)
    for (x, y), *shares in zip(whole.train, *(part.train for part in parts), strict=True):
        assert torch.equal(torch.cat([share[0] for share in shares]), x)
        assert torch.equal(torch.cat([share[1] for share in shares]), y)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_validation_has_every_image_once(images, size):
    labels = []
    for rank in range(size):
        loader = _build(build_data, images, world=World(CPU, rank, size)).test
        labels += [y for _, batch in loader for y in batch.tolist()]
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_validation_images_are_resized_cropped_and_normalised(images):
    from torchvision import transforms as T

    x, _ = _epoch(_build(build_data, images).test, 0)
    image = open_rgb(str(images / "val" / "class0" / "0.png"))
    usual = T.Compose([T.Resize(37), T.CenterCrop(32), T.ToTensor(), T.Normalize(MEAN, STD)])
    assert torch.equal(x[0], usual(image))


def test_full_size_is_the_published_transform():
    resize, crop = resize_and_crop(224).transforms
    assert (resize.size, crop.size) == (256, (224, 224))


def test_training_crops_and_mirrors_only_as_told(images):
    data = _build(build_data, images, "--min_crop 0.99 --no_flip")
    x, _ = _epoch(data.train, 0)
    assert x.shape == (21, 3, 32, 32)
    crop, mirror = data.train.loader.dataset.transform.transforms
    assert crop.scale == (0.99, 1.0)
    assert mirror.p == 0.0


def test_an_unreadable_image_is_named(damaged):
    data = _build(build_data, damaged)
    for loader, name in ((data.train, "class1/2.png"), (data.test, "class0/1.png")):
        with pytest.raises(UserError, match=f"--data: .*{name}.*--skip_bad_images") as caught:
            _epoch(loader, 0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_images_can_be_skipped_and_are_counted(damaged, capsys, workers):
    data = _build(build_data, damaged, f"--skip_bad_images -j {workers}")
    for epoch in (0, 1):
        x, y = _epoch(data.train, epoch)
        assert y.bincount().tolist() == [7, 7, 7]  # the next one is there twice
        _, y = _epoch(data.test, epoch)
        assert y.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert len(data.train.skipped) == len(data.test.skipped) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_a_batch_without_a_readable_image_is_left_out(images, tmp_path):
    root = shutil.copytree(images, tmp_path / "bad")
    for k in range(3):
        (root / "val" / "class1" / f"{k}.png").write_text("")
    data = _build(build_data, root, "--skip_bad_images -b 3")
    assert _epoch(data.test, 0)[1].tolist() == [0, 0, 0, 2, 2, 2]


def test_a_killed_loader_process_is_a_mistake_with_a_remedy(images, monkeypatch):
    train = _build(build_data, images).train

    def die():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")

    monkeypatch.setattr(type(train.loader), "__iter__", lambda self: die())
    with pytest.raises(UserError, match="--workers 0.*lower it"):
        _epoch(train, 0)


DYING = """
import multiprocessing, os, signal, sys
import torch
from imagenet.build import read_batching
from imagenet.launch import Layout
from imagenet.loaders import build_data
from imagenet.options import build_parser
from utils.distributed.world import World
from utils.datasets.loader_workers import killed_worker_error
from utils.system.entry import run

def main():
    args = build_parser().parse_args(["--data", sys.argv[1], *"-j 1 -b 2 --seed 3".split()])
    world = World(torch.device("cpu"))
    train = build_data(args, read_batching(args, Layout(1, 0, 1), None, world), world).train
    train.set_epoch(0)
    batches = iter(train)
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)  # as of a terminal, to all there are
    next(batches)
    try:
        os.kill(worker.pid, signal.SIGKILL)  # which torch may tell at any place from here on
        list(batches)
    except RuntimeError as error:
        raise killed_worker_error(error, 1) from error

run(main)
"""


def test_a_loader_process_that_really_dies_is_named(images):
    result = subprocess.run(
        [sys.executable, "-c", DYING, images],
        env=os.environ | here(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.match(r"error: --workers 1: DataLoader worker \(pid.*\d\).*; lower it$", line)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_can_begin_in_its_midst(images, workers):
    train = _build(build_data, images, f"-j {workers} -b 4").train
    train.set_epoch(1)
    whole = list(train)
    train.set_epoch(1)
    train.begin_at(2)
    rest = list(train)
    assert len(rest) == len(whole) - 2
    for (x, y), (again, labels) in zip(whole[2:], rest, strict=True):
        assert torch.equal(x, again) and torch.equal(y, labels)
    train.set_epoch(2)
    assert len(list(train)) == len(whole)


def test_calibration_looks_at_the_first_validation_images(images):
    loader, num_classes = _build(build_calibration, images, "--calib_batches 2 -b 4")
    assert num_classes == 3
    assert _epoch(loader, 0)[1].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_calibration_on_training_images_is_a_seeded_sample(images):
    line = "--calib_batches 2 -b 6 --calib_split train"
    samples = [_build(build_calibration, images, line)[0] for _ in range(2)]
    (x, y), (again, _) = (_epoch(loader, 0) for loader in samples)
    assert torch.equal(x, again)
    assert len(y) == 12 and len(set(y.tolist())) == 3
    other = _build(build_calibration, images, f"{line} --seed 9")[0]
    assert not torch.equal(_epoch(other, 0)[0], x)


def test_more_batches_than_there_are_is_all_there_is(images):
    loader, _ = _build(build_calibration, images, "--calib_batches 99")
    assert len(_epoch(loader, 0)[1]) == 9


@pytest.mark.parametrize(("size", "line"), [(8, "-b 8"), (11, "-b 99")])
def test_more_processes_than_a_batch_feeds_are_refused(images, size, line):
    with pytest.raises(UserError, match="--batch-size"):
        _build(build_data, images, line, world=World(CPU, 0, size))


def test_the_checksum_depends_on_names_sizes_and_labels_but_not_on_the_place(images, tmp_path):
    copy = shutil.copytree(images, tmp_path / "copy")
    before = _build(build_data, images).test.checksum()
    assert _build(build_data, copy).test.checksum() == before
    assert _build(build_data, copy).train.checksum() != before
    with (copy / "val" / "class2" / "0.png").open("ab") as file:
        file.write(b"x")
    assert _build(build_data, copy).test.checksum() != before
