"""The choice of an engine: defaults, refusals, fallbacks, and what is told of them."""

from __future__ import annotations

import pytest
import torch

from models.engines import select
from models.engines.ops.dispatch import CompilerError, Kernels
from models.engines.select import COMPILE_PAYS, choose

CPU = torch.device("cpu")


def test_defaults() -> None:
    choice = choose(4, CPU)
    assert (choice.name, choice.precision, choice.compiled) == ("folded", "fp32", False)
    assert choice.notes == () and choice.line() == "engine folded (exact), precision fp32"


@pytest.mark.parametrize(
    "value", [{"engine": "fast"}, {"precision": "fp16"}, {"compile": "yes"}], ids=str
)
def test_unknown_values_are_named(value: dict) -> None:
    (flag, word), *_ = value.items()
    with pytest.raises(ValueError, match=f"^--{flag} must be one of .*, got {word}$"):
        choose(4, CPU, **value)


def test_the_approximate_engine_says_so() -> None:
    choice = choose(4, CPU, engine="rate")
    assert "APPROXIMATE" in choice.line() and choice.training.approximate


def test_bf16_falls_back_with_a_line(monkeypatch) -> None:
    monkeypatch.setattr(select, "has_bf16", lambda device: False)
    choice = choose(4, CPU, precision="bf16")
    assert choice.precision == "fp32" and choice.training.dtype is None
    assert len(choice.notes) == 1 and "--precision bf16" in choice.notes[0]


def test_no_compiler_falls_back_with_a_line(monkeypatch) -> None:
    def fail(device):
        raise CompilerError("no g++")

    monkeypatch.setattr(select, "compiled", fail)
    choice = choose(4, CPU, compile="on")
    assert not choice.compiled and choice.notes == (
        "--compile on: no working compiler (no g++); continuing without",
    )


def test_auto_compiles_runs_that_are_long_enough(monkeypatch) -> None:
    monkeypatch.setattr(select, "compiled", lambda device: Kernels())
    for device, pays in ((CPU, COMPILE_PAYS["cpu"]), (torch.device("mps"), 50_000)):
        assert not choose(4, device, image_steps=pays - 1).compiled
        assert choose(4, device, image_steps=pays).compiled
        assert not choose(4, device, image_steps=pays, compile="off").compiled
        assert not choose(4, device, image_steps=pays, engine="unrolled").compiled
