"""The folded engine against its slow twin, the unrolled one: values first, then every gradient."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import NeuronSetting
from models.engines.folded import FoldedEngine
from models.engines.folded.spike_train import channels_last
from models.engines.ops.dispatch import Kernels
from models.engines.ops.dropout_mask import draw_mask
from models.engines.unrolled import UnrolledEngine
from models.network import SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron
from models.preresnet import Bottleneck, PreActResNet
from tests.models.networks import SPIKING, assert_equal_steps, distance, images, network, step


def both_engines(model: nn.Module, x: torch.Tensor):
    """One step of the same weights under either engine."""
    twin = copy.deepcopy(model)
    model.configure(engine="folded")
    twin.configure(engine="unrolled")
    return step(model, x), step(twin, x)


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("timesteps", [1, 2, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_gradient(name: str, timesteps: int, batch: int) -> None:
    model = network(name, timesteps)
    if batch == 1:
        # Over one image, batch statistics of the head leave no gradient at all to compare (it is
        # constant in time, and so subtracted with its mean), nor does a saturated class.
        next(m for m in model.modules() if isinstance(m, nn.BatchNorm1d)).eval()
        [*model.neurons().values()][-1].Vth.data.fill_(20.0)
    folded, unrolled = both_engines(model, images(name, timesteps, batch))
    assert_equal_steps(folded, unrolled)
    assert sum(g.norm() > 1e-11 for g in folded.grads.values()) > len(folded.grads) / 3


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "preresnet_snn.resnet18_if"])
def test_evaluation_mode_gradients(name: str) -> None:
    model = network(name, 3).eval()
    assert_equal_steps(*both_engines(model, images(name, 3, 2)))


@pytest.mark.parametrize("name", ["preresnet.resnet18_if", "vgg.vgg11_lif"])
def test_fixed_thresholds(name: str) -> None:
    model = network(name, 3, train_Vth=False)
    assert not any(key.endswith("Vth") for key in model.state_dict())
    assert_equal_steps(*both_engines(model, images(name, 3, 2)))


def test_frozen_weights_get_no_gradient() -> None:
    model = network("preresnet.resnet18_lif", 3)
    model.layer2.requires_grad_(False)
    model.bn1.eval()
    folded, unrolled = both_engines(model, images("preresnet.resnet18_lif", 3, 2))
    frozen = [name for name, grad in folded.grads.items() if grad is None]
    assert frozen == [name for name, grad in unrolled.grads.items() if grad is None] != []
    for name in folded.grads.keys() - frozen:
        assert distance(folded.grads[name], unrolled.grads[name]) <= 1e-10, name


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_ten_steps_of_sgd(name: str) -> None:
    x = images(name, 2, 3)
    losses = {}
    for engine in ("folded", "unrolled"):
        model = network(name, 2)
        model.configure(engine=engine)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
        losses[engine] = []
        for _ in range(10):
            losses[engine].append(step(model, x).loss)
            optimizer.step()
    assert losses["folded"] == pytest.approx(losses["unrolled"], rel=1e-8)
    assert losses["folded"][-1] < losses["folded"][0]


@pytest.mark.parametrize("name", SPIKING)
def test_evaluation(name: str) -> None:
    model = network(name, 4).eval()
    x = images(name, 4, 2)
    with torch.no_grad():
        model.configure(engine="unrolled")
        expected = model(x)
        model.configure(engine="folded")
        assert distance(model(x), expected) <= 1e-12


@pytest.mark.parametrize("neuron", [IFNeuron, LIFNeuron])
def test_bottleneck_of_the_cifar_network(neuron) -> None:
    setting = NeuronSetting(timesteps=2, Vth=0.1)
    torch.manual_seed(0)
    model = PreActResNet(Bottleneck, (1, 1, 1, 1), neuron, setting).double()
    assert_equal_steps(*both_engines(model, images("preresnet", 2, 2)))


def test_rate_engine_keeps_all_but_convolution_weights_exact() -> None:
    name = "preresnet_snn.resnet18_lif"
    model, x = network(name, 5), images(name, 5, 3)
    rate = copy.deepcopy(model)
    rate.configure(engine="rate")
    assert "APPROXIMATE" in rate.engine_line()
    approximate, (exact, _) = step(rate, x), both_engines(model, x)
    assert approximate.loss == pytest.approx(exact.loss, rel=1e-12)
    for key, grad in exact.grads.items():
        if grad.dim() != 4:
            assert distance(approximate.grads[key], grad) <= 1e-10, key
        elif key != "conv1.weight":  # behind the static image nothing is dropped
            assert distance(approximate.grads[key], grad) > 1e-6, key
            assert F.cosine_similarity(approximate.grads[key].flatten(), grad.flatten(), 0) > 0.9


def test_dropout_is_close() -> None:
    model = network("vgg.vgg11_lif", 8, dropout=0.1)
    x = images("vgg.vgg11_lif", 8, 3)
    twin = copy.deepcopy(model)
    model.configure(engine="folded", draw_mask=torch_mask)
    twin.configure(engine="unrolled")
    torch.manual_seed(3)
    folded = step(model, x)
    torch.manual_seed(3)
    unrolled = step(twin, x)
    assert folded.loss == pytest.approx(unrolled.loss, rel=1e-12)
    assert (
        distance(folded.grads["classifier.1.weight"], unrolled.grads["classifier.1.weight"]) < 1e-9
    )
    assert distance(folded.grads["layer1.0.weight"], unrolled.grads["layer1.0.weight"]) < 0.2


class PooledResidual(SpikingNetwork):
    """A residual that is no train of spikes, and convolutions called with plain numbers."""

    in_channels = 3

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting)
        self.convs = nn.ModuleList(nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))
        self.bns = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(3))
        self.fires = nn.ModuleList(LIFNeuron(setting) for _ in range(3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.fires[0](self.bns[0](self.convs[0](self.present(images))))
        x = F.avg_pool2d(x, 2)
        out = self.fires[1](self.bns[1](F.conv2d(x, self.convs[1].weight, padding=1)))
        out = self.fires[2](self.bns[2](self.convs[2](out) + x))
        return self.readout(F.adaptive_avg_pool2d(out, 1)).flatten(1)


def test_a_pooled_residual() -> None:
    torch.manual_seed(2)
    model = PooledResidual(NeuronSetting(timesteps=4, Vth=0.1)).double()
    mine, theirs = both_engines(model, torch.randn(3, 3, 8, 8).double())
    # A bias that its BatchNorm subtracts again, and one that was not used, have no gradient.
    for step_ in (mine, theirs):
        for key in [key for key in step_.grads if key.startswith("convs") and "bias" in key]:
            del step_.grads[key]
    assert_equal_steps(mine, theirs)


def test_padding_in_words_is_named() -> None:
    model = PooledResidual(NeuronSetting(timesteps=4))
    train = model.present(torch.randn(1, 3, 8, 8))
    with pytest.raises(TypeError, match="padding in numbers, not 'same'"):
        F.conv2d(train, model.convs[0].weight, padding="same")


def test_almost_certain_dropout_drops() -> None:
    keep, kept = draw_mask(torch.zeros(1000), 0.999999)
    assert kept == 2**-16 and keep.sum() < 5


def torch_mask(like: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    return F.dropout(torch.ones(like.shape, dtype=like.dtype), p) > 0, 1 - p


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_masks_keep_their_share(p: float) -> None:
    torch.manual_seed(1)
    like = channels_last(torch.zeros(40, 10, 25, 25))
    keep, kept = draw_mask(like, p)
    assert kept == pytest.approx(1 - p, abs=2**-17) and keep.stride() == like.stride()
    bits = keep.permute(0, 2, 3, 1).flatten().double()  # in the order of drawing
    for part in (bits, *bits.view(-1, 4).t()):
        assert part.mean() == pytest.approx(kept, abs=5 * (p * (1 - p) / len(part)) ** 0.5)
    neighbours = torch.corrcoef(bits.view(-1, 4).t()) - torch.eye(4, dtype=torch.float64)
    assert neighbours.abs().max() < 5 / (len(bits) / 4) ** 0.5


def saved_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """Bytes that the graph keeps for backward beside parameters and buffers, each storage once."""
    own = {t.untyped_storage().data_ptr() for t in model.state_dict(keep_vars=True).values()}
    kept = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = F.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long))
    del loss
    return sum(kept.values())


@pytest.mark.parametrize("name", ["preresnet.resnet18_lif", "vgg.vgg11_if"])
def test_what_is_kept_for_backward_does_not_grow_with_time(name: str) -> None:
    kept = {}
    for timesteps in (4, 16):
        model = network(name, timesteps)
        kept[timesteps] = saved_bytes(model, images(name, timesteps, 2))
        model.configure(engine="unrolled")
        kept["unrolled", timesteps] = saved_bytes(model, images(name, timesteps, 2))
    assert kept[16] <= 1.01 * kept[4]
    assert kept["unrolled", 16] > 3 * kept["unrolled", 4]  # the count sees what it should


def test_trains_die_when_their_current_is_summed() -> None:
    engine = FoldedEngine(4, Kernels())
    neuron = LIFNeuron(NeuronSetting(timesteps=4, Vth=0.1))
    conv, norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
    train = neuron(norm(conv(engine.present(torch.randn(2, 3, 8, 8)))))
    values = weakref.ref(train.values)
    current = nn.Conv2d(5, 5, 3)(train)
    del train
    assert values() is not None
    neuron(nn.BatchNorm2d(5)(current))
    assert values() is None


def test_misuse_is_named() -> None:
    engine = FoldedEngine(4, Kernels())
    neuron = IFNeuron(NeuronSetting(timesteps=4))
    train = engine.present(torch.rand(2, 3, 8, 8))
    with pytest.raises(TypeError, match="max_pool2d.*unrolled"):
        F.max_pool2d(train, 2)
    current = nn.Conv2d(3, 5, 3)(train)
    neuron(current)
    with pytest.raises(RuntimeError, match="one neuron layer"):
        neuron(current)
    with pytest.raises(ValueError, match=r"frames \(N, 4, C, H, W\)"):
        engine.present(torch.rand(2, 3, 2, 8, 8))
    with pytest.raises(TypeError, match="a neuron before conv2d"):
        nn.Conv2d(5, 5, 3)(nn.Conv2d(3, 5, 3)(train))
    with pytest.raises(TypeError, match="a neuron before avg_pool2d"):
        F.avg_pool2d(nn.Conv2d(3, 5, 3)(train), 2)
    with pytest.raises(TypeError, match="straight behind another"):
        nn.BatchNorm2d(5)(nn.BatchNorm2d(5)(nn.Conv2d(3, 5, 3)(train)))
    with pytest.raises(TypeError, match="static image"):
        F.dropout(train, 0.5)
    with pytest.raises(TypeError, match="inside a sum"):
        nn.BatchNorm2d(3)(train) + train
    with pytest.raises(ValueError, match="more than 1 value"):
        one = FoldedEngine(1, Kernels()).present(torch.rand(1, 3, 1, 1))
        IFNeuron(NeuronSetting(timesteps=1))(nn.BatchNorm2d(5)(nn.Conv2d(3, 5, 1)(one)))


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(3)], ids=("bare", "norm"))
def test_neurons_straight_on_the_input(norm: nn.Module) -> None:
    frames = torch.rand(2, 4, 3, 5, 5, dtype=torch.float64)
    grads = []
    for engine in (FoldedEngine(4, Kernels()), UnrolledEngine(4)):
        layer = nn.Sequential(copy.deepcopy(norm), LIFNeuron(NeuronSetting(4, Vth=0.02))).double()
        rates = engine.readout(layer(engine.present(frames)), layer[1].dynamics)
        rates.square().sum().backward()
        grads.append([p.grad for p in layer.parameters()])
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert sum(g.abs().sum() for g in grads[0]) > 0
