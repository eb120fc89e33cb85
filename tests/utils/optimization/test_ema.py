import torch

from tests.utils.stand_ins import Net
from utils.optimization.ema import Ema


def _stepped(net, seed):
    """Change all weights and running statistics, as a step does."""
    torch.manual_seed(seed)
    net(torch.randn(5, 4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_the_average_is_that_computed_by_hand_thresholds_and_statistics_included():
    net = Net()
    ema = Ema(net, 0.9)
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    for step in range(3):
        _stepped(net, step)
        ema.update(net)
        for name, value in net.state_dict().items():
            is_real = value.is_floating_point()
            expected[name] = 0.9 * expected[name] + 0.1 * value if is_real else value.clone()
    assert {"Vth", "norm.running_var", "norm.num_batches_tracked"} <= expected.keys()
    for name, value in ema.model.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_a_step_that_is_left_out_is_not_averaged():
    net = Net()
    ema = Ema(net, 0.9)
    _stepped(net, 1)
    ema.update(net)
    before = {name: value.clone() for name, value in ema.model.named_parameters()}
    net.norm.running_mean.fill_(float("nan"))
    net.norm.running_var.fill_(float("nan"))
    ema.update(net, torch.tensor(False))
    assert all(torch.equal(value, before[name]) for name, value in ema.model.named_parameters())
    assert all(value.isfinite().all() for value in ema.model.state_dict().values())
