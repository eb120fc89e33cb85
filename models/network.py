"""Base classes of networks: the engine, and for spiking networks input, readout and their rules."""

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
        """Make the `forward` of every subclass run under the network's engine."""
        super().__init_subclass__(**kwargs)
        if cls.forward is not nn.Module.forward and not hasattr(cls.forward, "under_engine"):
            cls.forward = _under_engine(cls.forward)

    @property
    def engine(self) -> select.Engine:
        """The engine that drives a forward pass in the present mode."""
        return self.choice.engine(self.training)

    def run(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return `forward(images)`, computed in the context of the engine."""
        with self.engine.forward_context(images.device):
            return forward(images)

    def configure(self, **choices) -> list[str]:
        """Choose how the network is computed (see `engines.select`); return lines for the user."""
        raise NotImplementedError

    def engine_line(self) -> str:
        """Describe engine, precision and compilation in one line."""
        return self.choice.line()


def _under_engine(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def call(network: Network, images: Tensor) -> Tensor:
        return network.run(functools.partial(forward, network), images)

    call.under_engine = True
    return call


class SpikingNetwork(Network):
    """A network of linear maps, BatchNorms and neurons that any engine can drive.

    `forward(images)` takes `(N, in_channels, H, W)` or frames `(N, T, in_channels, H, W)` and
    returns the representation of the last neuron layer, `(N, num_classes)`. The rules for a
    subclass, each with an error that names it where it is broken:

    - `in_channels` is the number of channels of an image or frame.
    - `forward` begins with `x = self.present(images)` and ends with `return self.readout(x)`.
    - Neuron layers, `IFNeuron(setting)` or `LIFNeuron(setting)`, take the network's setting.
    - Only linear maps stand between two neuron layers. A branch is at most one convolution or
      linear layer, with average pooling, flattening or dropout before it and a BatchNorm after it.
      Branches may be summed, and another BatchNorm may follow the sum.
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
        return next(module.dynamics for module in self.modules() if isinstance(module, Neuron))

    def run(self, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return `forward(images)`, computed in the context of the engine.

        Raises `TypeError` where it does not begin with `present` and end with `readout`.
        """
        self._presented = self._read_out = False
        output = cause = None
        try:
            output = super().run(forward, images)
        except Exception as error:
            if self._presented:
                raise
            cause = error  # is likely to follow from a missing `present`
        if not self._presented:
            raise self._broken("begin with x = self.present(images)") from cause
        if not self._read_out or not isinstance(output, Tensor):
            raise self._broken("end with return self.readout(x)")
        return output

    def _broken(self, rule: str) -> TypeError:
        return TypeError(f"forward of {type(self).__name__} must {rule}")

    def present(self, images: Tensor) -> Tensor | SpikeTrain:
        """Return the input spike train.

        Raises `TypeError` for a network that breaks a rule, `ValueError` for images or frames of
        another shape.
        """
        self._presented = True
        self._check_input(images)
        self._prepare_neurons()
        return self.engine.present(images)

    def _check_input(self, images: Tensor) -> None:
        name = type(self).__name__
        if not hasattr(self, "in_channels"):
            raise TypeError(f"{name} has no in_channels: set the number of channels of its images")
        C, T = self.in_channels, self.setting.timesteps
        frames = images.dim() == 5 and images.shape[1] == T
        if not (images.dim() == 4 or frames) or images.shape[-3] != C:
            raise ValueError(
                f"{name} takes images (N, {C}, H, W) or frames (N, {T}, {C}, H, W), "
                f"got {tuple(images.shape)}"
            )

    def _prepare_neurons(self) -> None:
        """Check that neuron layers have the network's timesteps, and merge time and batch."""
        neurons, T = self.neurons(), self.setting.timesteps
        if not neurons:
            raise TypeError(
                f"{type(self).__name__} has no neuron layers: add IFNeuron(setting) or "
                "LIFNeuron(setting)"
            )
        for name, neuron in neurons.items():
            if neuron.dynamics.timesteps != T:
                raise TypeError(
                    f"{name} of {type(self).__name__} has {neuron.dynamics.timesteps} timesteps, "
                    f"the network {T}: build neuron layers with the network's setting"
                )
            neuron.merged = True

    def readout(self, x: Tensor | SpikeTrain) -> Tensor:
        """Return `sum_t v_t s_t` of the last neuron layer's spike train, `(N, num_classes)`.

        Raises `TypeError` where `x` is not the output of a neuron layer.
        """
        self._read_out = True
        return self.engine.readout(x, self.dynamics)

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

    def record_firing_rates(self) -> None:
        """Count spikes in evaluation from now on, as with `rate_stat`."""
        for neuron in self.neurons().values():
            neuron.rate_stat = True
        self.reset_firing_rates()

    def reset_firing_rates(self) -> None:
        """Reset the spike counts of all neuron layers."""
        for neuron in self.neurons().values():
            neuron.reset_rate()

    def firing_rates(self) -> dict[str, float]:
        """Return each layer's share of steps with a spike, in evaluation since the last reset."""
        counts = {name: neuron.rate() for name, neuron in self.neurons().items()}
        return {name: float(fired) / seen for name, (fired, seen) in counts.items() if seen}
