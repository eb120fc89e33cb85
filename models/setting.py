"""The neuron setting of a network, and the one translation from command-line flags to it."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class NeuronSetting:
    """What every neuron layer of a network shares (cli.md's neuron flags, their CIFAR defaults).

    `timesteps` T; `Vth` initial threshold; `tau`, `delta_t` time constant and step of LIF in the
    same unit; `alpha` share of the threshold at which a neuron fires; `train_Vth` whether
    thresholds are parameters; `Vth_bound` their floor; `rate_stat` whether evaluation records
    firing rates. Raises `ValueError` naming the flag when a value makes no sense.
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
        """The setting in the flags of the same names (`--train_Vth`, `--rate_stat` are 0 or 1)."""
        values = {field.name: getattr(args, field.name) for field in fields(cls)}
        flags = ("train_Vth", "rate_stat")
        return cls(**{name: bool(v) if name in flags else v for name, v in values.items()})
