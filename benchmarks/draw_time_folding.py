"""Draw the figure of docs/method.md: what autograd keeps and what the folded engine keeps.

python benchmarks/draw_time_folding.py --out docs/time_folding.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

STEPS = ("1", "2", "3", None, "T")  # None: an ellipsis
LAYERS = ("l-1", "l", "l+1")
FREED, KEPT, GRADIENT, FORWARD, TEXT = "#bfdce6", "#16425b", "#c9582b", "#222222", "#333333"
PITCH, WIDTH, HEIGHT = 1.15, 0.9, 0.72  # of the boxes: distance of two, and size
LEVEL = 2.1  # distance of two layers


def build_parser() -> argparse.ArgumentParser:
    """Return the flags of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="picture to write (png, pdf, svg)")
    return parser


def draw() -> Figure:
    """Return the figure: autograd on the left, the folded engine on the right, a key below."""
    figure = Figure(figsize=(10, 4.7))
    left, right = figure.add_axes([0, 0.2, 0.45, 0.8]), figure.add_axes([0.46, 0.2, 0.54, 0.8])
    key = figure.add_axes([0, 0, 1, 0.19])
    _draw_autograd(left)
    _draw_folded(right)
    _draw_key(key)
    for panel, width in ((left, 7.3), (right, 9.1)):
        limits = {"xlim": (-1.5, width - 1.5), "ylim": (-1.0, 2 * LEVEL + 1.5)}
        panel.set(**limits, aspect="equal", anchor="W")
    for panel in (left, right, key):
        panel.axis("off")
    return figure


def _draw_autograd(panel: Axes) -> None:
    _title(panel, "(a) Autograd over T timesteps")
    for layer in range(len(LAYERS)):
        _spike_train(panel, layer, KEPT)
        for step, x in _places() if layer else ():
            _between(panel, x - 0.24, layer, up=True)
            _between(panel, x + 0.02, layer, up=False)
            _label(panel, x + 0.3, layer, f"$g_{step}$")
    _caption(panel, "Kept: T tensors per layer. Sent back: T gradients.")


def _draw_folded(panel: Axes) -> None:
    _title(panel, "(b) Time-folded backward pass")
    end, column = len(STEPS) * PITCH - 0.12, len(STEPS) * PITCH + 1.15
    for layer in range(len(LAYERS)):
        middle = layer * LEVEL + HEIGHT / 2
        _spike_train(panel, layer, FREED)
        _box(panel, column, layer, KEPT, "means\nmasks", width=1.1, size=9)
        _arrow(panel, (end, middle), (column - 0.6, middle), FORWARD)
        panel.text((end + column - 0.6) / 2, middle + 0.14, r"$\Sigma_t$", ha="center", color=TEXT)
        for _, x in _places() if layer else ():
            _between(panel, x, layer, up=True)
        if layer:
            _between(panel, column + 0.1, layer, up=False)
            _label(panel, column + 0.4, layer, "$R$")
            corner = (column - 0.65, _middle_between(layer) - 0.25)
            panel.add_patch(Rectangle(corner, 0.5, 0.5, color=KEPT))
            style = {"ha": "center", "va": "center", "fontsize": 11, "color": "white"}
            panel.text(column - 0.4, _middle_between(layer), "$Q$", **style)
    _caption(panel, "Kept: means, masks and $Q$. Sent back: one gradient $R$.")


def _spike_train(panel: Axes, layer: int, colour: str) -> None:
    """Draw the spike train of a layer: one box per timestep."""
    middle = layer * LEVEL + HEIGHT / 2
    panel.text(-0.15, middle, f"layer ${LAYERS[layer]}$", ha="right", va="center", fontsize=9.5)
    for step, x in zip(STEPS, (PITCH * (i + 0.5) for i in range(len(STEPS))), strict=True):
        if step is None:
            panel.text(x, middle, "···", ha="center", va="center", fontsize=14, color=TEXT)
        else:
            _box(panel, x, layer, colour, f"$s_{step}$")


def _places() -> list[tuple[str, float]]:
    """Return the steps of a spike train and where their boxes stand, without the ellipsis."""
    return [(step, PITCH * (i + 0.5)) for i, step in enumerate(STEPS) if step is not None]


def _box(
    panel: Axes,
    x: float,
    layer: int,
    colour: str,
    label: str,
    width: float = WIDTH,
    size: float = 11,
) -> None:
    panel.add_patch(Rectangle((x - width / 2, layer * LEVEL), width, HEIGHT, color=colour))
    style = {"ha": "center", "va": "center", "fontsize": size, "linespacing": 1.05}
    style["color"] = "white" if colour == KEPT else "black"
    panel.text(x, layer * LEVEL + HEIGHT / 2, label, **style)


def _between(panel: Axes, x: float, layer: int, up: bool) -> None:
    """Draw an arrow at `x` between the layer below and `layer`."""
    low, high = (layer - 1) * LEVEL + HEIGHT + 0.08, layer * LEVEL - 0.08
    ends = ((x, low), (x, high)) if up else ((x, high), (x, low))
    _arrow(panel, *ends, FORWARD if up else GRADIENT)


def _middle_between(layer: int) -> float:
    return (layer - 0.5) * LEVEL + HEIGHT / 2


def _label(panel: Axes, x: float, layer: int, text: str) -> None:
    """Name the gradient that travels at `x` from `layer` to the layer below."""
    panel.text(x, _middle_between(layer), text, color=GRADIENT, va="center", ha="center")


def _arrow(panel: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0, "lw": 1.2}
    panel.add_patch(FancyArrowPatch(start, end, color=colour, **style))


def _title(panel: Axes, text: str) -> None:
    panel.text(0.1, 2 * LEVEL + 1.1, text, fontsize=11, weight="bold", va="center")


def _caption(panel: Axes, text: str) -> None:
    panel.text(0.1, -0.6, text, fontsize=9.5, color=TEXT, va="center")


def _draw_key(panel: Axes) -> None:
    """Explain colours, arrows and symbols."""
    panel.set(xlim=(0, 100), ylim=(0, 10))
    for x, colour, text in (
        (9, KEPT, "kept for the backward pass"),
        (36, FREED, "freed after the next layer"),
    ):
        panel.add_patch(Rectangle((x, 6.7), 2.6, 2.6, color=colour))
        panel.text(x + 3.6, 8, text, va="center", fontsize=9.5)
    for x, colour, text in ((63, FORWARD, "forward"), (77, GRADIENT, "gradient")):
        _arrow(panel, (x, 8), (x + 3, 8), colour)
        panel.text(x + 4, 8, text, va="center", fontsize=9.5)
    symbols = (
        r"Each box is a tensor for one batch of samples.  $\Sigma_t$: sums over time.  "
        "$R$: one gradient for all T steps.\n"
        "$Q$: covariance over time of a layer's input and output, as large as its weight."
    )
    panel.text(9, 3, symbols, va="center", fontsize=9.5, linespacing=1.4)


def main() -> None:
    """Write the figure to the file that the command line names."""
    draw().savefig(build_parser().parse_args().out, dpi=180)


if __name__ == "__main__":
    main()
