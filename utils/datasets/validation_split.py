"""The part of the training data that is held out for validation: a function of labels and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from utils.system.errors import UserError

_STREAM = (0, 0, 0)  # an epoch's generator has a key of one number: see `sharding`


def hold_out(labels: Sequence[int], share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows kept for training and those held out, each in ascending order.

    Of each class about a `share` in [0, 1) of its samples is held out, drawn at random: more or
    fewer by less than one sample, and `share * len(labels)`, rounded, in all. Raises UserError
    where one of the two parts would be empty.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=_STREAM)))
    shuffled = rng.permutation(len(labels))
    by_class = shuffled[np.argsort(np.asarray(labels)[shuffled], kind="stable")]
    held = np.diff(np.floor(np.arange(len(labels) + 1) * share + 0.5)) > 0
    if share and (held.all() or not held.any()):
        part = "training" if held.all() else "validation"
        raise UserError(f"--val_split {share:g}: of {len(labels)} samples none is for {part}")
    return np.sort(by_class[~held]), np.sort(by_class[held])
