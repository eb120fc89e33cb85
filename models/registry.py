"""The registry of networks: names of the command line, each with a builder."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from torch import nn

from models.setting import NeuronSetting

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {}


class UnknownModel(ValueError):
    """No network is registered under this name."""


def register(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a builder, a function or class, as `name`.

    The builder is called as `builder(setting, num_classes=...)`, with `dropout=...` if a
    probability is given. Raises `ValueError` if the name is taken.
    """

    def add(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a model named {name} is already registered")
        _BUILDERS[name] = builder
        return builder

    return add


def list_models(prefix: str = "") -> list[str]:
    """Return all registered names that begin with `prefix`, sorted."""
    return sorted(name for name in _BUILDERS if name.startswith(prefix))


def unknown(name: str, known: list[str]) -> str:
    """Return the line about an unknown name, with the closest known name and all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"unknown model {name!r}; did you mean {near[0]}? known: {', '.join(known)}"


def create_model(
    name: str,
    setting: NeuronSetting,
    num_classes: int = 10,
    dropout: float | None = None,
    **options,
) -> nn.Module:
    """Build the network registered as `name`; `dropout=None` takes the network's own default.

    `options` are passed to the builder, such as `width`, the channels of the first stage. Raises
    `UnknownModel` with the known names, and `ValueError` for dropout where the network has none.
    """
    if name not in _BUILDERS:
        raise UnknownModel(unknown(name, list_models()))
    builder = _BUILDERS[name]
    if dropout is not None:
        if not _takes(builder, "dropout"):
            raise ValueError(f"--dropout: {name} has no dropout; leave the flag out")
        options["dropout"] = dropout
    return builder(setting, num_classes=num_classes, **options)


def _takes(builder: Builder, option: str) -> bool:
    """Return whether a builder has a keyword argument of this name, or takes any."""
    parameters = inspect.signature(builder).parameters
    any_keyword = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return any_keyword or option in parameters
