"""What all spiking networks do beside computing: thresholds, firing rates, precision, input."""

from __future__ import annotations

import copy

import pytest
import torch

from models import NeuronSetting, create_model
from models.neuron import IFNeuron, LIFNeuron
from tests.models.networks import SPIKING, images, network, step


@pytest.mark.parametrize("engine", ["folded", "unrolled"])
def test_thresholds_are_projected_in_place_before_each_forward(engine: str) -> None:
    for mode in (True, False):
        model = network("preresnet.resnet18_if", 2, Vth_bound=0.3).train(mode)
        model.configure(engine=engine)
        for i, neuron in enumerate(model.neurons().values()):
            neuron.Vth.data.fill_((-1.0, 0.1, 0.3, 0.7)[i % 4])
        model(images("preresnet.resnet18_if", 2, 2))
        expected = [(0.3, 0.3, 0.3, 0.7)[i % 4] for i in range(len(model.neurons()))]
        actual = [neuron.Vth.item() for neuron in model.neurons().values()]
        assert actual == pytest.approx(expected, rel=1e-12)


def test_a_threshold_at_its_floor_gets_gradient() -> None:
    model = network("preresnet.resnet18_if", 3, Vth_bound=0.5)
    model.relu1.Vth.data.fill_(0.1)
    assert step(model, images("preresnet.resnet18_if", 3, 3)).grads["relu1.Vth"].abs() > 0


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_firing_rates_are_shares_of_steps_with_a_spike(name: str) -> None:
    model = network(name, 4, rate_stat=True)
    rates = {}
    for engine in ("folded", "unrolled"):
        model.configure(engine=engine)
        model.eval().reset_firing_rates()
        with torch.no_grad():
            for batch in (1, 3):  # layers are averaged over all samples, not over batches
                model(images(name, 4, batch))
        rates[engine] = model.firing_rates()
    assert rates["folded"] == rates["unrolled"]
    assert list(rates["folded"]) == list(model.neurons())
    assert 0 < min(rates["folded"].values()) <= max(rates["folded"].values()) < 1


def test_firing_rate_of_a_known_train() -> None:
    setting = NeuronSetting(timesteps=4, Vth=1.0, alpha=1.0, rate_stat=True)
    neuron = IFNeuron(setting).eval()
    neuron(torch.tensor([0.5, 1.0, 0.0]).repeat(4, 1))  # 2, 4 and 0 spikes in 4 steps
    assert neuron.rate() == (6, 12)
    neuron.train()(torch.ones(4, 3))
    assert neuron.rate() == (6, 12)


def test_names_of_neuron_layers() -> None:
    names = list(network("preresnet.resnet18_if", 1).neurons())
    assert names[:2] == ["layer1[0].relu1", "layer1[0].relu2"]
    assert names[-3:] == ["relu1", "relu2", "relu3"]


def test_fixed_thresholds_are_no_keys_but_move_with_the_module() -> None:
    neuron = LIFNeuron(NeuronSetting(train_Vth=False))
    assert list(neuron.state_dict()) == []
    assert neuron.double().Vth.dtype == torch.float64


def test_unrolled_bf16_gives_float32_logits() -> None:
    model = network("preresnet.resnet18_lif", 2).float()
    model.configure(engine="unrolled", precision="bf16")
    if model.choice.precision != "bf16":
        pytest.skip("this processor has no bf16 arithmetic")
    assert model(images("preresnet.resnet18_lif", 2, 2).float()).dtype == torch.float32


@pytest.mark.parametrize("name", SPIKING)
def test_a_network_can_be_copied_and_moved(name: str) -> None:
    model = create_model(name, NeuronSetting(timesteps=2), num_classes=3)
    twin = copy.deepcopy(model).double()
    assert {p.dtype for p in twin.parameters()} == {torch.float64}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("engine", ["folded", "unrolled"])
def test_a_step_on_cuda_does_not_wait_for_the_host(engine: str) -> None:
    model = network("preresnet.resnet18_lif", 3).float().cuda()
    model.configure(engine=engine)
    x = images("preresnet.resnet18_lif", 3, 4).float().cuda()
    labels = torch.zeros(4, dtype=torch.long, device="cuda")
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.nn.functional.cross_entropy(model(x), labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_networks_with_dropout_evaluate_folded_and_train_unrolled() -> None:
    model = network("vgg.vgg11_if", 2, dropout=0.1)
    notes = model.configure()
    assert len(notes) == 1 and "dropout" in notes[0]
    assert isinstance(model.train().present(images("vgg.vgg11_if", 2, 1)), torch.Tensor)
    assert not isinstance(model.eval().present(images("vgg.vgg11_if", 2, 1)), torch.Tensor)
    model.configure(engine="unrolled")
    assert isinstance(model.eval().present(images("vgg.vgg11_if", 2, 1)), torch.Tensor)


def test_second_derivatives_are_refused() -> None:
    model = network("preresnet.resnet18_if", 2)
    logits = model(images("preresnet.resnet18_if", 2, 2))
    (grad,) = torch.autograd.grad(logits.sum(), [model.linear.weight], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        grad.sum().backward()
