"""Which samples a rank loads in which step: pure functions of seed, epoch and position."""

from __future__ import annotations

import numpy as np

Span = tuple[int, int]  # positions [start, stop) in the order of an epoch


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the random generator of one epoch, a function of `seed` and `epoch` alone.

    All random numbers about the data of an epoch are drawn from it, for the samples of all ranks.
    A resumed run therefore needs no loader state, and the world size changes nothing. Raises
    ValueError for a negative `seed` or `epoch`.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,))))


def shard(start: int, stop: int, rank: int, size: int) -> Span:
    """Return the part of `[start, stop)` that belongs to `rank` of `size` ranks."""
    length = stop - start
    return start + length * rank // size, start + length * (rank + 1) // size


def least_batch(size: int, sync_bn: bool) -> int:
    """Return the fewest samples of a training batch over `size` processes; see `train_spans`."""
    return max(2, size) if sync_bn else 2 * size


def train_spans(
    num_samples: int, batch_size: int, rank: int = 0, size: int = 1, sync_bn: bool = False
) -> list[Span]:
    """Return one rank's part of each global batch, as spans of positions in the epoch's order.

    The last batch is smaller where `batch_size` does not divide `num_samples`. It is dropped only
    if it has fewer than two samples, or fewer than two per rank, one with `sync_bn`: at T = 1, the
    BatchNorm after the last linear layer has no variance of a single sample, unless it is
    computed over all ranks, and an empty part has no gradient.
    """
    least = min(batch_size, num_samples, least_batch(size, sync_bn))
    starts = range(0, num_samples - least + 1, batch_size)
    return [shard(s, min(s + batch_size, num_samples), rank, size) for s in starts]


def test_spans(num_samples: int, batch_size: int, rank: int = 0, size: int = 1) -> list[Span]:
    """Return one rank's batches of a test set: over all ranks, every sample once and in order.

    Ranks get consecutive parts, so the number of batches may differ between them: an evaluation
    step must not contain a collective.
    """
    first, last = shard(0, num_samples, rank, size)
    local = -(-batch_size // size)
    return [(s, min(s + local, last)) for s in range(first, last, local)]


test_spans.__test__ = False  # a function under test, not a test for pytest to collect
