"""Event-driven convolutions and weight gradients against torch's dense ones."""

from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import NeuronSetting
from models.dynamics import Dynamics
from models.engines.ops import native_build, reference
from models.engines.ops.native_build import CompilerError
from models.engines.ops.reference import Affine
from models.engines.ops.sparse import events
from models.engines.ops.sparse.events import Current, Options

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def convolutions(draw) -> tuple[Tensor, Tensor, Tensor | None, Options, bool]:
    """An input, a weight, perhaps a bias, options, and whether the input is binary."""
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    options = Options(draw(pairs), padding, draw(pairs))
    size = [  # at least one pixel of output
        draw(st.integers(max(1, (k - 1) * gap + 1 - 2 * pad), 20))
        for k, pad, gap in zip(kernel, padding, options.dilation, strict=True)
    ]
    batch, channels, outputs = draw(
        st.tuples(
            st.integers(0, 4),
            st.sampled_from([1, 3, 8, 17, 64, 130]),
            st.sampled_from([1, 5, 9, 16, 33, 70]),
        )
    )
    binary, rate = draw(st.booleans()), draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (batch, channels, *size)
    p = torch.rand(shape, generator=g) < rate
    p = p if binary else p * torch.randint(256, shape, generator=g)
    weight = torch.randn(outputs, channels, *kernel, generator=g, dtype=torch.float64)
    if draw(st.booleans()):
        weight = weight.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(outputs, generator=g, dtype=torch.float64) if draw(st.booleans()) else None
    p = p.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    return p, weight, bias, options, binary


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    scale = expected.abs().max().clamp(min=1) if expected.numel() else 1.0
    assert actual.shape == expected.shape
    torch.testing.assert_close(actual / scale, expected / scale, rtol=0, atol=tolerance)


@settings(max_examples=150)
@given(convolutions())
def test_equal_to_dense(case) -> None:
    p, weight, bias, options, binary = case
    assert events.offered(p, weight.shape[2:], options, weight.dtype)
    y = events.conv2d(p, weight, bias, options, binary)
    expected = events.conv2d_dense(p, weight, bias, options)
    assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    dy = torch.randn(expected.shape, dtype=torch.float64)
    dw = events.conv2d_weight(p, weight.shape, dy, options, binary)
    assert_close(dw, events.conv2d_weight_dense(p, weight.shape, dy, options))


def layer(rate: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Options]:
    """A spike train, a weight and options of about the size of a layer, in several chunks."""
    g = torch.Generator().manual_seed(3)
    p = (torch.rand(6, 70, 33, 31, generator=g) < rate).to(torch.uint8)
    weight = torch.randn(80, 70, 3, 3, generator=g, dtype=dtype)
    return p.contiguous(memory_format=torch.channels_last), weight, Options((1, 1), (1, 1))


@pytest.mark.parametrize("rate", [0.05, 1.0])
def test_float32(rate: float) -> None:
    p, weight, options = layer(rate)
    y = events.conv2d(p, weight, None, options, binary=True)
    expected = events.conv2d_dense(p, weight.double(), None, options)
    assert_close(y.double(), expected, 1e-5)
    dw = events.conv2d_weight(p, weight.shape, y, options, binary=True)
    expected = events.conv2d_weight_dense(p, weight.shape, y.double(), options)
    assert_close(dw.double(), expected, 1e-5)


def test_the_number_of_threads_changes_nothing() -> None:
    p, weight, options = layer(0.1)
    results, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            current = Current(p, weight, None, options, True, steps=3)
            y, statistics = events.compute_with_statistics(current, centre=True)
            dw = events.conv2d_weight(p, weight.shape, y, options, binary=True)
            results.append((y, *statistics, dw))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


TERMS = ("alone", "after a current", "with a residual", "with bits", "with all")


def currents(terms: str, dtype: torch.dtype, outputs: int = 72) -> tuple[Current, Tensor]:
    """Return a current of three steps with these terms, and it from torch's operations."""
    g = torch.Generator().manual_seed(7)
    p = (torch.rand(6, 70, 9, 11, generator=g) < 0.1).to(torch.uint8)
    p = p.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, 70, 3, 3, generator=g, dtype=dtype)
    bias = torch.randn(outputs, generator=g, dtype=dtype)
    options = Options((2, 1), (1, 1))
    expected = events.conv2d_dense(p, weight, bias, options)
    current = Current(p, weight, bias, options, binary=True, steps=3)
    if terms in ("after a current", "with all"):
        y = torch.randn(expected.shape, generator=g, dtype=dtype)
        expected = expected + y
        current = current._replace(y=y.contiguous(memory_format=torch.channels_last))
    if terms in ("with a residual", "with bits", "with all"):
        spikes = (torch.rand(expected.shape, generator=g) < 0.2).to(torch.uint8)
        expected = expected + 0.7 * spikes.to(dtype)
        spikes = spikes.contiguous(memory_format=torch.channels_last)
        spikes = spikes if terms == "with a residual" else events.pack_bits(spikes)
        current = current._replace(residual=spikes, amplitude=0.7)
    return current, expected


