"""Thresholds from an ANN: their names, and how they reach the neurons of an SNN."""

import pytest
import torch

from models import NeuronSetting, create_model, list_models
from models.thresholds import load_thresholds, recording_points


def _thresholds(depth):
    """Return a distinct threshold for every recording point of the ANN of this depth."""
    points = recording_points(create_model(f"preresnet_ann.resnet{depth}", NeuronSetting(), 3))
    return {name: torch.tensor(float(i + 1)) for i, name in enumerate(points)}


def test_names_are_those_of_published_files():
    names = list(recording_points(create_model("preresnet_cal_Vth.resnet50", NeuronSetting(), 3)))
    assert {"storein1", "storein4", "layer1[0].storein1", "layer4[2].storein3"} <= set(names)
    assert len(names) == 4 + 3 * (3 + 4 + 6 + 3)


@pytest.mark.parametrize("name", list_models("preresnet_snn."))
def test_each_threshold_reaches_its_neuron(name):
    setting = NeuronSetting(delta_t=0.25)
    depth = int(name.split("resnet")[2].split("_")[0])
    snn, thresholds = create_model(name, setting, 3), _thresholds(depth)
    load_thresholds(snn, thresholds)
    scale = 0.25 if name.endswith("_lif") else 1.0
    for name, neuron in snn.neurons().items():
        assert neuron.Vth.item() == scale * thresholds[name.replace("relu", "storein")].item()
        assert neuron.Vth.shape == () and neuron.Vth.requires_grad


def test_fixed_thresholds_are_loaded_as_well():
    snn = create_model("preresnet_snn.resnet18_if", NeuronSetting(train_Vth=False), 3)
    load_thresholds(snn, _thresholds(18))
    assert snn.relu1.Vth.item() == 1.0


def test_published_files_hold_tuples_in_blocks():
    published = {
        name: (value,) if "layer" in name else value for name, value in _thresholds(18).items()
    }
    snn = create_model("preresnet_snn.resnet18_if", NeuronSetting(), 3)
    load_thresholds(snn, published)
    assert snn.layer1[0].relu1.Vth.item() == _thresholds(18)["layer1[0].storein1"].item()


@pytest.mark.parametrize(("depth", "said"), [(34, "unexpected"), (50, "storein3")])
def test_another_depth_is_refused_with_the_names(depth, said):
    snn = create_model("preresnet_snn.resnet18_if", NeuronSetting(Vth=7.0), 3)
    with pytest.raises(ValueError, match=said):
        load_thresholds(snn, _thresholds(depth))
    assert all(neuron.Vth.item() == 7.0 for neuron in snn.neurons().values())


@pytest.mark.parametrize(
    "value", [torch.ones(2), torch.tensor(float("nan")), torch.tensor(-1.0), "text", None, ()]
)
def test_values_that_are_not_thresholds_are_refused_and_nothing_changes(value):
    snn = create_model("preresnet_snn.resnet18_if", NeuronSetting(Vth=7.0), 3)
    with pytest.raises(ValueError, match=r"layer4\[1\]\.storein2 is not a threshold"):
        load_thresholds(snn, {**_thresholds(18), "layer4[1].storein2": value})
    assert all(neuron.Vth.item() == 7.0 for neuron in snn.neurons().values())
