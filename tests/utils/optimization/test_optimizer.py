import pytest
import torch
from torch import nn

from utils.optimization import optimizer
from utils.system.errors import UserError

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}


class Net(nn.Module):
    """A layer of each kind of entry a state dict has; `turned` registers them the other way."""

    def __init__(self, turned=False):
        super().__init__()
        layers = {"norm": nn.BatchNorm1d(3), "linear": nn.Linear(3, 3)}
        for name in sorted(layers, reverse=turned):
            self.add_module(name, layers[name])
        self.Vth = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.norm(self.linear(x)) * self.Vth


def _stepped(name, turned=False):
    torch.manual_seed(0)
    net = Net(turned)
    opt = optimizer.build(name, net, **SETTINGS)
    for _ in range(2):
        net(torch.randn(5, 3)).square().sum().backward()
        opt.step()
    return net, opt


def _states(net, opt):
    names = optimizer.parameter_names(opt, net)
    return {names[i]: state for i, state in opt.state_dict()["state"].items()}


@pytest.mark.parametrize("name", optimizer.NAMES)
@pytest.mark.parametrize("stored", [True, False])
def test_state_follows_names_into_another_parameter_order(name, stored):
    source, opt = _stepped(name)
    names = optimizer.parameter_names(opt, source)
    if not stored:
        names = optimizer.names_in_state_dict(list(source.state_dict()))
    target = Net(turned=True)
    restored = optimizer.build(name, target, **SETTINGS)
    assert optimizer.parameter_names(restored, target) != names
    optimizer.restore(restored, target, opt.state_dict(), names, "x.pth")
    expected, actual = _states(source, opt), _states(target, restored)
    assert expected.keys() == actual.keys()
    for parameter, state in expected.items():
        for key, value in state.items():
            assert torch.equal(value, actual[parameter][key])


@pytest.mark.parametrize("name", optimizer.NAMES)
def test_restored_state_lies_in_memory_as_its_parameter_does(name):
    """Fused kernels walk both in the order of memory; a checkpoint may have another one."""
    net = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    opt = optimizer.build(name, net, **SETTINGS)
    net(torch.randn(1, 2, 2, 2)).sum().backward()
    opt.step()
    saved, expected = opt.state_dict(), opt.state[net.weight]
    for state in saved["state"].values():
        state.update({key: value.contiguous() for key, value in state.items()})
    restored = optimizer.build(name, net, **SETTINGS)
    optimizer.restore(restored, net, saved, optimizer.parameter_names(opt, net), "x.pth")
    for key, value in restored.state[net.weight].items():
        assert torch.equal(value, expected[key])
        assert key == "step" or value.stride() == net.weight.stride()


def test_momentum_that_a_checkpoint_lacks_is_zero():
    net, opt = _stepped("SGD")
    saved = opt.state_dict()
    del saved["state"][0]
    optimizer.restore(opt, net, saved, optimizer.parameter_names(opt, net), "x.pth")
    buffers = [opt.state[p]["momentum_buffer"] for p in net.parameters()]
    assert not buffers[0].any() and buffers[1].any()


def test_the_flags_keep_their_say_over_the_settings():
    source, opt = _stepped("SGD")
    other = optimizer.build("SGD", source, **SETTINGS | {"weight_decay": 0.0})
    names = optimizer.parameter_names(opt, source)
    optimizer.restore(other, source, opt.state_dict(), names, "x.pth")
    assert other.param_groups[0]["weight_decay"] == 0.0


def test_state_of_another_optimizer_is_refused():
    source, opt = _stepped("Adam")
    other = optimizer.build("SGD", source, **SETTINGS)
    names = optimizer.parameter_names(opt, source)
    with pytest.raises(UserError, match="--optimizer SGD"):
        optimizer.restore(other, source, opt.state_dict(), names, "x.pth")


def test_incomplete_state_of_adam_is_refused():
    source, opt = _stepped("Adam")
    names, saved = optimizer.parameter_names(opt, source), opt.state_dict()
    for fault in ({"exp_avg": None}, {}):
        saved["state"][1] = {"step": torch.tensor(2.0), **fault}
        with pytest.raises(UserError, match=f"x.pth: the optimizer's exp_avg of {names[1]} is mis"):
            optimizer.restore(opt, source, saved, names, "x.pth")


def test_state_of_other_parameters_is_refused():
    source, opt = _stepped("SGD")
    names = optimizer.parameter_names(opt, source)
    with pytest.raises(UserError, match="5 parameters, its model 4"):
        optimizer.restore(opt, source, opt.state_dict(), names[:-1], "x.pth")
    turned = sorted(names, reverse=True)
    with pytest.raises(UserError, match="instead of"):
        optimizer.restore(opt, source, opt.state_dict(), turned, "x.pth")


def test_every_parameter_is_optimised_thresholds_included():
    net = Net()
    opt = optimizer.build("SGD", net, **SETTINGS)
    assert set(optimizer.parameter_names(opt, net)) == dict(net.named_parameters()).keys()


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(UserError, match="--momentum"):
        optimizer.build("SGD", Net(), lr=0.1, momentum=0.0, weight_decay=0.0, nesterov=True)


@pytest.mark.parametrize(("written", "given"), [("Adam", "AdamW"), ("AdamW", "Adam")])
def test_adam_and_adamw_are_told_apart(written, given):
    source, opt = _stepped(written)
    other, names = (
        optimizer.build(given, source, **SETTINGS),
        optimizer.parameter_names(opt, source),
    )
    with pytest.raises(UserError, match=f"--optimizer {given}: .*another optimizer"):
        optimizer.restore(other, source, opt.state_dict(), names, "x.pth")
