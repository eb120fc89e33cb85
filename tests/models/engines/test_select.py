"""The choice of an engine: defaults, errors, fallbacks, and the lines about them."""

from __future__ import annotations

import pytest
import torch

from models.engines import select
from models.engines.ops.dispatch import CompilerError, Kernels
from models.engines.select import COMPILE_PAYS, ENGINES, choose
from models.engines.unrolled import UnrolledEngine

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


@pytest.mark.parametrize("engine", [None, *ENGINES])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_line_and_the_notes_agree_on_exactness(engine: str | None, dropout: float) -> None:
    choice = choose(4, CPU, engine=engine, dropout=dropout)
    approximate = engine == "rate" or (engine == "folded" and dropout > 0)
    assert ("APPROXIMATE" in choice.line()) == approximate
    assert ("exact" in choice.line()) == (not approximate)
    assert any("approximate" in note for note in choice.notes) == (
        engine in ("folded", "rate") and dropout > 0
    )
    assert isinstance(choice.training, UnrolledEngine) == (choice.name == "unrolled")
    assert isinstance(choice.evaluation, UnrolledEngine) == (engine == "unrolled")


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
