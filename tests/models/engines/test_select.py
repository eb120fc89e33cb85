"""The choice of an engine: defaults, errors, fallbacks, and the lines about them."""

from __future__ import annotations

import pytest
import torch

from models.engines import select
from models.engines.ops.dispatch import CompilerError, Kernels
from models.engines.ops.sparse import event_driven
from models.engines.ops.sparse.event_driven import Crossings, crossings_here
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


def test_convolutions_of_spikes_are_event_driven_where_passes_are_compiled(monkeypatch) -> None:
    monkeypatch.setattr(select, "compiled", lambda device: Kernels())
    monkeypatch.setattr(select.events, "verify", lambda: None)
    monkeypatch.setattr(select, "crossings_here", lambda dtype: Crossings(0.25, 0.5, "AVX"))
    choice = choose(4, CPU, compile="on")
    assert choice.training.crossings == choice.evaluation.crossings == Crossings(0.25, 0.5, "AVX")
    assert choice.line() == (
        "engine folded (exact, compiled, event-driven up to firing rates of 25% (AVX)), "
        "precision fp32"
    )
    for other in (
        choose(4, CPU, compile="off"),
        choose(4, CPU, compile="on", event_driven="never"),
        choose(4, CPU, compile="on", engine="unrolled"),
        choose(4, torch.device("meta"), compile="on"),
    ):
        assert other.training.crossings is None if other.name == "folded" else not other.events
        assert "event-driven" not in other.line()


def test_a_compiler_that_fails_on_events_leaves_them_dense(monkeypatch) -> None:
    def fail():
        raise CompilerError("no g++")

    monkeypatch.setattr(select, "compiled", lambda device: Kernels())
    monkeypatch.setattr(select.events, "verify", fail)
    choice = choose(4, CPU, compile="on")
    assert choice.compiled and choice.training.crossings is None
    assert choice.notes == ("convolutions of spikes are dense: no working compiler (no g++)",)


@pytest.mark.parametrize("capability", ["AVX2", "AVX512", "DEFAULT"])
def test_crossings_of_processors(capability: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = crossings_here(torch.float32)
    assert 0 < found.forward <= found.weight_grad < 1
    for tiles in (True, False):
        monkeypatch.setattr(event_driven, "has_tiles", lambda tiles=tiles: tiles)
        assert (crossings_here(torch.bfloat16) is None) == tiles
