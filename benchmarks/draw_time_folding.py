"""Draws the figure of the README's section "Method".

python benchmarks/draw_time_folding.py docs/time_folding.png
"""

from __future__ import annotations

import sys

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

STEPS, LAYERS = 6, 3
TRAIN, KEPT, GRADIENT = "#81c3d7", "#16425b", "#c9582b"


def main(path: str) -> None:
    figure = Figure(figsize=(9, 3.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_unrolled(left)
    _draw_folded(right)
    for panel in (left, right):
        panel.set_xlim(-1.5, STEPS + 2.9)
        panel.set_ylim(-1.0, 2 * LAYERS - 0.5)
        panel.axis("off")
    figure.savefig(path, dpi=140)


def _draw_unrolled(panel: Axes) -> None:
    panel.set_title("autograd: all trains stay, gradients are trains too", loc="left", fontsize=10)
    for layer in range(LAYERS):
        _train(panel, layer, KEPT)
        if layer:
            _forward(panel, layer)
            for step in range(STEPS):
                x = step + 1.1
                _arrow(panel, x, 2 * layer - 0.05, x, 2 * layer - 1.15, GRADIENT)
    _legend(panel, "kept for backward: T x N a layer")


def _draw_folded(panel: Axes) -> None:
    panel.set_title("folded: trains pass, batch N goes back", loc="left", fontsize=10)
    for layer in range(LAYERS):
        _train(panel, layer, TRAIN)
        panel.add_patch(Rectangle((STEPS + 1.3, 2 * layer), 0.75, 0.8, color=KEPT))
        panel.text(STEPS + 1.67, 2 * layer + 0.4, "N", color="white", ha="center", va="center")
        if layer:
            _forward(panel, layer)
            _arrow(panel, STEPS + 1.67, 2 * layer - 0.05, STEPS + 1.67, 2 * layer - 1.15, GRADIENT)
            panel.text(STEPS + 1.85, 2 * layer - 0.6, "R", color=GRADIENT, va="center")
            label = {"ha": "center", "va": "center", "fontsize": 9, "color": KEPT}
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            panel.text(STEPS / 2 + 0.6, 2 * layer - 0.6, "Q, a weight's size", bbox=box, **label)
    _legend(panel, "kept for backward: means, masks, counts (N), Q")


def _train(panel: Axes, layer: int, colour: str) -> None:
    """A train of STEPS batches, one after the other in time."""
    for step in range(STEPS):
        panel.add_patch(Rectangle((step + 0.5, 2 * layer), 0.85, 0.8, color=colour))
        style = {"ha": "center", "va": "center", "fontsize": 9}
        style["color"] = "white" if colour == KEPT else "black"
        panel.text(step + 0.92, 2 * layer + 0.4, f"$s_{step + 1}$", **style)
    panel.text(0.3, 2 * layer + 0.4, f"layer {layer + 1}", ha="right", va="center", fontsize=9)


def _legend(panel: Axes, kept: str) -> None:
    panel.add_patch(Rectangle((0.5, -0.85), 0.4, 0.4, color=KEPT))
    panel.text(1.05, -0.65, kept, va="center", fontsize=9)
    hint = "forward in black, gradients in orange; time runs to the right"
    panel.text(0.5, 2 * LAYERS - 0.85, hint, fontsize=8, va="center", color="#555555")


def _forward(panel: Axes, layer: int) -> None:
    for step in range(STEPS):
        _arrow(panel, step + 0.75, 2 * layer - 1.15, step + 0.75, 2 * layer - 0.05, "black")


def _arrow(panel: Axes, x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
    panel.add_patch(
        FancyArrowPatch((x0, y0), (x1, y1), arrowstyle="-|>", mutation_scale=9, color=colour)
    )


if __name__ == "__main__":
    main(sys.argv[1])