def rows(a: Tensor) -> Tensor:
    return a.movedim(1, -1).reshape(3, -1, a.shape[1])


@pytest.mark.parametrize("terms", TERMS)
def test_terms_of_a_current(terms: str) -> None:
    current, expected = currents(terms, torch.float64)
    assert_close(events.compute(current), expected)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("centre", [True, False])
def test_statistics_of_a_current(terms: str, centre: bool) -> None:
    current, expected = currents(terms, torch.float64)
    y, statistics = events.compute_with_statistics(current, centre)
    reference_y = rows(expected).clone()
    reference_statistics = reference.statistics_(reference_y, centre)
    assert_close(rows(y), reference_y)
    assert_close(statistics.mean, reference_statistics.mean)
    assert_close(statistics.var, reference_statistics.var)
    assert (statistics.time_mean is None) == (not centre)
    if centre:
        assert_close(statistics.time_mean, reference_statistics.time_mean)


DYNAMICS = (Dynamics.integrate_and_fire, Dynamics.leaky_integrate_and_fire)


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("make", DYNAMICS, ids=("if", "lif"))
@pytest.mark.parametrize("normalised", [True, False])
def test_spikes_of_a_current_that_is_never_in_memory(terms: str, make, normalised: bool) -> None:
    current, expected = currents(terms, torch.float64)
    d = make(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))
    Vth = torch.tensor(0.5, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    affine = Affine(*torch.rand(4, 72, generator=g, dtype=torch.float64)) if normalised else None
    spikes = events.fire(current, affine, Vth, d)
    wanted = reference.spikes(rows(expected), affine, Vth, d, torch.uint8)
    assert spikes.dtype == torch.uint8 and torch.equal(rows(spikes), wanted)
    assert 0 < wanted.float().mean() < 1


@pytest.mark.parametrize("outputs", [5, 64, 72])
def test_float32_spikes_are_those_of_the_current_in_memory(outputs: int) -> None:
    current, _ = currents("alone", torch.float32, outputs)
    d = Dynamics.leaky_integrate_and_fire(NeuronSetting(timesteps=3, Vth=0.5, delta_t=0.25))
    Vth = torch.tensor(0.5)
    affine = Affine(*torch.rand(4, outputs, generator=torch.Generator().manual_seed(1)))
    y = rows(events.compute(current))
    spikes = events.fire(current, affine, Vth, d)
    assert torch.equal(rows(spikes), reference.spikes(y, affine, Vth, d, torch.uint8))


def test_rates_are_counted_in_whole_or_in_a_sample() -> None:
    p = torch.zeros(100, 64, 40, 20, dtype=torch.uint8)
    p[::2] = 3
    assert events.event_rate(p[:5]) == pytest.approx(0.6)
    assert events.event_rate(p) == pytest.approx(0.5, abs=0.05)
    assert events.event_rate(p[:0]) == 0.0


def test_integers_that_are_zeros_and_ones_equal_binary() -> None:
    p, weight, options = layer(0.1)
    for binary in (True, False):
        y = events.conv2d(p, weight, None, options, binary)
        dw = events.conv2d_weight(p, weight.shape, y, options, binary)
        if binary:
            first = y, dw
    assert torch.equal(y, first[0])
    assert torch.equal(dw, first[1])


@pytest.mark.parametrize(
    ("p", "kernel", "options", "dtype"),
    [
        (torch.zeros(1, 3, 4, 4), (3, 3), Options((1, 1), (1, 1)), torch.float32),
        (torch.zeros(1, 3, 4, 4), (3, 3), Options((1, 1), (1, 1)), torch.bfloat16),
        (torch.zeros(1, 3, 4, 3000), (3, 3), Options((1, 1), (1, 1)), torch.float32),
        (torch.zeros(1, 3, 2, 2), (3, 3), Options((1, 1), (0, 0)), torch.float32),
        (torch.zeros(1, 3, 40, 40), (3, 3), Options((1, 1), (1, 1), (9, 9)), torch.float32),
        (torch.zeros(1, 900, 9, 9), (3, 3), Options((9, 9), (1, 1)), torch.float32),
    ],
    ids=["float input", "bf16 weight", "wide", "no output", "dilation", "strides"],
)
def test_what_is_not_offered(p: Tensor, kernel, options: Options, dtype, request) -> None:
    if request.node.callspec.id != "float input":
        p = p.to(torch.uint8)
    assert not events.offered(p, kernel, options, dtype)


def test_other_orders_in_memory_are_not_offered() -> None:
    p = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    assert not events.offered(p, (3, 3), Options((1, 1), (1, 1)), torch.float32)


def test_a_compiler_that_miscomputes_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "csrc"
    shutil.copytree(events.SOURCE.parent, folder)
    header = folder / "events_gradient.h"
    header.write_text(header.read_text().replace("sum += partial", "sum -= partial"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(events, "SOURCE", folder / "events.cpp")
    events.library.cache_clear()
    events.verify.cache_clear()
    try:
        with pytest.raises(CompilerError, match="other convolutions than torch"):
            events.verify()
    finally:
        events.library.cache_clear()
        events.verify.cache_clear()
