"""The pictures of the benchmarks and of the README."""

from __future__ import annotations

from pathlib import Path

from matplotlib import ticker
from matplotlib.figure import Figure

COLOURS = {
    "published": "#8c8c8c",
    "published, tuned": "#a9a9a9",
    "unrolled fp32": "#c9a227",
    "folded fp32": "#3a7ca5",
    "folded bf16": "#16425b",
    "rate bf16": "#81c3d7",
    "convolutions": "#d8d8d8",
}


def draw_train_step(report: dict, path: Path) -> None:
    """Seconds and peak memory of every way, a row of panels for each timesteps and batch."""
    cases = sorted({(row["timesteps"], row["batch"]) for row in report["rows"]})
    figure = Figure(figsize=(10, 0.9 + 2.1 * len(cases)), layout="constrained")
    panels = figure.subplots(len(cases), 2, squeeze=False)
    for (timesteps, batch), (left, right) in zip(cases, panels, strict=True):
        rows = [r for r in report["rows"] if (r["timesteps"], r["batch"]) == (timesteps, batch)]
        base = next((r for r in rows if r["way"] == "published"), rows[0])
        _bars(left, rows, "seconds", lambda r, b=base: _ratio(b["seconds"] / r["seconds"]))
        _bars(right, rows, "peak_mib", lambda r, b=base: f"1/{b['peak_mib'] / r['peak_mib']:.1f}")
        left.errorbar(
            [r["seconds"] for r in rows],
            range(len(rows)),
            xerr=[
                [r["seconds"] - r["least"] for r in rows],
                [r["most"] - r["seconds"] for r in rows],
            ],
            fmt="none",
            ecolor="black",
            capsize=2,
        )
        left.set_title(f"T = {timesteps}, batch {batch}: seconds a step", loc="left")
        right.set_title("peak memory of a step, MiB", loc="left")
        right.tick_params(labelleft=False)
    machine = report["machine"]
    figure.suptitle(
        f"{report['title']}\n{machine['processor']}, {machine['device']}, "
        f"torch {machine['torch']}, {machine['date']}",
        fontsize=9,
    )
    figure.savefig(path, dpi=130)


def _ratio(value: float) -> str:
    return f"{value:.1f}x"


def _bars(panel, rows: list[dict], key: str, label) -> None:
    values = [row[key] for row in rows]
    ends = [row["most"] for row in rows] if key == "seconds" else values
    panel.barh(range(len(rows)), values, color=[COLOURS[row["way"]] for row in rows])
    for place, (end, row) in enumerate(zip(ends, rows, strict=True)):
        panel.annotate(
            label(row), (end, place), (5, 0), textcoords="offset points", va="center", fontsize=8
        )
    panel.set_yticks(range(len(rows)), [row["way"] for row in rows])
    panel.invert_yaxis()
    panel.set_xlim(0, 1.15 * max(ends))
    panel.xaxis.set_major_locator(ticker.MaxNLocator(5))
    panel.spines[["top", "right"]].set_visible(False)
