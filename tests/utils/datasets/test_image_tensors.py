import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as TF

from utils.datasets.image_tensors import (
    Augmentation,
    ImageSet,
    Normalise,
    TestImages,
    TrainImages,
    channel_statistics,
    crop_and_flip,
)
from utils.datasets.sharding import test_spans, train_spans

CPU = torch.device("cpu")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def random_set(n, height=32, width=32):
    generator = torch.Generator().manual_seed(n)
    shape = (n, 3, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return ImageSet(images, torch.arange(n))


def train_loader(data, batch=8, seed=5, rank=0, size=1, augmentation=Augmentation()):  # noqa: B008
    spans = train_spans(len(data), batch, rank, size)
    return TrainImages(data, Normalise(MEAN, STD, CPU), augmentation, spans, seed)


def with_torchvision(image, top, left, flip, padding):
    """One image augmented by torchvision and Pillow, with given draws."""
    _, height, width = image.shape
    picture = TF.crop(TF.pad(TF.to_pil_image(image), padding), top, left, height, width)
    picture = TF.hflip(picture) if flip else picture
    return TF.normalize(TF.to_tensor(picture), MEAN, STD)


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.data())
def test_batched_augmentation_equals_torchvisions_per_image(padding, height, width, data):
    images = random_set(4, height, width).images
    corner = st.lists(st.integers(0, 2 * padding), min_size=4, max_size=4)
    top, left = data.draw(corner), data.draw(corner)
    flip = data.draw(st.lists(st.booleans(), min_size=4, max_size=4))
    batch = crop_and_flip(images, *map(torch.tensor, (top, left, flip)), padding)
    expected = [
        with_torchvision(*draw, padding) for draw in zip(images, top, left, flip, strict=True)
    ]
    assert torch.equal(Normalise(MEAN, STD, CPU)(batch), torch.stack(expected))


def test_the_loader_augments_according_to_its_draws():
    data = random_set(20)
    loader = train_loader(data)
    loader.set_epoch(3)
    images = torch.cat([images for images, _ in loader])
    expected = [
        with_torchvision(data.images[row], top, left, flip, 4)
        for row, top, left, flip in loader.draws.T.tolist()
    ]
    assert torch.equal(images, torch.stack(expected))


def test_shifts_and_flips_are_uniform_and_independent():
    loader = train_loader(random_set(1).to(CPU))
    data = ImageSet(torch.zeros(60_000, 3, 1, 1, dtype=torch.uint8), torch.zeros(60_000).long())
    loader = train_loader(data)
    _, top, left, flip = loader.draws
    counts = torch.bincount((top * 9 + left) * 2 + flip, minlength=162).double()
    expected = len(data) / 162
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert len(counts) == 162
    assert chi_square < 161 + 4 * (2 * 161) ** 0.5  # mean + 4 standard deviations


def test_padding_is_black_before_normalisation():
    white = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8)
    zero = torch.tensor([0])
    shifted = crop_and_flip(white, zero, zero, zero.bool(), 2)
    normal = Normalise((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), CPU)(shifted)
    assert torch.equal(normal[0, 0, :, 0], torch.full((4,), -1.0))
    assert torch.equal(normal[0, 0, 2:, 2:], torch.ones(2, 2))


def test_an_epoch_contains_every_image_once_in_random_order():
    labels = torch.cat([labels for _, labels in train_loader(random_set(50))])
    assert sorted(labels.tolist()) == list(range(50))
    assert labels.tolist() != list(range(50))


def test_labels_stay_with_their_images():
    data = ImageSet(torch.arange(50, dtype=torch.uint8).view(-1, 1, 1, 1), torch.arange(50))
    loader = TrainImages(
        data, Normalise((0,), (1 / 255,), CPU), Augmentation(padding=0), train_spans(50, 8), 5
    )
    for images, labels in loader:
        assert torch.equal(images.flatten().round().long(), labels)


def test_without_flip_no_image_is_mirrored():
    loader = train_loader(random_set(50), augmentation=Augmentation(flip=False))
    assert loader.draws[3].sum() == 0


@pytest.mark.parametrize("size", [2, 3])
def test_the_batches_of_all_ranks_joined_equal_that_of_one_process(size):
    data = random_set(50)
    loaders = [train_loader(data, 16, rank=rank, size=size) for rank in range(size)]
    alone = train_loader(data, 16)
    for loader in [*loaders, alone]:
        loader.set_epoch(2)
    for whole, *parts in zip(alone, *loaders, strict=False):
        for joined, expected in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(joined), expected)


def test_a_resumed_run_gets_the_same_batches_as_an_uninterrupted_one():
    data = random_set(30)
    through, resumed = train_loader(data), train_loader(data)
    for epoch in range(4):
        through.set_epoch(epoch)
        seen = list(through)
    torch.manual_seed(1)
    np.random.seed(1)
    resumed.set_epoch(3)
    for (images, labels), (same_images, same_labels) in zip(seen, resumed, strict=True):
        assert torch.equal(images, same_images) and torch.equal(labels, same_labels)


def test_epochs_and_seeds_differ():
    data = random_set(40)
    first, other_seed = train_loader(data), train_loader(data, seed=6)
    draws = first.draws
    first.set_epoch(1)
    assert not torch.equal(draws, first.draws)
    assert not torch.equal(draws, other_seed.draws)


def test_the_batch_size_does_not_change_the_augmentation():
    data = random_set(32)
    small, large = (torch.cat([x for x, _ in train_loader(data, batch)]) for batch in (4, 16))
    assert torch.equal(small, large)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_test_images_come_once_in_order_and_unchanged(size):
    data = random_set(23)
    normalise = Normalise(MEAN, STD, CPU)
    loaders = [TestImages(data, normalise, test_spans(23, 5, rank, size)) for rank in range(size)]
    images, labels = map(torch.cat, zip(*[b for loader in loaders for b in loader], strict=True))
    assert labels.tolist() == list(range(23))
    assert torch.equal(images, normalise(data.images))


def test_a_loader_has_sizes_and_measures_waiting_since_the_epochs_start():
    loader = train_loader(random_set(20), 8)
    assert (len(loader), loader.num_samples, loader.waited) == (3, 20, 0.0)
    images, labels = next(iter(loader))
    assert images.shape == (8, 3, 32, 32) and images.dtype == torch.float32
    assert images.is_contiguous() and labels.dtype == torch.int64
    assert loader.waited > 0
    loader.set_epoch(1)
    assert loader.waited == 0.0


def test_channel_statistics_are_those_of_all_pixels():
    images = random_set(7).images
    pixels = images.double().div(255).transpose(0, 1).flatten(1)
    mean, std = channel_statistics(images)
    torch.testing.assert_close(torch.tensor(mean).double(), pixels.mean(1))
    torch.testing.assert_close(torch.tensor(std).double(), pixels.std(1, unbiased=False))


def test_a_constant_channel_can_be_normalised():
    images = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    assert Normalise(*channel_statistics(images), CPU)(images).abs().max() < 1e-4


def test_the_checksum_of_a_set_depends_on_every_pixel_and_label():
    data, same = random_set(3), random_set(3)
    last = data.images.contiguous(memory_format=torch.channels_last)
    assert data.checksum() == same.checksum() == ImageSet(last, data.labels).checksum()
    same.images[2, 1, 31, 30] += 1
    other = ImageSet(data.images, data.labels.flip(0) + 1)
    assert len({data.checksum(), same.checksum(), other.checksum()}) == 3
    spans = test_spans(3, 2)
    assert TestImages(data, Normalise(MEAN, STD, CPU), spans).checksum() == data.checksum()
