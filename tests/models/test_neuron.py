"""Neuron layers by themselves: their input, constants, thresholds and firing rate."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import IFNeuron, LIFNeuron, NeuronSetting
from models.dynamics import weighted_mean

NEURONS = pytest.mark.parametrize("neuron", [IFNeuron, LIFNeuron])


@NEURONS
def test_constants_by_keyword(neuron) -> None:
    setting = NeuronSetting(timesteps=4, Vth=0.3, alpha=0.7, Vth_bound=0.2)
    layers = (
        neuron(setting),
        neuron(timesteps=4, alpha=0.7, Vth_bound=0.2),
        neuron(NeuronSetting(timesteps=4, alpha=0.7), Vth_bound=0.2),
    )
    for layer in layers:
        assert (layer.dynamics, layer.Vth_bound) == (layers[0].dynamics, 0.2)
        assert layer.Vth.item() == pytest.approx(0.3)
    assert neuron().dynamics == neuron(NeuronSetting()).dynamics
    with pytest.raises(TypeError, match="threshold"):
        neuron(threshold=1.0)


@NEURONS
@pytest.mark.parametrize("shape", [(8, 5), (4, 5), (8, 3, 5), (3, 4, 5), (4,)])
def test_a_batch_is_not_taken_for_time(neuron, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expects \(T, N, \.\.\.\).* T = 4 .*merged=True"):
        neuron(timesteps=4)(torch.rand(shape))


@NEURONS
@pytest.mark.parametrize("shape", [(7, 5), (8,)])
def test_merged_time_and_batch_must_be_a_multiple_of_time(neuron, shape) -> None:
    with pytest.raises(ValueError, match=r"\(T\*N, \.\.\.\), got"):
        neuron(timesteps=4, merged=True)(torch.rand(shape))


@NEURONS
def test_merged_or_not_is_the_same(neuron) -> None:
    z = torch.rand(4, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    apart, merged = neuron(timesteps=4), neuron(timesteps=4, merged=True)
    s = apart(z)
    assert s.shape == z.shape and s.any()
    assert torch.equal(merged(z.flatten(0, 1)), s.flatten(0, 1))
    expected = weighted_mean(s, apart.dynamics)
    assert torch.equal(apart.representation(s), expected)
    assert torch.equal(merged.representation(s.flatten(0, 1)), expected)


def test_amplitudes() -> None:
    z = torch.full((4, 1, 1), 10.0)
    assert IFNeuron(timesteps=4, Vth=0.5)(z).unique().tolist() == [0.5]
    assert LIFNeuron(timesteps=4, Vth=0.5, delta_t=0.25)(z).unique().tolist() == [2.0]


class PlainNet(nn.Module):
    """Linear layers and neurons on inputs `(N, features)`, which are presented T times."""

    def __init__(self, neuron, T: int) -> None:
        super().__init__()
        self.T = T
        self.hidden, self.neuron = nn.Linear(8, 32), neuron(timesteps=T, Vth=0.3)
        self.output, self.readout = nn.Linear(32, 2), neuron(timesteps=T, Vth=0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.expand(self.T, *x.shape)  # (T, N, 8)
        s = self.readout(self.output(self.neuron(self.hidden(x))))
        return self.readout.representation(s)


@NEURONS
def test_a_plain_training_loop(neuron) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    labels = (x[:, 0] > x[:, 1]).long()
    model = PlainNet(neuron, T=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (model(x).argmax(1) == labels).float().mean() > 0.9


def test_thresholds_are_raised_to_their_floor_at_each_call() -> None:
    neuron = IFNeuron(timesteps=4, Vth=0.1, Vth_bound=0.3)
    neuron(torch.rand(4, 1, 1))
    assert neuron.Vth.item() == pytest.approx(0.3)


def test_firing_rate_of_a_known_spike_train() -> None:
    neuron = IFNeuron(timesteps=4, Vth=1.0, alpha=1.0, rate_stat=True).eval()
    neuron(torch.tensor([[0.5, 1.0, 0.0]]).repeat(4, 1, 1))  # 2, 4 and 0 spikes in 4 steps
    assert neuron.rate() == (6, 12)
    neuron.train()(torch.ones(4, 1, 3))
    assert neuron.rate() == (6, 12)


def test_fixed_thresholds_are_no_keys_but_move_with_the_module() -> None:
    neuron = LIFNeuron(train_Vth=False)
    assert list(neuron.state_dict()) == []
    assert neuron.double().Vth.dtype == torch.float64
