"""Draw an event recording: its frames, both polarities in colour, and its event rate over time.

python -m utils.show_events FILE.aedat --out frames.png [--gif frames.gif]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from utils.events.frames import to_frames
from utils.events.reader import read_events
from utils.events.recording import Events
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser, at_least

COLOURS = {"ON": (0.02, 0.35, 0.75), "OFF": (0.80, 0.22, 0.05)}  # apart to colour-blind eyes too
COLUMNS = 10  # frames side by side
ENLARGED = 3  # animation pixels along a sensor pixel
FRAME_TIME = 150  # milliseconds a frame of the animation
RATE_BINS = 120


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = FlagParser(prog="python -m utils.show_events", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", help="a recording, AEDAT 2.0 or AEDAT 4")
    parser.add_argument("--out", default="frames.png", help="picture to write (png, pdf, svg)")
    parser.add_argument("--gif", help="animation to write besides")
    parser.add_argument("--timesteps", type=at_least(1), default=10, help="number of frames")
    parser.add_argument("--split-by", choices=["number", "time"], default="number")
    return parser


def main() -> None:
    """Draw the recording that the command line names."""
    args = build_parser().parse_args()
    events = read_events(args.file)
    frames = to_frames(events, args.timesteps, args.split_by)
    try:
        draw(events, frames, args.split_by).savefig(args.out, dpi=120)
        if args.gif:
            save_animation(frames, args.gif)
    except (OSError, ValueError) as error:
        raise UserError(f"--out, --gif: cannot write the picture ({error})") from error
    print(f"{args.file}: {len(events):,} events in {_seconds(events)[-1]:.3f} s -> {args.out}")


def draw(events: Events, frames: np.ndarray, split_by: str = "number") -> Figure:
    """Return a figure of `frames` `(T, 2, 128, 128)` above the recording's event rate."""
    columns = min(COLUMNS, len(frames))
    rows = -(-len(frames) // columns)
    width = max(1.25 * columns, 6)
    figure = Figure(figsize=(width, 1.45 * rows + 2.9), layout="constrained")
    grid = GridSpec(rows + 1, columns, figure, height_ratios=[1] * rows + [1.3])
    for j, image in enumerate(colour(frames)):
        axes = figure.add_subplot(grid[j // columns, j % columns])
        axes.imshow(image, interpolation="nearest")
        axes.set_title(f"t = {j + 1}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    _draw_rate(figure.add_subplot(grid[rows, :]), events)
    figure.suptitle(
        f"{Path(events.source).name}: {len(events):,} events, {len(frames)} frames by {split_by}"
    )
    return figure


def colour(frames: np.ndarray) -> np.ndarray:
    """Return RGB images `(T, H, W, 3)` of counts `(T, 2, H, W)`: white, darker with more events.

    The scale is common to all frames; the busiest hundredth of active pixels is saturated.
    """
    active = frames[frames > 0]
    strength = np.minimum(frames / np.quantile(active, 0.99), 1) if active.size else frames
    inks = 1 - np.array([COLOURS["OFF"], COLOURS["ON"]])  # (polarity, RGB): light taken away
    return np.clip(1 - np.einsum("tphw,pc->thwc", strength, inks), 0, 1)


def save_animation(frames: np.ndarray, path: str) -> None:
    """Write `frames` `(T, 2, H, W)` to `path` as a looping GIF."""
    from PIL import Image

    pixels = (colour(frames) * 255).astype(np.uint8).repeat(ENLARGED, 1).repeat(ENLARGED, 2)
    first, *rest = [Image.fromarray(image) for image in pixels]
    first.save(path, save_all=True, append_images=rest, duration=FRAME_TIME, loop=0)


def _draw_rate(axes, events: Events) -> None:
    seconds = _seconds(events)
    edges = np.linspace(min(seconds.min(), 0), max(seconds.max(), 1e-6), RATE_BINS + 1)
    for name, p in (("ON", 1), ("OFF", 0)):
        counts, _ = np.histogram(seconds[events.p == p], edges)
        axes.stairs(counts / np.diff(edges) / 1000, edges, label=name, color=COLOURS[name])
    axes.set(xlabel="time (s)", ylabel="events (1000/s)", xlim=(edges[0], edges[-1]))
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _seconds(events: Events) -> np.ndarray:
    return (events.t - events.t[0]) * 1e-6


if __name__ == "__main__":
    run(main)
