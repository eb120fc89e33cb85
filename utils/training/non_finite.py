"""Find the first layer whose output is not finite."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from utils.system import random_state

GRADIENT = "all outputs are finite, the gradient of"


@torch.no_grad()
def first_not_finite(model: nn.Module, images: Tensor, parameters: Collection[str] = ()) -> str:
    """Describe what is not finite first: `images`, the output of a layer of `model`, a gradient.

    `parameters` are the names of those whose gradients are not finite.

    Repeats the forward pass, in spiking networks with the unrolled engine: the folded one computes
    no layer's output at every timestep. The running statistics are updated once more.
    """
    if not images.isfinite().all():
        return "the images are not finite"
    found: list[str] = []
    state = random_state.capture(images.device)
    with _unrolled(model), _checked_layers(model, found):
        model(images)
    random_state.restore(state, images.device)
    if found:
        return f"the output of layer {found[0]} is the first that is not finite"
    for name, _ in reversed(list(model.named_parameters())):
        if name in parameters:
            return f"{GRADIENT} {name} is not"
    return "outputs and gradients are finite, the loss or the sum of squared gradients is not"


@contextmanager
def _checked_layers(model: nn.Module, found: list[str]) -> Iterator[None]:
    """Within the block, append to `found` the names of layers whose outputs are not finite."""

    def check(name: str):
        def hook(layer: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return hook

    layers = ((name, layer) for name, layer in model.named_modules() if not any(layer.children()))
    hooks = [layer.register_forward_hook(check(name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _unrolled(model: nn.Module) -> Iterator[None]:
    """Within the block, compute a spiking network with the unrolled engine."""
    choice = getattr(model, "choice", None)
    if hasattr(model, "setting"):
        model.configure(engine="unrolled", precision=choice.precision, compile="off")
    try:
        yield
    finally:
        if choice is not None:
            model.choice = choice
