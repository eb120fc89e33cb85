"""What all networks share: their engine, and for spiking ones input, readout and firing rates."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.dynamics import Dynamics
from models.engines import select
from models.engines.folded import SpikeTrain
from models.neuron import Neuron
from models.setting import NeuronSetting

NeuronBuilder = Callable[[NeuronSetting], Neuron]

Layer = TypeVar("Layer", bound=nn.Module)


def layers(network: nn.Module, kind: type[Layer]) -> dict[str, Layer]:
    """Return the layers of a `kind` by name, `layer1[0].relu1`, in registration order."""
    return {
        bracketed(name): module
        for name, module in network.named_modules()
        if isinstance(module, kind)
    }


def bracketed(name: str) -> str:
    """Return the name of a module or parameter with brackets around numbers, `layer1[0].conv1`."""
    return re.sub(r"\.(\d+)", r"[\1]", name)


class Network(nn.Module):
    """A network of this project, spiking or not, whose computation can be chosen."""

    in_channels: int
    choice: select.Choice

    def __init_subclass__(cls, **kwargs) -> None:
        """Make the `forward` of every subclass run in the context of the network's engine."""
        super().__init_subclass__(**kwargs)
        if cls.forward is not nn.Module.forward and not hasattr(cls.forward, "in_context"):
            cls.forward = _in_context(cls.forward)

    @property
    def engine(self) -> select.Engine:
        """The engine that drives a forward pass in the present mode."""
        return self.choice.engine(self.training)

    def configure(self, **choices) -> list[str]:
        """Choose how the network is computed (see `engines.select`); return lines for the user."""
        raise NotImplementedError

    def engine_line(self) -> str:
        """Describe engine, precision and compilation in one line."""
        return self.choice.line()


def _in_context(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def call(network: Network, images: Tensor) -> Tensor:
        with network.engine.forward_context(images.device):
            return forward(network, images)

    call.in_context = True
    return call


class SpikingNetwork(Network):
    """A network of linear maps, BatchNorms and neurons that any engine can drive.

    `forward(images)` takes `(N, in_channels, H, W)` or frames `(N, T, in_channels, H, W)` and
    returns the representation of the last neuron layer, `(N, num_classes)`. A subclass's `forward`
    begins with `present` and ends with `readout`.
    """

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__()
        self.setting = setting
        self.choice = select.choose(setting.timesteps, torch.device("cpu"), engine="folded")

    def neurons(self) -> dict[str, Neuron]:
        """Return the neuron layers by name, `layer1[0].relu1`, in registration order."""
        return layers(self, Neuron)

    @property
    def dynamics(self) -> Dynamics:
        """The constants that all neuron layers share."""
        return next(iter(self.neurons().values())).dynamics

    def present(self, images: Tensor) -> Tensor | SpikeTrain:
        """Return the input spike train; thresholds are raised to their floor first."""
        for neuron in self.neurons().values():
            neuron.project_()
        return self.engine.present(images)

    def readout(self, train: Tensor | SpikeTrain) -> Tensor:
        """Return `sum_t v_t s_t` of the last neuron layer's spike train, `(N, num_classes)`."""
        return self.engine.readout(train, self.dynamics)

    def configure(self, **choices) -> list[str]:
        dropout = max((m.p for m in self.modules() if isinstance(m, nn.Dropout)), default=0.0)
        device = next(self.parameters()).device
        self.choice = select.choose(self.setting.timesteps, device, dropout=dropout, **choices)
        if self.choice.name != "unrolled":
            self.to(memory_format=torch.channels_last)  # the format of its spike trains
        return list(self.choice.notes)

    def neuron_line(self) -> str:
        """Describe the neuron setting in one line."""
        s = self.setting
        trained = f"trained, at least {s.Vth_bound:g}" if s.train_Vth else "fixed"
        return (
            f"timesteps {s.timesteps}, Vth {s.Vth:g} ({trained}), alpha {s.alpha:g}, "
            f"tau {s.tau:g}, delta_t {s.delta_t:g}"
        )

    def reset_firing_rates(self) -> None:
        """Reset the spike counts of all neuron layers."""
        for neuron in self.neurons().values():
            neuron.reset_rate()

    def firing_rates(self) -> dict[str, float]:
        """Return each layer's share of steps with a spike, in evaluation since the last reset."""
        counts = {name: neuron.rate() for name, neuron in self.neurons().items()}
        return {name: float(fired) / seen for name, (fired, seen) in counts.items() if seen}
