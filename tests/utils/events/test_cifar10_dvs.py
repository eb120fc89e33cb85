import numpy as np
import pytest
import torch

from tests.utils.events.recordings import make_events, write_collection
from utils.datasets.loader import Batching
from utils.distributed.world import World
from utils.events.cifar10_dvs import build, load, resize
from utils.events.collection import CLASSES, list_samples, prepare, read_sample, split
from utils.events.frame_cache import FrameKind
from utils.events.frames import to_frames
from utils.system.errors import UserError

T = 4
KIND = FrameKind(T)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("CIFAR10DVS")
    write_collection(root, CLASSES, per_class=10)
    prepare(root, KIND, workers=0)
    return root


def loaders(root, rank=0, size=1, train_batch=8, seed=3):
    batching = Batching(train_batch, test_batch=5, workers=2, sync_bn=False, seed=seed)
    return build(str(root), T, batching, World(CPU, rank, size))


def images(loader):
    return torch.cat([frames for frames, _ in loader])


def resized(samples):
    return torch.stack([resize(read_sample(sample, KIND)) for sample in samples])


def test_the_loaders_yield_frames_and_labels(root):
    (train, test, _), num_classes, description = loaders(root)
    assert (train.num_samples, test.num_samples, num_classes) == (90, 10, 10)
    assert (len(train), len(test)) == (12, 2)
    frames, labels = next(iter(train))
    assert frames.shape == (8, T, 2, 48, 48) and frames.dtype == torch.float32
    assert labels.shape == (8,) and labels.dtype == torch.int64
    assert "90 training and 10 test" in description and "\n" not in description


def test_validation_recordings_are_training_recordings_without_augmentation(root):
    batching = Batching(8, test_batch=5, workers=2, sync_bn=False, seed=3, val_split=0.2)
    (train, test, held), _, description = build(str(root), T, batching, World(CPU))
    assert "72 training, 18 validation (held out) and 10 test recordings" in description
    assert (train.num_samples, test.num_samples, held.num_samples) == (72, 10, 18)
    known = {frames.numpy().tobytes() for frames in resized(split(list_samples(root, KIND))[0])}
    assert all(frames.numpy().tobytes() in known for frames in images(held))


def test_test_frames_are_the_resized_counts_in_order(root):
    (_, test, _), _, _ = loaders(root)
    torch.testing.assert_close(images(test), resized(split(list_samples(root, KIND))[1]))
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
    train = loaders(root, train_batch=90)[0].train
    train.set_epoch(1)
    frames, labels = next(iter(train))
    padded = torch.nn.functional.pad(resized(split(list_samples(root, KIND))[0]), (4,) * 4)
    crops = padded.unfold(3, 48, 1).unfold(4, 48, 1)  # (90, T, 2, 9, 9, 48, 48)
    order, top, left, _ = train.draws
    for n, row in enumerate(order):
        assert torch.equal(frames[n], crops[row, :, :, top[n], left[n]])
    assert labels.tolist() == [int(row) // 9 for row in order]
    assert {int(v) for v in torch.cat([top, left])} == set(range(9))


def test_an_epoch_depends_only_on_its_seed_and_number(root):
    train, again = loaders(root)[0].train, loaders(root)[0].train
    train.set_epoch(0)
    first = images(train)
    train.set_epoch(5)
    again.set_epoch(5)
    fifth = images(train)
    assert torch.equal(fifth, images(again)) and not torch.equal(fifth, first)
    assert not torch.equal(images(loaders(root, seed=4)[0].train), first)


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_each_batch_and_the_test_set(root, size):
    (alone, test, _), _, _ = loaders(root, train_batch=9)
    shares = [loaders(root, rank, size, train_batch=9) for rank in range(size)]
    for batch, *parts in zip(alone, *(share[0].train for share in shares), strict=True):
        assert torch.equal(batch[0], torch.cat([frames for frames, _ in parts]))
        assert torch.equal(batch[1], torch.cat([labels for _, labels in parts]))
    assert torch.equal(images(test), torch.cat([images(share[0].test) for share in shares]))


def test_published_caches_give_the_same_batches(root, tmp_path):
    for sample in list_samples(root, KIND):
        file = tmp_path / sample.frames.relative_to(root)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, read_sample(sample, KIND).astype(np.float64))
    assert torch.equal(images(loaders(tmp_path)[0].test), images(loaders(root)[0].test))


def test_only_rank_0_prints_and_prepares(root, capsys):
    loaders(root, rank=1, size=2)
    assert capsys.readouterr().out == ""


def test_a_damaged_sample_without_a_recording_is_an_error(root, tmp_path):
    folder = tmp_path / KIND.folder / "cat"
    folder.mkdir(parents=True)
    (folder / "cifar10_cat_0.npz").write_bytes(b"half")
    with pytest.raises(UserError, match="cifar10_cat_0.npz"):
        load(list_samples(tmp_path, KIND), KIND, workers=2)
