"""The names a user types, each bound to one builder."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from torch import nn

from models.setting import NeuronSetting

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {}


class UnknownModel(ValueError):
    """A model name that nothing is registered under."""


def register(name: str) -> Callable[[Builder], Builder]:
    """Decorator: make a builder known as `name`; raises `ValueError` for a name already taken."""

    def add(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a model named {name} is registered already")
        _BUILDERS[name] = builder
        return builder

    return add


def list_models(prefix: str = "") -> list[str]:
    """All registered names that begin with `prefix`, sorted."""
    return sorted(name for name in _BUILDERS if name.startswith(prefix))


def unknown(name: str, known: list[str]) -> str:
    """The line that names the nearest of `known`, and all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown model {name!r}; did you mean {near[0]}? known: {', '.join(known)}"


def create_model(
    name: str,
    setting: NeuronSetting,
    num_classes: int = 10,
    dropout: float | None = None,
) -> nn.Module:
    """Build the network registered as `name`; `dropout=None` takes the network's own default.

    Raises `UnknownModel` with the known names and the nearest one.
    """
    if name not in _BUILDERS:
        raise UnknownModel(unknown(name, list_models()))
    builder = _BUILDERS[name]
    if dropout is None:
        return builder(setting, num_classes=num_classes)
    if name.startswith("preresnet_"):
        raise ValueError(f"--dropout: {name} has no dropout; leave the flag out")
    return builder(setting, num_classes=num_classes, dropout=dropout)
