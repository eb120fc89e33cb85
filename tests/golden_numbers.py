"""The golden numbers, and the rule that fills a network's weights for them (tests/golden)."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models import NeuronSetting

FOLDER = Path(os.environ.get("DSR_GOLDEN") or Path(__file__).parent / "golden")


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        return dict(archive)


def keys() -> dict[str, dict[str, list[int]]]:
    return json.loads((FOLDER / "state_dict_keys.json").read_text())


def setting(golden: dict[str, np.ndarray]) -> NeuronSetting:
    return NeuronSetting(**json.loads(str(golden["setting"])))


@torch.no_grad()
def fill(model: nn.Module, salt: int, Vth: float) -> None:
    """Give every entry of the state dict its value by name, the same on every side."""
    for key, entry in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        g = np.random.default_rng([zlib.crc32(key.encode()), salt])
        shape = tuple(entry.shape)
        if not shape:
            value = np.array(Vth * g.uniform(0.5, 1.5))
        elif len(shape) >= 2:
            value = g.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif key.endswith("running_mean"):
            value = 0.1 * g.standard_normal(shape)
        elif key.endswith(("running_var", ".weight")):
            value = g.uniform(0.5, 1.5, shape)
        else:
            value = 0.2 * g.standard_normal(shape)
        entry.copy_(torch.from_numpy(np.asarray(value)))


def probe(key: str, a: torch.Tensor, salt: int) -> float:
    """A random projection of `a`, its direction fixed by the key."""
    g = np.random.default_rng([zlib.crc32(f"probe:{key}".encode()), salt])
    return float(np.sum(a.detach().numpy() * g.standard_normal(tuple(a.shape))))
