"""The neuron setting of a network, and how it is read from command-line flags."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class NeuronSetting:
    """Constants that all neuron layers of a network share; defaults are those of the CIFAR scripts.

    `timesteps` is T, `Vth` the initial threshold, `alpha` the share of it at which a neuron fires;
    `tau` and `delta_t` are the time constant and step of LIF, in the same unit. `train_Vth` makes
    thresholds parameters, `Vth_bound` is their floor, and `rate_stat` records firing rates in
    evaluation. Raises `ValueError` naming the flag for a value out of range.
    """

    timesteps: int = 20
    Vth: float = 0.3
    tau: float = 1.0
    delta_t: float = 0.05
    alpha: float = 0.3
    train_Vth: bool = True
    Vth_bound: float = 0.0005
    rate_stat: bool = False

    def __post_init__(self) -> None:
        if self.timesteps < 1:
            raise ValueError(f"--timesteps must be at least 1, got {self.timesteps}")
        for name in ("Vth", "tau", "delta_t", "alpha"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"--{name} must be positive and finite, got {value:g}")
        if not 0 <= self.Vth_bound < float("inf"):
            raise ValueError(f"--Vth_bound must be 0 or more, got {self.Vth_bound:g}")

    @classmethod
    def from_args(cls, args: Namespace) -> NeuronSetting:
        """Return the setting in the flags of the same names, of which two are 0 or 1."""
        values = {field.name: getattr(args, field.name) for field in fields(cls)}
        flags = ("train_Vth", "rate_stat")
        return cls(**{name: bool(v) if name in flags else v for name, v in values.items()})
