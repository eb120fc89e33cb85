"""Recordings and collections of them for the tests."""

import numpy as np

from utils.events.formats.aedat2 import encode_aedat2
from utils.events.recording import Events


def make_events(n=300, seed=0, duration=100_000):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 128, (2, n), dtype=np.uint8)
    p = rng.integers(0, 2, n, dtype=np.uint8)
    return Events(np.sort(rng.integers(0, duration, n)), x, y, p)


def write_collection(root, classes, per_class=10, n=300):
    """Write recordings in the layout of CIFAR10-DVS, each of its own seed."""
    for label, name in enumerate(classes):
        folder = root / "events" / name
        folder.mkdir(parents=True)
        for k in range(per_class):
            content = encode_aedat2(make_events(n, seed=100 * label + k))
            (folder / f"cifar10_{name}_{k}.aedat").write_bytes(content)
