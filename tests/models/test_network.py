"""The base class of spiking networks: thresholds, firing rates, precision, and its rules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from models import LIFNeuron, NeuronSetting, SpikingNetwork, create_model
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


def test_names_of_neuron_layers() -> None:
    names = list(network("preresnet.resnet18_if", 1).neurons())
    assert names[:2] == ["layer1[0].relu1", "layer1[0].relu2"]
    assert names[-3:] == ["relu1", "relu2", "relu3"]


def test_unrolled_bf16_gives_float32_logits() -> None:
    model = network("preresnet.resnet18_lif", 2).float()
    model.configure(engine="unrolled", precision="bf16")
    if model.choice.precision != "bf16":
        pytest.skip("this processor has no bf16 arithmetic")
    assert model(images("preresnet.resnet18_lif", 2, 2).float()).dtype == torch.float32


@pytest.mark.parametrize("name", SPIKING)
def test_a_network_can_be_copied_and_moved(name: str) -> None:
    model = create_model(name, NeuronSetting(timesteps=2), num_classes=3)
    copied = copy.deepcopy(model).double()
    assert {p.dtype for p in copied.parameters()} == {torch.float64}


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


class Net(SpikingNetwork):
    """A small network that keeps the rules; subclasses break one each."""

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__(setting)
        self.in_channels = 3
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.relu1 = LIFNeuron(setting)
        self.linear, self.flat = nn.Linear(4 * 36, 2), nn.Flatten()
        self.relu2 = LIFNeuron(setting)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu1(self.bn1(self.conv1(self.present(images)))))

    def head(self, x):
        return self.readout(self.relu2(self.linear(self.flat(x))))


class WithoutChannels(Net):
    def __init__(self, setting):
        super().__init__(setting)
        del self.in_channels


class WithoutPresent(Net):
    def forward(self, images):
        return self.head(self.relu1(self.bn1(self.conv1(images))))


class WithoutPresentOrReadout(Net):
    def forward(self, images):
        return self.linear(self.flat(self.conv1(images)))


class WithoutReadout(Net):
    def forward(self, images):
        return self.relu1(self.bn1(self.conv1(self.present(images))))


class WithoutNeurons(Net):
    def __init__(self, setting):
        super().__init__(setting)
        self.relu1, self.relu2 = nn.Identity(), nn.Identity()


class WithoutLastNeuron(Net):
    def head(self, x):
        return self.readout(self.linear(self.flat(x)))


class Nonlinear(Net):
    def forward(self, images):
        return self.head(self.relu1(torch.relu(self.bn1(self.conv1(self.present(images))))))


class TwoNorms(Net):
    def forward(self, images):
        return self.head(self.relu1(self.bn1(self.bn1(self.conv1(self.present(images))))))


class OtherTimesteps(Net):
    def __init__(self, setting):
        super().__init__(setting)
        self.relu2 = LIFNeuron(timesteps=setting.timesteps + 1)


BROKEN = {
    WithoutChannels: "has no in_channels: set",
    WithoutPresent: r"forward of WithoutPresent must begin with x = self\.present\(images\)",
    WithoutPresentOrReadout: r"must begin with x = self\.present\(images\)",
    WithoutReadout: r"must end with return self\.readout\(x\)",
    WithoutNeurons: "WithoutNeurons has no neuron layers: add",
    WithoutLastNeuron: "readout takes the output of a neuron layer",
    Nonlinear: "only linear maps may stand between two neuron layers, not relu: use .* unrolled",
    TwoNorms: "a BatchNorm must not directly follow another: put a neuron layer between",
    OtherTimesteps: "relu2 of OtherTimesteps has 4 timesteps, the network 3",
}
IMAGES = torch.rand(6, 3, 8, 8)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_rule_is_named(kind: type[Net]) -> None:
    model = kind(NeuronSetting(timesteps=3))
    with pytest.raises(TypeError, match=BROKEN[kind]) as error:
        model(IMAGES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("engine", ["folded", "unrolled"])
def test_a_network_that_keeps_the_rules(engine: str) -> None:
    model = Net(NeuronSetting(timesteps=3))
    model.configure(engine=engine)
    assert model(IMAGES).shape == (6, 2)
    assert model(torch.rand(6, 3, 3, 8, 8)).shape == (6, 2)
    expected = r"Net takes images \(N, 3, H, W\) or frames \(N, 3, 3, H, W\), got"
    for shape in ((6, 2, 8, 8), (6, 3, 2, 8, 8), (6, 2, 3, 8, 8), (3, 8, 8)):
        with pytest.raises(ValueError, match=expected):
            model(torch.rand(shape))


@pytest.mark.parametrize("kind", [WithoutPresent, WithoutReadout, OtherTimesteps])
def test_the_unrolled_engine_names_broken_rules_as_well(kind: type[Net]) -> None:
    model = kind(NeuronSetting(timesteps=3))
    model.configure(engine="unrolled")
    with pytest.raises(TypeError, match=BROKEN[kind]):
        model(IMAGES)


def test_a_forward_may_extend_that_of_its_base() -> None:
    class Scaled(Net):
        def forward(self, images):
            return 2 * super().forward(images)

    base, scaled = Net(NeuronSetting(timesteps=3)).eval(), Scaled(NeuronSetting(timesteps=3)).eval()
    scaled.load_state_dict(base.state_dict())
    assert torch.equal(scaled(IMAGES), 2 * base(IMAGES))
