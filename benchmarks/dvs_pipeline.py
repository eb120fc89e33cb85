"""Measure every step from an event recording to a training batch.

Recordings of 200,000 events are simulated. Single steps are timed one by one (medians), the
conversion of a whole collection as a user runs it. The last table compares the possible sources of
training frames: recordings, and caches of several kinds.

    python benchmarks/dvs_pipeline.py [--recordings 500] [--events 200000] [--workers 2]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe  # noqa: E402
from utils.datasets.digits import load_digits  # noqa: E402
from utils.events.batches import load, resize  # noqa: E402
from utils.events.cifar10_dvs import CIFAR10DVS, CLASSES  # noqa: E402
from utils.events.collection import prepare  # noqa: E402
from utils.events.formats.aedat2 import encode_aedat2  # noqa: E402
from utils.events.formats.reader import read_events  # noqa: E402
from utils.events.frame_cache import FrameKind, read_frames, write_frames  # noqa: E402
from utils.events.frames import to_frames  # noqa: E402
from utils.events.recording import Events  # noqa: E402
from utils.events.simulation import Camera, simulate  # noqa: E402

WHOLE = 10_000  # recordings of CIFAR10-DVS
DISTINCT = 20  # recordings that are simulated; the others are copies


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--events", type=int, default=200_000, help="events in a recording")
    parser.add_argument("--timesteps", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    return parser


def main(args: argparse.Namespace) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    print(*describe().values(), f"NumPy {np.__version__}", sep="; ")
    print(f"{args.events:,} events, T = {args.timesteps}, {args.workers} workers")
    with tempfile.TemporaryDirectory() as folder:
        root, kind = Path(folder), FrameKind(args.timesteps)
        write_recordings(root, args.recordings, args.events)
        times = time_steps(root, kind)
        print_table("one recording, one thread", times, "ms", 1e3)
        print_table("as a user runs it", time_runs(root, kind, args.workers), "s", 1)
        print_choices(root, kind, times)


def write_recordings(root: Path, count: int, num_events: int) -> None:
    """Write `count` recordings in the layout of CIFAR10-DVS."""
    contents = [encode_aedat2(long_recording(k, num_events)) for k in range(min(DISTINCT, count))]
    for k in range(count):
        name = CLASSES[k % len(CLASSES)]
        folder = root / "events" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"cifar10_{name}_{k // 10}.aedat").write_bytes(contents[k % len(contents)])


def long_recording(k: int, num_events: int) -> Events:
    """Return a simulated recording of digit `k` with exactly `num_events` events."""
    image = load_digits()[0][k] / 16
    threshold = 0.25
    while True:
        camera = Camera(threshold=threshold, noise_rate=1)
        events = simulate(image, np.random.default_rng(k), camera)
        if len(events) >= num_events:
            kept = slice(num_events)
            return Events(events.t[kept], events.x[kept], events.y[kept], events.p[kept])
        threshold *= 0.9 * len(events) / num_events


def time_steps(root: Path, kind: FrameKind) -> dict[str, float]:
    """Return the seconds that each step takes for the first recording."""
    sample = CIFAR10DVS().samples(root, kind)[0]
    events = read_events(sample.events)
    frames = to_frames(events, kind.timesteps)
    cache, published, small = (root / f"{name}.npz" for name in ("cache", "published", "small"))
    write_frames(cache, frames)
    np.savez_compressed(published, frames.astype(np.float64))
    return {
        "read": median(lambda: read_events(sample.events)),
        "integrate by number": median(lambda: to_frames(events, kind.timesteps)),
        "integrate by time": median(lambda: to_frames(events, kind.timesteps, "time")),
        "write cache": median(lambda: write_frames(cache, frames)),
        "write published cache (float64)": median(
            lambda: np.savez_compressed(published, frames.astype(np.float64)), repeats=5
        ),
        "load cache": median(lambda: read_frames(cache, kind)),
        "load published cache": median(lambda: read_frames(published, kind)),
        "resize 128 -> 48": median(lambda: resize(frames.astype(np.uint8))),
        "write resized (float32)": median(
            lambda: write_frames(small, resize(frames).numpy()), repeats=5
        ),
        "load resized": median(lambda: load_array(small)),
    }


def time_runs(root: Path, kind: FrameKind, workers: int) -> dict[str, float]:
    """Return the seconds to convert and to load all recordings, and extrapolate to CIFAR10-DVS."""
    count = len(CIFAR10DVS().samples(root, kind))
    conversion = elapsed(lambda: prepare(CIFAR10DVS(), root, kind, workers))
    samples = CIFAR10DVS().samples(root, kind)
    loading = elapsed(lambda: load(samples, kind, 48, workers, quiet=True))
    return {
        f"convert {count:,} recordings": conversion,
        f"convert {WHOLE:,} (extrapolated)": conversion * WHOLE / count,
        f"load {count:,} into memory": loading,
        f"load {WHOLE:,} (extrapolated)": loading * WHOLE / count,
    }


def print_choices(root: Path, kind: FrameKind, times: dict[str, float]) -> None:
    """Print the loading time and the size on disk of each source of training frames."""
    sample = CIFAR10DVS().samples(root, kind)[0]
    sizes = {
        name: (root / f"{name}.npz").stat().st_size for name in ("cache", "published", "small")
    }
    resizing = times["resize 128 -> 48"]
    on_the_fly = times["read"] + times["integrate by number"] + resizing
    rows = {
        "recordings, integrated on the fly": (on_the_fly, sample.events.stat().st_size),
        "cache 128x128, small integers": (times["load cache"] + resizing, sizes["cache"]),
        "cache 48x48, float32": (times["load resized"], sizes["small"]),
        "published cache, float64": (times["load published cache"] + resizing, sizes["published"]),
    }
    print(f"\n{'frames for training from':36} {'ms each':>8} {'s for 10,000':>13} {'GB read':>8}")
    for name, (seconds, size) in rows.items():
        print(f"{name:36} {seconds * 1e3:8.2f} {seconds * WHOLE:13.1f} {size * WHOLE / 1e9:8.2f}")
    memory = WHOLE * kind.timesteps * 2 * 48 * 48 * 4 / 1e9
    print(f"in memory at 48x48, float32: {memory:.2f} GB")


def print_table(title: str, times: dict[str, float], unit: str, scale: float) -> None:
    print(f"\n{title:36} {unit:>8}")
    for name, seconds in times.items():
        print(f"{name:36} {seconds * scale:8.2f}")


def load_array(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as arrays:
        return arrays["arr_0"]


def median(call: Callable[[], object], repeats: int = 25) -> float:
    call()
    return statistics.median(elapsed(call) for _ in range(repeats))


def elapsed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(build_parser().parse_args())
