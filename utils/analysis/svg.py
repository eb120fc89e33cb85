"""Plots as inline SVG, coloured by classes of the page's style sheet: `c1`, `c2`, `c3`, `muted`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 42  # margins of the axes

Range = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Points joined by a line in the colour class `colour`, each with a text shown on hovering."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "c1"
    dashed: bool = False
    marked: bool = True
    text: Sequence[str] = ()


class Axes:
    """The scales of a plot, from data to the coordinates of the picture."""

    def __init__(self, x: Range, y: Range) -> None:
        self.x_range, self.y_range = _widened(x), _widened(y)

    def x(self, value: float) -> float:
        """Return the horizontal coordinate of a value."""
        return LEFT + _share(value, self.x_range) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical coordinate of a value."""
        return HEIGHT - BOTTOM - _share(value, self.y_range) * (HEIGHT - TOP - BOTTOM)

    def draw(self, x_label: str, y_label: str, x_whole: bool = False) -> str:
        """Return grid, ticks and labels; with `x_whole`, ticks of x at integers alone."""
        parts = []
        for value in ticks(self.y_range):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" {_at("y", y)}/>')
            parts.append(_text(LEFT - 6, y + 4, f"{value:g}", "end"))
        for value in ticks(self.x_range, whole=x_whole):
            parts.append(_text(self.x(value), HEIGHT - BOTTOM + 17, f"{value:g}", "middle"))
        middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
        parts.append(_text(middle_x, HEIGHT - 6, x_label, "middle"))
        turned = f'transform="rotate(-90 13 {middle_y:.1f})"'
        parts.append(_text(13, middle_y, y_label, "middle", turned))
        base = HEIGHT - BOTTOM
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" {_at("y", base)}/>')
        return "".join(parts)


def line_plot(
    series: Sequence[Series], x: Range, y: Range, x_label: str, y_label: str, description: str
) -> str:
    """Return a plot of lines, with a legend below it where there are several."""
    axes = Axes(x, y)
    drawn = "".join(_line(one, axes) for one in series)
    frame = axes.draw(x_label, y_label, x_whole=True)
    return picture(frame + drawn, description) + _legend(series)


def picture(content: str, description: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Return an SVG element with a text for readers who cannot see it."""
    label = escape(description, quote=True)
    return (
        f'<svg class="plot" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width:g} {height:g}">{content}</svg>'
    )


def bar(share: float, colour: str = "c1", behind: float = 0.0) -> str:
    """Return a horizontal bar of this share of a table cell, before a paler one `behind` it."""
    paler = f'<rect class="fill muted" height="10" width="{100 * behind:.2f}"/>' if behind else ""
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'{paler}<rect class="fill {colour}" height="10" width="{100 * share:.2f}"/></svg>'
    )


def rectangle(x: float, y: float, width: float, height: float, style: str, text: str = "") -> str:
    """Return a rectangle with the attributes `style` and a text shown on hovering."""
    title = f"<title>{escape(text)}</title>" if text else ""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f"<rect {size} {style}>{title}</rect>"


def label(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    """Return a text at a place of a picture."""
    return _text(x, y, text, anchor, extra)


def ticks(limits: Range, count: int = 6, whole: bool = False) -> list[float]:
    """Return about `count` round numbers within the limits."""
    low, high = limits
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    step = max(1.0, round(step)) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _line(series: Series, axes: Axes) -> str:
    places = [(axes.x(x), axes.y(y)) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    line = f'<polyline class="line {series.colour}" points="{path}"{_dashes(series)}/>'
    if not series.marked:
        return line
    texts = series.text or [f"{x:g}: {y:.4g}" for x, y in series.points]
    marks = [
        f'<circle class="fill {series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.2">'
        f"<title>{escape(text)}</title></circle>"
        for (x, y), text in zip(places, texts, strict=True)
    ]
    return line + "".join(marks)


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    return f'<ul class="legend">{"".join(map(_key, series))}</ul>'


def _key(series: Series) -> str:
    """Return the line of a legend: a sample of the line, or of a single mark, and the name."""
    sample = f'<line class="line {series.colour}" x1="1" x2="23" y1="4" y2="4"{_dashes(series)}/>'
    if len(series.points) == 1:
        sample = f'<circle class="fill {series.colour}" cx="12" cy="4" r="3.6"/>'
    return (
        f'<li><svg viewBox="0 0 24 8" aria-hidden="true">{sample}</svg>{escape(series.name)}</li>'
    )


def _dashes(series: Series) -> str:
    return ' stroke-dasharray="5 4"' if series.dashed else ""


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {extra}>{escape(text)}</text>'


def _at(axis: str, value: float) -> str:
    return f'{axis}1="{value:.1f}" {axis}2="{value:.1f}"'


def _share(value: float, limits: Range) -> float:
    low, high = limits
    return (value - low) / (high - low)


def _widened(limits: Range) -> Range:
    low, high = limits
    return limits if high > low else (low - 0.5, high + 0.5)
