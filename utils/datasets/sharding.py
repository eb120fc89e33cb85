"""Which samples a process sees, and when: pure functions of seed, epoch and position."""

from __future__ import annotations

import numpy as np

Span = tuple[int, int]


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the random source of one epoch; it depends on nothing but `seed` and `epoch`.

    Everything random about the data of an epoch is drawn from it, for all samples of all
    processes. A resumed run therefore needs no loader state, and the world size changes nothing.
    Raises ValueError for a negative `seed` or `epoch`.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,))))


def share(start: int, stop: int, rank: int, size: int) -> Span:
    """Return the part of `[start, stop)` that falls to process `rank` of `size`."""
    length = stop - start
    return start + length * rank // size, start + length * (rank + 1) // size


def train_spans(
    num_samples: int, batch_size: int, rank: int = 0, size: int = 1, each: int = 2
) -> list[Span]:
    """Return one process's part of each global batch, as spans of positions in the epoch's order.

    The last batch is smaller where `batch_size` does not divide `num_samples`. It is left out of
    the epoch only if it has fewer than two samples, or would give a process fewer than `each`:
    BatchNorm behind the last linear layer has no variance of a single one at T = 1, unless it is
    of all processes, and an empty part has no gradient.
    """
    least = min(batch_size, num_samples, max(2, each * size))
    starts = range(0, num_samples - least + 1, batch_size)
    return [share(s, min(s + batch_size, num_samples), rank, size) for s in starts]


def test_spans(num_samples: int, batch_size: int, rank: int = 0, size: int = 1) -> list[Span]:
    """Return one process's batches of a test set: every sample once, in order, over all processes.

    The processes get consecutive parts, so the number of batches may differ between them: nothing
    may communicate within an evaluation step.
    """
    first, last = share(0, num_samples, rank, size)
    local = -(-batch_size // size)
    return [(s, min(s + local, last)) for s in range(first, last, local)]


test_spans.__test__ = False  # its name is not a request to pytest
