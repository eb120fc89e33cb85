"""NIR graphs, read from their files and run by NIRTorch, which wires the nodes on its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.export.layer_graph import ExportError
from tests.models.export.odd_network import odd_images, odd_network
from tests.models.networks import images, network

nir = pytest.importorskip("nir", reason="requirements-test.txt is not installed")
nirtorch = pytest.importorskip("nirtorch", reason="requirements-test.txt is not installed")

from models.export.nir_graph import nir_graph  # noqa: E402


class Integrator(nn.Module):
    """NIR's I and LI, integrated exactly over a step with a constant input."""

    def __init__(self, decay, gain):
        super().__init__()
        self.decay, self.gain = decay, gain

    def forward(self, x, state=None):
        v = self.gain * x if state is None else self.decay * state + self.gain * x
        return v, v


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def leaky(node, dt):
    assert not node.v_leak.any()
    decay = torch.exp(-dt / torch.from_numpy(node.tau))
    return Integrator(decay, (1 - decay) * torch.from_numpy(node.r))


def affine(node):
    layer = nn.Linear(*reversed(node.weight.shape))
    state = {name: torch.from_numpy(getattr(node, name)) for name in ("weight", "bias")}
    layer.to(state["weight"].dtype).load_state_dict(state)
    return layer


def sum_pool(node):
    window, stride, padding = (
        tuple(map(int, v)) for v in (node.kernel_size, node.stride, node.padding)
    )
    return Function(lambda x: F.avg_pool2d(x, window, stride, padding, divisor_override=1))


def above(node):
    threshold = torch.from_numpy(node.threshold)
    return Function(lambda x: (x > threshold).to(x.dtype))


def scale(node):
    factor = torch.from_numpy(node.scale)
    return Function(lambda x: x * factor)


def node_map(dt):
    """Return the nodes as NIR defines them; of the others NIRTorch has its own."""
    return {
        nir.I: lambda node: Integrator(1.0, torch.from_numpy(node.r) * dt),
        nir.LI: lambda node: leaky(node, dt),
        nir.Threshold: above,
        nir.Scale: scale,
        nir.Affine: affine,
        nir.Flatten: lambda node: nn.Flatten(node.start_dim + 1, -1),
        nir.SumPool2d: sum_pool,
    }


@torch.no_grad()
def run(file, x):
    """Return the output of the NIR graph in a file after its last timestep."""
    graph = nir.read(file)
    steps, dt = (float(graph.metadata[key]) for key in ("timesteps", "dt"))
    module = nirtorch.nir_to_torch(graph, node_map(dt), dtype=torch.float64)
    state = dict.fromkeys(graph.nodes)
    for t in range(int(steps)):
        output, state = module(x if x.dim() == 4 else x[:, t], state)
    return output


def assert_same_outputs(model, x, folder):
    nir.write(folder / "graph.nir", nir_graph(model, *x.shape[-2:]), compression="lzf")
    expected = model(x).detach()
    assert torch.count_nonzero(expected) > 0
    torch.testing.assert_close(run(folder / "graph.nir", x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["if", "lif"])
@pytest.mark.parametrize("frames", [False, True])
def test_a_second_reader_computes_the_same(kind, frames, tmp_path):
    assert_same_outputs(odd_network(kind), odd_images(frames), tmp_path)


@pytest.mark.parametrize("name", ["vgg.vgg11_lif", "preresnet_snn.resnet18_if"])
def test_a_second_reader_computes_the_same_for_registered_networks(name, tmp_path):
    model = network(name, timesteps=2).eval()
    assert_same_outputs(model, images(name, timesteps=2, batch=1), tmp_path)


def test_potentials_at_the_threshold_fire():
    graph = nir_graph(odd_network("if"), 19, 19)
    threshold = torch.from_numpy(graph.nodes["relu1_spikes"].threshold)
    Vth = odd_network("if").relu1.Vth.detach()
    assert (0.3 * Vth > threshold).all() and (0.3 * Vth * (1 - 1e-15) <= threshold).all()


def test_unequal_windows_without_a_linear_layer_after_them_are_refused():
    model = odd_network("if")
    model.pool2 = nn.AdaptiveAvgPool2d(3)
    with pytest.raises(ExportError, match="pool2 pools 4x4 to 3x3 in unequal windows"):
        nir_graph(model, 19, 19)


def test_pooling_that_nir_does_not_state_is_refused():
    model = odd_network("if")
    model.pool2.count_include_pad = False
    with pytest.raises(ExportError, match="layer pool2 averages fewer values at the border"):
        nir_graph(model, 19, 19)
    model.pool2.ceil_mode = True
    with pytest.raises(ExportError, match="layer pool2 rounds up"):
        nir_graph(model, 19, 19)


def test_images_too_small_are_refused():
    with pytest.raises(ExportError, match="layer conv1 cannot take 2x1x1; give larger images"):
        nir_graph(odd_network("if"), 1, 1)
