"""Draw the report of benchmarks/train_step.py: time and memory of every way to compute a step.

python benchmarks/plots.py benchmarks/results/train_step_avx2.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

FLOOR, FLOOR_OF = "convolutions", "folded bf16"
BASE = "published"
LABELS = {
    "published": "published",
    "published, tuned": "published, tuned allocator",
    "spikingjelly": "SpikingJelly",
    "unrolled fp32": "unrolled, float32",
    "folded fp32": "folded, float32",
    "folded fp32, dense": "folded, float32, dense",
    "folded bf16": "folded, bf16",
    "rate bf16": "rate, bf16 (approximate)",
}
COLOURS = {
    "published": "#8c8c8c",
    "published, tuned": "#b3b3b3",
    "spikingjelly": "#c9a227",
    "unrolled fp32": "#dcc577",
    "folded fp32": "#3a7ca5",
    "folded fp32, dense": "#a9bfcc",
    "folded bf16": "#16425b",
    "rate bf16": "#81c3d7",
}
OTHER, MARK = "#6a994e", "#e76f51"


def draw_train_step(report: dict, path: Path) -> None:
    """Draw seconds and peak memory, one row of panels for each timesteps and batch, into `path`."""
    cases = sorted({(row["timesteps"], row["batch"]) for row in report["rows"]})
    most = max(len(_rows(report, case)) for case in cases)
    height = 1.0 + len(cases) * (0.75 + 0.3 * most)
    figure = Figure(figsize=(10, height), layout="constrained")
    panels = figure.subplots(len(cases), 2, squeeze=False)
    for case, (left, right) in zip(cases, panels, strict=True):
        rows = _rows(report, case)
        base = next((row for row in rows if row["way"] == BASE), None)
        _draw_seconds(left, rows, base)
        _draw_memory(right, rows, base)
        if floor := _rows(report, case, floor=True):
            _draw_floor(left, rows, floor[0]["seconds"])
        left.set_title(_title(case, rows[0]), loc="left", fontsize=11, weight="bold")
    panels[-1][0].set_xlabel("time per step (s): median, minimum and maximum")
    panels[-1][1].set_xlabel("peak memory of a step (MiB)")
    machine = report["machine"]
    figure.suptitle(
        f"{report['title']}\n{machine['processor']}, {machine['instructions']}, "
        f"{machine['device']}, torch {machine['torch']}, {machine['date']}",
        fontsize=9,
        color="#444444",
    )
    if any(row["way"] == FLOOR for row in report["rows"]):
        _explain_floor(figure)
    figure.savefig(path, dpi=160)


def _rows(report: dict, case: tuple[int, int], floor: bool = False) -> list[dict]:
    """Return the rows of one (timesteps, batch): those of the floor, or all others."""
    return [
        row
        for row in report["rows"]
        if (row["timesteps"], row["batch"]) == case and (row["way"] == FLOOR) == floor
    ]


def _title(case: tuple[int, int], row: dict) -> str:
    title = f"T = {case[0]}, batch {case[1]}"
    return f"{title}, firing rate {row['rate']:.1%}" if "rate" in row else title


def _draw_seconds(panel: Axes, rows: list[dict], base: dict | None) -> None:
    values = [row["seconds"] for row in rows]
    ends = [row["most"] for row in rows]
    low = [row["seconds"] - row["least"] for row in rows]
    high = [row["most"] - row["seconds"] for row in rows]
    _draw_bars(panel, rows, values)
    style = {"fmt": "none", "ecolor": "#222222", "capsize": 2, "elinewidth": 1}
    panel.errorbar(values, range(len(rows)), xerr=[low, high], **style)
    for place, row in enumerate(rows):
        faster = comparison(base, row, "seconds", ("faster", "slower"))
        _annotate(panel, ends[place], place, f"{row['seconds']:.2f} s{faster}")
    panel.set_xlim(0, 1.45 * max(ends))


def _draw_memory(panel: Axes, rows: list[dict], base: dict | None) -> None:
    values = [row["peak_mib"] for row in rows]
    _draw_bars(panel, rows, values)
    panel.tick_params(labelleft=False)
    for place, row in enumerate(rows):
        less = comparison(base, row, "peak_mib", ("less", "more"))
        _annotate(panel, values[place], place, f"{row['peak_mib']:,.0f} MiB{less}")
    panel.set_xlim(0, 1.65 * max(*values, 1))


def comparison(base: dict | None, row: dict, key: str, words: tuple[str, str]) -> str:
    """Return how many times `words` (smaller, larger) than `base` the figure `key` of `row` is."""
    if base is None or row is base or not row[key]:
        return ""
    ratio = base[key] / row[key]
    if 0.95 < ratio < 1.05:
        return " (equal)"
    return f" ({ratio:.1f}x {words[0]})" if ratio > 1 else f" ({1 / ratio:.1f}x {words[1]})"


def _draw_floor(panel: Axes, rows: list[dict], seconds: float) -> None:
    """Mark what the convolutions alone take, below which no exact way in bf16 can go."""
    ways = [row["way"] for row in rows]
    if FLOOR_OF in ways:
        place = ways.index(FLOOR_OF)
        panel.plot([seconds] * 2, [place - 0.46, place + 0.46], color=MARK, lw=2)


def _explain_floor(figure: Figure) -> None:
    style = {"color": MARK, "marker": "|", "ls": "none", "markersize": 12, "markeredgewidth": 2}
    label = f"convolutions of {LABELS[FLOOR_OF]}, alone: a lower bound of its time"
    handle = Line2D([], [], label=label, **style)
    figure.legend(handles=[handle], loc="outside lower left", frameon=False, fontsize=9)


def _draw_bars(panel: Axes, rows: list[dict], values: list[float]) -> None:
    colours = [COLOURS.get(row["way"], OTHER) for row in rows]
    panel.barh(range(len(rows)), values, color=colours, height=0.72)
    panel.set_yticks(range(len(rows)), [LABELS.get(row["way"], row["way"]) for row in rows])
    panel.tick_params(axis="y", length=0)
    panel.invert_yaxis()
    panel.xaxis.set_major_locator(ticker.MaxNLocator(5))
    panel.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    panel.spines[["top", "right"]].set_visible(False)


def _annotate(panel: Axes, end: float, place: int, text: str) -> None:
    panel.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="a .json of train_step.py; the .png lies beside")
    return parser


def main() -> None:
    """Draw the report that the command line names again."""
    path = build_parser().parse_args().report
    draw_train_step(json.loads(path.read_text()), path.with_suffix(".png"))


if __name__ == "__main__":
    main()
