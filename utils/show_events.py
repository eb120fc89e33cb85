"""Draw an event recording: its frames, both polarities in colour, and its event rate over time.

python -m utils.show_events FILE.aedat --out frames.png [--gif frames.gif]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Patch

from utils.events.formats.reader import read_events
from utils.events.frames import to_frames
from utils.events.recording import Events
from utils.system.atomic_write import write_atomically
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser, between
from utils.system.text import print_line, printable

COLOURS = {"ON": (0.02, 0.35, 0.75), "OFF": (0.80, 0.22, 0.05)}  # distinguishable when colour-blind
COLUMNS = 10  # frames side by side
SCALE = 3  # pixels of the animation per sensor pixel
FRAME_TIME = 150  # milliseconds per frame of the animation
RATE_BINS = 120
_REMEDY = "make room or name another file"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    line = f"{__doc__.splitlines()[0]} Pixels with both polarities are dark purple."
    parser = FlagParser(prog="python -m utils.show_events", description=line)
    parser.add_argument("file", metavar="FILE", help="AEDAT 2.0, 3.1 or 4, or .bin (ATIS)")
    parser.add_argument("--out", default="frames.png", help="picture to write (png, pdf, svg)")
    parser.add_argument("--gif", help="also write this animation")
    parser.add_argument("--timesteps", type=between(1, 1000), default=10, help="number of frames")
    parser.add_argument(
        "--split-by",
        choices=["number", "time"],
        default="number",
        help="frames with equal numbers of events, or of equal duration",
    )
    return parser


def main() -> None:
    """Draw the recording that the command line names."""
    args = build_parser().parse_args()
    picture, animation = _targets(args.out, args.gif)
    events = read_events(args.file)
    frames = to_frames(events, args.timesteps, args.split_by)
    save_picture(draw(events, frames, args.split_by), picture)
    if animation:
        save_animation(frames, animation)
    seconds = _seconds(events)[-1]
    written = " and ".join(str(path) for path in (picture, animation) if path)
    print_line(f"{args.file}: {len(events):,} events in {seconds:.3f} s; wrote {written}")


def draw(events: Events, frames: np.ndarray, split_by: str = "number") -> Figure:
    """Return a figure of `frames` `(T, 2, H, W)` above the event rate of the recording."""
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
    title = printable(events.description or Path(events.source).name).replace("$", r"\$")
    figure.suptitle(f"{title}\n{len(events):,} events, {len(frames)} frames by {split_by}", size=10)
    return figure


def colour(frames: np.ndarray) -> np.ndarray:
    """Return RGB images `(T, H, W, 3)` of counts `(T, 2, H, W)`: white, darker with more events.

    The scale is the same for all frames; the top percentile of pixels with events is saturated.
    """
    active = frames[frames > 0]
    strength = np.minimum(frames / np.quantile(active, 0.99), 1) if active.size else frames
    return _mix(strength)


def _mix(strength: np.ndarray) -> np.ndarray:
    """Return RGB images `(T, H, W, 3)` of `strength` 0..1 `(T, 2, H, W)`, mixed like inks."""
    absorbed = 1 - np.array([COLOURS["OFF"], COLOURS["ON"]])  # (polarity, RGB)
    return np.clip(1 - np.einsum("tphw,pc->thwc", strength, absorbed), 0, 1)


def save_picture(figure: Figure, path: Path) -> None:
    """Write `figure` to `path`, in the format of its suffix; raises UserError if that fails."""
    kind = path.suffix[1:]
    if kind.lower() not in figure.canvas.get_supported_filetypes():
        raise UserError(f"--out {path}: unknown format; name a .png, .pdf or .svg file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that the font lacks
        write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=120), _REMEDY)


def save_animation(frames: np.ndarray, path: Path) -> None:
    """Write `frames` `(T, 2, H, W)` to `path` as a looping GIF; raises UserError if that fails."""
    from PIL import Image

    pixels = (colour(frames) * 255).astype(np.uint8).repeat(SCALE, 1).repeat(SCALE, 2)
    first, *rest = [Image.fromarray(image) for image in pixels]
    options = {"save_all": True, "append_images": rest, "duration": FRAME_TIME, "loop": 0}
    write_atomically(path, lambda file: first.save(file, format="GIF", **options), _REMEDY)


def _targets(out: str, gif: str | None) -> tuple[Path, Path | None]:
    """Return the files to write; raises UserError for folders, devices and other kinds of files."""
    picture, animation = Path(out), Path(gif) if gif else None
    for flag, path in (("--out", picture), ("--gif", animation)):
        if path and path.exists() and not path.is_file():
            raise UserError(f"{flag} {path}: not a regular file; name another one")
    if animation and animation.suffix.lower() != ".gif":
        raise UserError(f"--gif {gif}: name a .gif file")
    return picture if picture.suffix else picture.with_suffix(".png"), animation


def _draw_rate(axes, events: Events) -> None:
    """Draw the event rate of each polarity over time, and the legend of the whole figure."""
    seconds = _seconds(events)
    edges = np.linspace(min(seconds.min(), 0), max(seconds.max(), 1e-6), RATE_BINS + 1)
    for name, p in (("ON", 1), ("OFF", 0)):
        counts, _ = np.histogram(seconds[events.p == p], edges)
        rate = counts / np.diff(edges) / 1000
        axes.stairs(rate, edges, baseline=None, label=name, color=COLOURS[name])
    axes.set(xlabel="time (s)", ylabel="events (1000/s)", xlim=(edges[0], edges[-1]))
    axes.set_ylim(bottom=0)
    both = Patch(color=_mix(np.full((1, 2, 1, 1), 0.5))[0, 0, 0], label="pixels with both")
    handles = [*axes.get_legend_handles_labels()[0], both]
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 0.97), ncols=3, frameon=False
    )
    axes.spines[["top", "right"]].set_visible(False)


def _seconds(events: Events) -> np.ndarray:
    """Return the time of each event since the first, in seconds."""
    return (events.t - events.t[0]) * 1e-6


if __name__ == "__main__":
    run(main)
