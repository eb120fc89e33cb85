"""The random generators of a process: seed, capture and restore all of them together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed(value: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


def capture(device: torch.device) -> dict[str, Any]:
    """Return the generators' states in types that load with `weights_only=True`."""
    name, keys, *rest = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Restore the states that `capture` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def drawing_from(*numbers: int) -> Iterator[None]:
    """Inside the context, torch draws on the CPU from a generator seeded with `numbers`."""
    before = torch.get_rng_state()
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.default_generator.manual_seed(int(seed >> 1))
    try:
        yield
    finally:
        torch.set_rng_state(before)
