"""The neuron setting: values from flags, and values out of range."""

from __future__ import annotations

from argparse import Namespace

import pytest

from models import NeuronSetting


def test_from_args_takes_the_flags_of_the_same_names() -> None:
    flags = {"timesteps": 5, "Vth": 6.0, "tau": 2.0, "delta_t": 0.1, "alpha": 0.5}
    args = Namespace(**flags, train_Vth=0, Vth_bound=0.01, rate_stat=1, epochs=3)
    setting = NeuronSetting.from_args(args)
    assert setting == NeuronSetting(**flags, train_Vth=False, Vth_bound=0.01, rate_stat=True)
    assert setting.train_Vth is False


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("timesteps", 0),
        ("timesteps", -3),
        ("Vth", -0.3),
        ("Vth", 0.0),
        ("Vth", float("nan")),
        ("tau", 0.0),
        ("delta_t", -0.05),
        ("alpha", float("inf")),
        ("Vth_bound", -0.1),
    ],
)
def test_values_out_of_range_are_named(flag: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^--{flag} must be"):
        NeuronSetting(**{flag: value})
