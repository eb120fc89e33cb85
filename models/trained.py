"""The network that a checkpoint was written for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.registry import create_model
from models.setting import NeuronSetting
from models.user_networks import build_on_meta

_FACTS = ("setting", "num_classes")


def network_name(content: Mapping[str, Any]) -> str | None:
    """Return the registered name that a checkpoint's `content` holds; `None` if it holds none."""
    return content.get("model", content.get("arch"))


def build_network(content: Mapping[str, Any]) -> nn.Module:
    """Return the network that a checkpoint's `content` describes, without its weights.

    Raises `ValueError` for content that does not say enough, as that of the published code, and
    for a network that is not registered.
    """
    name = network_name(content)
    if name is None or any(fact not in content for fact in _FACTS):
        raise ValueError(
            "it does not say its network, classes and neuron setting; resume it with the training "
            "program for an epoch, which writes a checkpoint that does"
        )
    try:
        setting = NeuronSetting(**content["setting"])
        build_on_meta(name, setting)  # tells what is wrong with a network of the user's own
        return create_model(name, setting, num_classes=int(content["num_classes"]))
    except TypeError as error:
        raise ValueError(f"damaged or of another version ({error})") from error
