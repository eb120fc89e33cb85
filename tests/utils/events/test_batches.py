import numpy as np
import pytest
import torch

from tests.utils.events.recordings import make_events, write_collection
from utils.datasets.loader import Batching
from utils.distributed.world import World
from utils.events.batches import build, load, resize
from utils.events.cifar10_dvs import CIFAR10DVS, CLASSES
from utils.events.collection import prepare, read_sample
from utils.events.frame_cache import FrameKind
from utils.events.frames import to_frames
from utils.system.errors import UserError

T = 4
KIND = FrameKind(T)
COLLECTION = CIFAR10DVS()
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("CIFAR10DVS")
    write_collection(root, CLASSES, per_class=10)
    prepare(COLLECTION, root, KIND, workers=0)
    return root


def loaders(root, rank=0, size=1, train_batch=8, seed=3):
    batching = Batching(train_batch, test_batch=5, workers=2, sync_bn=False, seed=seed)
    return build("CIFAR10DVS", str(root), T, batching, World(CPU, rank, size))


def halves(root):
    return COLLECTION.split(COLLECTION.samples(root, KIND))


def images(loader):
    return torch.cat([frames for frames, _ in loader])


def resized(samples):
    return torch.stack([resize(read_sample(sample, KIND)) for sample in samples])


def test_the_loaders_yield_frames_and_labels(root):
    data = loaders(root)
    train, test = data.train, data.test
    assert (train.num_samples, test.num_samples, data.num_classes) == (90, 10, 10)
    assert (len(train), len(test)) == (12, 2)
    frames, labels = next(iter(train))
    assert frames.shape == (8, T, 2, 48, 48) and frames.dtype == torch.float32
    assert labels.shape == (8,) and labels.dtype == torch.int64
    assert "90 training and 10 test" in data.description and "\n" not in data.description


def test_validation_recordings_are_training_recordings_without_augmentation(root):
    batching = Batching(8, test_batch=5, workers=2, sync_bn=False, seed=3, val_split=0.2)
    data = build("CIFAR10DVS", str(root), T, batching, World(CPU))
    assert "72 training, 18 validation (held out) and 10 test recordings" in data.description
    held = data.validation
    assert (data.train.num_samples, data.test.num_samples, held.num_samples) == (72, 10, 18)
    known = {frames.numpy().tobytes() for frames in resized(halves(root)[0])}
    assert all(frames.numpy().tobytes() in known for frames in images(held))


def test_test_frames_are_the_resized_counts_in_order(root):
    test = loaders(root).test
    torch.testing.assert_close(images(test), resized(halves(root)[1]))
    assert torch.cat([labels for _, labels in test]).tolist() == list(range(10))


def test_resizing_is_bilinear_without_antialiasing():
    functional = pytest.importorskip("torchvision.transforms.functional")
    frames = to_frames(make_events(20_000), T)
    expected = functional.resize(torch.from_numpy(frames).float(), [48, 48], antialias=False)
    torch.testing.assert_close(resize(frames), expected, rtol=0, atol=1e-6)


def test_resizing_agrees_with_the_formula():
    """Sample points lie at (i + 1/2) 128/48 - 1/2; values there are linear in both directions."""
    frames = to_frames(make_events(20_000), T)
    at = (np.arange(48) + 0.5) * 128 / 48 - 0.5
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(128)), 0)
    expected = torch.from_numpy(weights @ frames @ weights.T)
    torch.testing.assert_close(resize(frames).double(), expected, rtol=0, atol=1e-4)


def test_a_training_sample_is_cropped_once_for_all_steps_and_polarities(root):
    train = loaders(root, train_batch=90).train
    train.set_epoch(1)
    frames, labels = next(iter(train))
    padded = torch.nn.functional.pad(resized(halves(root)[0]), (4,) * 4)
    crops = padded.unfold(3, 48, 1).unfold(4, 48, 1)  # (90, T, 2, 9, 9, 48, 48)
    order, top, left, _ = train.draws
    for n, row in enumerate(order):
        assert torch.equal(frames[n], crops[row, :, :, top[n], left[n]])
    assert labels.tolist() == [int(row) // 9 for row in order]
    assert {int(v) for v in torch.cat([top, left])} == set(range(9))


def test_an_epoch_depends_only_on_its_seed_and_number(root):
    train, again = loaders(root).train, loaders(root).train
    train.set_epoch(0)
    first = images(train)
    train.set_epoch(5)
    again.set_epoch(5)
    fifth = images(train)
    assert torch.equal(fifth, images(again)) and not torch.equal(fifth, first)
    assert not torch.equal(images(loaders(root, seed=4).train), first)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_each_batch_and_the_test_set(root, size):
    alone = loaders(root, train_batch=9)
    shares = [loaders(root, rank, size, train_batch=9) for rank in range(size)]
    for batch, *parts in zip(alone.train, *(share.train for share in shares), strict=True):
        assert torch.equal(batch[0], torch.cat([frames for frames, _ in parts]))
        assert torch.equal(batch[1], torch.cat([labels for _, labels in parts]))
    assert torch.equal(images(alone.test), torch.cat([images(share.test) for share in shares]))


def test_published_caches_give_the_same_batches(root, tmp_path):
    for sample in COLLECTION.samples(root, KIND):
        file = tmp_path / sample.frames.relative_to(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, read_sample(sample, KIND).astype(np.float64))
    assert torch.equal(images(loaders(tmp_path).test), images(loaders(root).test))


def test_only_rank_0_prints_and_prepares(root, capsys):
    loaders(root, rank=1, size=2)
    assert capsys.readouterr().out == ""


def test_a_damaged_sample_without_a_recording_is_an_error(root, tmp_path):
    folder = tmp_path / KIND.folder / "cat"
    folder.mkdir(parents=True)
    (folder / "cifar10_cat_0.npz").write_bytes(b"half")
    with pytest.raises(UserError, match="cifar10_cat_0.npz"):
        load(COLLECTION.samples(tmp_path, KIND), KIND, 48, workers=2)
