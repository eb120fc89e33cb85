"""Checkpoints in the published order of keys, and in other orders."""

import pytest
import torch

from models import NeuronSetting, create_model
from tests import golden_numbers as golden
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import IMAGENET_KEYS
from utils.training.state import TrainState

WORLD = World(torch.device("cpu"))
SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
NETWORKS = {
    "imagenet_preresnet_snn_resnet18_if": "preresnet_snn.resnet18_if",
    "imagenet_preresnet_ann_resnet18": "preresnet_ann.resnet18",
}


def _published(shapes, keys):
    """A checkpoint as the published program writes it, slot i of the optimizer full of i."""
    state = {f"module.{key}": torch.full(shapes[key], 0.5) for key in keys}
    parameters = [key for key in keys if not key.endswith(STATISTICS)]
    slots = {
        i: {"momentum_buffer": torch.full(shapes[p], float(i))} for i, p in enumerate(parameters)
    }
    group = {**SETTINGS, "dampening": 0, "params": list(slots)}
    content = {
        "epoch": 7,
        "arch": "x",
        "state_dict": state,
        "best_acc1": torch.tensor(61.5),
        "acc1": torch.tensor(60.5),
        "optimizer": {"state": slots, "param_groups": [group]},
    }
    return content, parameters


@pytest.mark.parametrize("order", [list, sorted, lambda keys: list(reversed(list(keys)))])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_momentum_returns_to_its_own_parameter(tmp_path, name, order):
    shapes = golden.keys()[name]
    content, parameters = _published(shapes, order(shapes))
    torch.save(content, tmp_path / "theirs.pth")
    model = create_model(NETWORKS[name], NeuronSetting(), shapes["fc.bias"][0])
    optimiser = optimizer.build("SGD", model, **SETTINGS)
    state = TrainState(model, optimiser, keys=IMAGENET_KEYS)
    state.resume(checkpoint.load(tmp_path / "theirs.pth"), 10, WORLD, "theirs.pth")
    assert (state.epoch, state.iteration) == (7, 70)
    assert (state.acc, state.best_acc) == (60.5, 61.5)
    momenta = {
        key: optimiser.state[parameter]["momentum_buffer"]
        for key, parameter in model.named_parameters()
    }
    assert momenta.keys() == set(parameters)
    for slot, key in enumerate(parameters):
        assert momenta[key].eq(slot).all(), key
