import json

import pytest
import torch
from torch import nn

from imagenet.calibration import UpperQuantile, calibrate, tail
from models import NeuronSetting, create_model
from models.thresholds import load_thresholds
from tests import golden_numbers as golden


def _sorted_element(values):
    """The threshold by its definition."""
    ordered = values.flatten().relu().sort().values
    return ordered[int(0.999 * len(ordered))]


@pytest.mark.parametrize("sizes", [(1,), (7,), (1, 1, 1), (4, 4, 3), (2, 9), (40, 40, 40)])
@pytest.mark.parametrize("shape", [(1,), (10,), (3, 20, 20)])
def test_is_the_element_of_the_definition_however_the_images_are_batched(sizes, shape):
    torch.manual_seed(sum(sizes))
    values = torch.randn(sum(sizes), *shape, dtype=torch.float64)
    quantile = UpperQuantile(sum(sizes))
    for batch in values.split(sizes):
        quantile.add(batch)
    assert torch.equal(quantile.value(), _sorted_element(values))


def test_more_images_may_be_announced_than_come():
    values = torch.randn(5, 2000)
    quantile = UpperQuantile(50)
    for batch in values.split(2):
        quantile.add(batch)
    assert torch.equal(quantile.value(), _sorted_element(values))


def test_keeps_a_thousandth_of_the_values():
    quantile = UpperQuantile(64)
    for _ in range(8):
        quantile.add(torch.randn(8, 10_000))
        assert len(quantile.largest) <= tail(64 * 10_000) == 640


@pytest.mark.parametrize("values", [-torch.rand(4, 100), torch.ones(4, 100), torch.zeros(1, 1)])
def test_negative_equal_and_single_values(values):
    quantile = UpperQuantile(4)
    for image in values.split(1):
        quantile.add(image)
    assert torch.equal(quantile.value(), _sorted_element(values))


def test_a_network_keeps_no_hook_and_no_gradient():
    ann = create_model("preresnet_cal_Vth.resnet18", NeuronSetting(), 3)
    thresholds = calibrate(ann, [(torch.randn(2, 3, 32, 32), None)], 2)
    assert not any(module._forward_pre_hooks for module in ann.modules())
    assert not any(value.requires_grad for value in thresholds.values())
    assert all(value.shape == () and value >= 0 for value in thresholds.values())
    assert not ann.training


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        calibrate(nn.Sequential(nn.ReLU()), [], 5)


def _filled(name, g, num_classes=20):
    model = create_model(name, NeuronSetting(Vth=6.0), num_classes).double()
    golden.fill(model, int(g["salt"]), 6.0)
    return model


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(
    ("network", "snn"),
    [("resnet18", "preresnet_snn.resnet18_if"), ("preresnet50", "preresnet_snn.resnet50_if")],
)
def test_golden_thresholds_and_their_transfer(network, snn, parts):
    g = golden.load(f"imagenet_cal_vth_{network}")
    x = torch.from_numpy(g["x"])
    ann = _filled(f"preresnet_cal_Vth.{network}", g)
    batches = [(part, None) for part in x.chunk(parts)]
    thresholds = calibrate(ann, batches, len(x))
    expected = json.loads(str(g["thresholds"]))
    actual = {name: value.item() for name, value in thresholds.items()}
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)
    with torch.no_grad():
        assert torch.allclose(ann(x), torch.from_numpy(g["logits_eval"]), rtol=1e-9, atol=1e-9)
    spiking = _filled(snn, g)
    load_thresholds(spiking, thresholds)
    received = {n: p.item() for n, p in spiking.named_parameters() if n.endswith("Vth")}
    assert received == pytest.approx(json.loads(str(g["snn_vth"])), rel=1e-9)
