"""Recorded values of the published method, in float64 to 1e-9, for both exact engines."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models import NeuronSetting, create_model
from models.dynamics import Dynamics, weighted_mean
from models.engines.folded import FoldedEngine, SpikeTrain
from models.engines.ops.dispatch import Kernels
from models.neuron import IFNeuron, LIFNeuron
from tests import golden_numbers as golden

TOLERANCE = 1e-9
NETWORKS = {
    "cifar_preresnet_resnet18_if": "preresnet.resnet18_if",
    "cifar_preresnet_resnet18_lif": "preresnet.resnet18_lif",
    "cifar_vgg_vgg11_if": "vgg.vgg11_if",
    "cifar_vgg_vgg11_lif": "vgg.vgg11_lif",
    "imagenet_preresnet_snn_resnet18_if": "preresnet_snn.resnet18_if",
    "imagenet_preresnet_snn_resnet34_lif": "preresnet_snn.resnet34_lif",
    "imagenet_preresnet_snn_resnet50_if": "preresnet_snn.resnet50_if",
}
ANNS = {
    "imagenet_preresnet_ann_resnet18": "preresnet_ann.resnet18",
    "imagenet_preresnet_ann_preresnet50": "preresnet_ann.preresnet50",
}
KEYS = NETWORKS | ANNS | {"imagenet_preresnet_cal_Vth_resnet18": "preresnet_cal_Vth.resnet18"}
ENGINES = {
    "unrolled": {"engine": "unrolled"},
    "folded": {"engine": "folded"},
    "events": {"engine": "folded", "event_driven": "always"},
}


@pytest.mark.parametrize("name", golden.keys())
def test_state_dict_keys_order_and_shapes(name: str) -> None:
    expected = golden.keys()[name]
    num_classes = next(
        shape[0]
        for key, shape in expected.items()
        if key in ("linear.bias", "classifier.1.bias", "fc.bias")
    )
    model = create_model(KEYS[name], NeuronSetting(), num_classes)
    actual = [(key, list(value.shape)) for key, value in model.state_dict().items()]
    assert actual == list(expected.items())


@pytest.fixture(params=[(name, engine) for name in NETWORKS for engine in ENGINES], ids="-".join)
def case(request):
    name, engine = request.param
    return name, NETWORKS[name], engine


def build(name: str, model_name: str, engine: str | None):
    g = golden.load(name)
    setting = golden.setting(g)
    num_classes = g["logits_eval"].shape[1]
    dropout = 0.0 if model_name.startswith("vgg") else None
    model = create_model(model_name, setting, num_classes, dropout).double()
    if engine:
        model.configure(**ENGINES[engine])
    golden.fill(model, int(g["salt"]), setting.Vth)
    return model, g


def check_network(model, g) -> None:
    salt = int(g["salt"])
    x, y = torch.from_numpy(g["x"]), torch.from_numpy(g["y"])
    model.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model(x), g["logits_eval"], rtol=TOLERANCE, atol=TOLERANCE)
    model.train()
    logits = model(x)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    np.testing.assert_allclose(logits.detach(), g["logits_train"], rtol=TOLERANCE, atol=TOLERANCE)
    assert loss.item() == pytest.approx(g["loss"], rel=TOLERANCE)
    check_gradients(model, g, salt)
    buffers = dict(model.named_buffers())
    for name, expected in zip(g["buffer_names"].tolist(), g["buffer_probe"], strict=True):
        actual = golden.probe(name, buffers[name], salt)
        assert actual == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE), name
    if "sgd_losses" in g:
        check_training(model, g, x, y)


def check_gradients(model, g, salt: int) -> None:
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert sorted(grads) == sorted(g["grad_names"].tolist())
    for name, norm, probe in zip(
        g["grad_names"].tolist(), g["grad_norm"], g["grad_probe"], strict=True
    ):
        scale = norm if norm >= 1e-11 else 1.0
        assert abs(grads[name].norm().item() - norm) <= TOLERANCE * scale, name
        assert abs(golden.probe(name, grads[name], salt) - probe) <= TOLERANCE * scale, name


def check_training(model, g, x, y) -> None:
    optimizer = torch.optim.SGD(
        model.parameters(), lr=float(g["sgd_lr"]), momentum=0.9, weight_decay=5e-4
    )
    for expected in g["sgd_losses"]:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        assert loss.item() == pytest.approx(expected, rel=TOLERANCE)
    thresholds = [p.item() for name, p in model.named_parameters() if name.endswith("Vth")]
    np.testing.assert_allclose(thresholds, g["vth_after"], rtol=TOLERANCE)


def test_spiking_networks(case) -> None:
    check_network(*build(*case))


@pytest.mark.parametrize("name", ANNS)
def test_anns(name: str) -> None:
    check_network(*build(name, ANNS[name], None))


def neuron_cases():
    g = golden.load("neuron")
    return [(i, meta, g) for i, meta in enumerate(json.loads(str(g["meta"])))]


def build_neuron(meta):
    setting = NeuronSetting(**{k: meta[k] for k in ("timesteps", "Vth", "tau", "delta_t", "alpha")})
    neuron = {"if": IFNeuron, "lif": LIFNeuron}[meta["kind"]](setting, merged=True).double()
    neuron.Vth.data.fill_(meta["Vth"])  # made in float32
    return neuron


@pytest.mark.parametrize(("i", "meta", "g"), neuron_cases(), ids=lambda v: str(v)[:12])
@pytest.mark.parametrize("engine", ENGINES)
def test_neurons(i, meta, g, engine) -> None:
    neuron = build_neuron(meta)
    d: Dynamics = neuron.dynamics
    z, grad_output = (torch.from_numpy(g[f"{i}.{key}"]) for key in ("input", "grad_output"))
    if engine == "unrolled":
        z.requires_grad_()
        s = neuron(z)
        s.backward(grad_output)
        grad_input = z.grad
    else:
        # A train without a weight is a current of its own; its handle receives R = T * mean dz.
        engine = FoldedEngine(meta["timesteps"], Kernels())
        handle = torch.zeros(z.unflatten(0, (meta["timesteps"], -1)).shape[1:]).double()
        train = neuron(SpikeTrain(engine, z, handle=handle.requires_grad_()))
        s = train.values * train.amplitude
        steps = grad_output.unflatten(0, (meta["timesteps"], -1))
        train.handle.backward(meta["timesteps"] * weighted_mean(steps, d))
        grad_input = (handle.grad / meta["timesteps"]).repeat(meta["timesteps"], 1, 1, 1)
    rate = weighted_mean(s.detach().unflatten(0, (meta["timesteps"], -1)), d)
    for actual, key in ((s.detach(), "output"), (grad_input, "grad_input"), (rate, "rate")):
        np.testing.assert_allclose(actual, g[f"{i}.{key}"], rtol=TOLERANCE, atol=1e-12)
    np.testing.assert_allclose(neuron.Vth.grad, g[f"{i}.grad_Vth"], rtol=TOLERANCE, atol=1e-12)
