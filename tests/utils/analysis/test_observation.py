"""Counts of an observation, against spike trains counted by plain loops."""

import pytest
import torch

from models.recording.recorder import Recorder
from models.recording.synapses import Synapses
from tests.models.recording.counted_net import (
    TIMESTEPS,
    count_operations,
    counted_net,
    input_images,
    spike_trains,
)
from utils.analysis.measurements import merge
from utils.analysis.observation import FanOut, Observation

LABELS = torch.tensor([0, 1, 2, 1])


def observed(engine, images, parts=(4,), kind="if"):
    """Return the measurements of batches of these sizes."""
    observation = Observation(Recorder(counted_net(kind, engine)))
    for batch, labels in zip(images.split(parts), LABELS.split(parts), strict=True):
        observation.add(batch, labels)
    return observation.measurements()


@pytest.fixture(params=["folded", "unrolled"])
def engine(request):
    return request.param


@pytest.mark.parametrize("inputs", ["images", "frames"])
@pytest.mark.parametrize("kind", ["if", "lif"])
def test_counts_are_those_of_the_spike_trains(engine, inputs, kind):
    images = input_images(inputs)
    m = observed(engine, images, parts=(3, 1), kind=kind)
    trains = spike_trains(counted_net(kind, "unrolled"), images)
    assert list(m.layers) == list(trains)
    for layer, train in trains.items():  # (T, N, ...)
        sums, per_image = m.layers[layer], train.sum(0)
        assert sums.images == 4 and sums.neurons == train[0, 0].numel()
        assert sums.spikes == train.sum() and sums.rate == train.sum() / train.numel()
        assert sums.spikes_per_step.tolist() == train.flatten(1).sum(1).tolist()
        assert torch.equal(sums.has_fired, train.any(0).any(0))
        assert sums.silent == (per_image == 0).sum()
        assert sums.saturated == (per_image == TIMESTEPS).sum()
    expected = count_operations(trains)
    assert torch.equal(m.operations, sum(expected.values()))
    counted = {s.layer: s.operations for s in m.synapses if s.spiking}
    assert counted == {layer: int(count.sum()) for layer, count in expected.items()}


def test_the_first_layer_is_presented_an_image_once_and_frames_at_every_step(engine):
    for inputs, times in (("images", 1), ("frames", TIMESTEPS)):
        first, *others = observed(engine, input_images(inputs)).synapses
        assert (first.layer, first.spiking, first.presentations) == ("conv1", False, times)
        assert all(s.spiking and s.presentations == TIMESTEPS for s in others)


def test_predictions_and_confidences_are_those_of_the_output(engine):
    images, network = input_images(), counted_net("lif", engine)
    m = observed(engine, images, parts=(1, 3), kind="lif")
    with torch.no_grad():
        output = network(images).softmax(1)
    torch.testing.assert_close(m.confidences[-1], output.amax(1))
    sure = output.topk(2).values.diff(dim=1)[:, 0].abs() > 1e-9
    assert torch.equal(m.predictions[-1][sure], output.argmax(1)[sure])


@pytest.mark.parametrize("shape", [(4,), (4, 3, 2), (4, 5)])
@pytest.mark.parametrize("alike", [True, False])
def test_fan_outs_may_differ_between_channels(shape, alike):
    generator = torch.Generator().manual_seed(0)
    fired = torch.rand(2, 3, *shape, generator=generator) > 0.5
    fan_out = torch.randint(1, 9, shape, generator=generator)
    fan_out = fan_out[:1].expand(shape) if alike else fan_out
    synapses = [Synapses("a", 0, {"n": fan_out}), Synapses("b", 0, {"n": 2 * fan_out})]
    counter = FanOut("n", [*synapses, Synapses("c", 0)])
    expected = (fired * fan_out).flatten(2).sum(2)
    assert counter.alike == alike
    assert torch.equal(counter.count(fired).long(), 3 * expected)
    assert {k: int(v) for k, v in counter.totals.items()} == {
        "a": int(expected.sum()),
        "b": 2 * int(expected.sum()),
    }


def test_the_engines_measure_the_same():
    assert_equal(*(observed(engine, input_images()) for engine in ("folded", "unrolled")))


def test_ranks_measure_together_what_one_process_measures(engine):
    images = input_images()
    network = Recorder(counted_net("if", engine))
    parts = []
    for batch, labels in zip(images.split((3, 1)), LABELS.split((3, 1)), strict=True):
        rank = Observation(network)
        rank.add(batch, labels)
        parts.append(rank.measurements())
    assert_equal(merge(parts), observed(engine, images))


def test_a_rank_without_images_measures_nothing(engine):
    assert Observation(Recorder(counted_net("if", engine))).measurements() is None


def assert_equal(a, b):
    """Assert that measurements are equal: counts exactly, other numbers but for rounding."""
    assert a.synapses == b.synapses and list(a.layers) == list(b.layers)
    for name, sums in a.layers.items():
        other = b.layers[name]
        assert (sums.spikes, sums.silent, sums.saturated) == (
            other.spikes,
            other.silent,
            other.saturated,
        )
        assert torch.equal(sums.has_fired, other.has_fired)
        assert torch.equal(sums.spikes_per_step, other.spikes_per_step)
        for key in ("error", "squared_error", "squared_ideal"):
            expected = pytest.approx(getattr(other, key), rel=1e-9, abs=1e-12)
            assert getattr(sums, key) == expected
    for key in ("labels", "predictions", "operations", "ideal_predictions"):
        assert torch.equal(getattr(a, key), getattr(b, key)), key
    torch.testing.assert_close(a.confidences, b.confidences)
