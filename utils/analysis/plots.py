"""The plots of a report's page."""

from __future__ import annotations

from utils.analysis.summary import Summary
from utils.analysis.svg import (
    HEIGHT,
    WIDTH,
    Axes,
    Series,
    label,
    line_plot,
    picture,
    rectangle,
)

_MOST_CLASSES = 20  # whose names and numbers fit into a confusion matrix


def latency(summary: Summary) -> str:
    """Return accuracy against the number of steps, and against the mean where images stop early."""
    T, accuracy = summary["timesteps"], summary["latency"]["accuracy"]
    fixed = Series(
        "same number of steps for all images",
        list(enumerate(accuracy, start=1)),
        text=[f"{a:.2f} % after {t} steps" for t, a in enumerate(accuracy, start=1)],
    )
    stops = sorted(summary["early_stop"]["curve"], key=lambda stop: stop["mean_steps"])
    early = Series(
        "early stop, mean number of steps",
        [(stop["mean_steps"], stop["accuracy"]) for stop in stops],
        "c2",
        dashed=True,
        marked=False,
    )
    series = [fixed, early] if T > 1 else [fixed]
    if chosen := summary["early_stop"]["chosen"]:
        place = (chosen["mean_steps"], chosen["accuracy"])
        name = f"early stop at confidence {chosen['confidence']:g}"
        series.append(Series(name, [place], "c2", text=[f"{place[1]:.2f} % after {place[0]:.2f}"]))
    values = [a for one in series for _, a in one.points]
    low = max(0.0, min(values) - 0.08 * (max(values) - min(values)) - 0.5)
    high = min(100.0, max(values) + 0.08 * (max(values) - min(values)) + 0.5)
    return line_plot(
        series, (1, T), (low, high), "timesteps", "test accuracy (%)", "accuracy by timesteps"
    )


def rates(summary: Summary) -> str:
    """Return the firing rate at each step, mean over layers."""
    layers = [layer["rate_by_step"] for layer in summary["layers"]]
    means = [100 * sum(step) / len(layers) for step in zip(*layers, strict=True)]
    series = Series("", list(enumerate(means, start=1)), "c3")
    high = 1.1 * max(means) or 1.0
    return line_plot(
        [series],
        (1, len(means)),
        (0.0, high),
        "timestep",
        "firing rate (%)",
        "firing rate by timestep",
    )


def reliability(summary: Summary) -> str:
    """Return the reliability diagram: accuracy against confidence, in bins."""
    axes = Axes((0.0, 1.0), (0.0, 1.0))
    parts = [axes.draw("confidence", "accuracy")]
    for b in summary["calibration"]["bins"]:
        left, right, top = axes.x(b["low"]), axes.x(b["high"]), axes.y(b["accuracy"])
        text = f"confidence {b['confidence']:.3f}, accuracy {b['accuracy']:.3f}, {b['images']:,}"
        style = 'class="fill c1" fill-opacity="0.75"'
        parts.append(
            rectangle(left + 1, top, right - left - 2, axes.y(0) - top, style, f"{text} images")
        )
    diagonal = (
        f'x1="{axes.x(0):.1f}" y1="{axes.y(0):.1f}" x2="{axes.x(1):.1f}" y2="{axes.y(1):.1f}"'
    )
    parts.append(f'<line class="line muted" stroke-dasharray="5 4" {diagonal}/>')
    return picture("".join(parts), "accuracy of predictions by their confidence")


def confusion(classes: Summary) -> str:
    """Return the confusion matrix as a picture, empty for more classes than it can show."""
    names = [scores["name"] for scores in classes["scores"]]
    if len(names) > _MOST_CLASSES:
        return ""
    margin = 12 + 6.5 * min(max(map(len, names)), 12)
    cell = min((WIDTH - margin) / len(names), (HEIGHT * 1.25 - margin) / len(names))
    parts = []
    for i, (name, row) in enumerate(zip(names, classes["confusion"], strict=True)):
        middle = (i + 0.5) * cell
        parts.append(label(margin - 5, middle + 4, name[:12], "end"))
        x, y = margin + middle + 4, len(names) * cell + 6
        parts.append(label(x, y, name[:12], "end", f'transform="rotate(-90 {x:.1f} {y:.1f})"'))
        for j, count in enumerate(row):
            parts.append(_cell(margin + j * cell, i * cell, cell, count, sum(row), i == j))
    side = len(names) * cell
    return picture("".join(parts), "confusion matrix", margin + side, side + margin)


def _cell(x: float, y: float, size: float, count: int, row: int, right: bool) -> str:
    """Return one cell, the darker the larger its share of a row; counts where there is room."""
    share = count / row if row else 0.0
    strength = share if right else min(1.0, 4 * share)  # single errors stay visible
    colour = "c1" if right else "c2"
    style = f'class="fill {colour}" fill-opacity="{0.06 + 0.9 * strength:.2f}"'
    drawn = rectangle(x + 0.5, y + 0.5, size - 1, size - 1, style)
    if not count or size < 14:
        return drawn
    inverse = 'class="on"' if strength > 0.5 else ""
    return drawn + label(x + size / 2, y + size / 2 + 4, f"{count}", "middle", inverse)
