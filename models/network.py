"""What all spiking networks share: their engine, presentation, readout and firing rates."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.dynamics import Dynamics
from models.engines import select, unrolled
from models.engines.folded.spike_train import Train
from models.engines.ops.sync_batch_norm import BatchNormOverProcesses
from models.neuron import Neuron
from models.setting import NeuronSetting

NeuronBuilder = Callable[[NeuronSetting], Neuron]

Layer = TypeVar("Layer", bound=nn.Module)


def layers(network: nn.Module, kind: type[Layer]) -> dict[str, Layer]:
    """The layers of a `kind` by name, `layer1[0].relu1`, in registration order."""
    return {
        re.sub(r"\.(\d+)", r"[\1]", name): module
        for name, module in network.named_modules()
        if isinstance(module, kind)
    }


class Network(nn.Module):
    """A network of this project, spiking or not: how it is computed can be chosen and told."""

    in_channels: int
    choice: select.Choice

    def __call__(self, images: Tensor) -> Tensor:
        # The unrolled engine's mixed precision is torch's; the folded engine casts by itself.
        unrolled = self.choice.driver(self.training) is None
        autocast = unrolled and self.choice.precision == "bf16"
        shared = unrolled and self.choice.sync_bn
        with (
            torch.autocast(images.device.type, torch.bfloat16, enabled=autocast),
            BatchNormOverProcesses() if shared else nullcontext(),
        ):
            return super().__call__(images)

    def configure(self, **choices) -> list[str]:
        """Choose how the network is computed (see `engines.choose`); gives lines for the user."""
        raise NotImplementedError

    def engine_line(self) -> str:
        """The engine in force, its precision and whether it is compiled, in one line."""
        return self.choice.line()


class SpikingNetwork(Network):
    """A network of linear maps, BatchNorms and neurons that any engine can drive.

    `forward(images)` takes `(N, in_channels, H, W)` or frames `(N, T, in_channels, H, W)` and
    gives the representation of the last neuron layer, `(N, num_classes)`. A subclass's `forward`
    begins with `present` and ends with `readout`.
    """

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__()
        self.setting = setting
        self.choice = select.choose(setting.timesteps, torch.device("cpu"), engine="folded")

    def neurons(self) -> dict[str, Neuron]:
        """Neuron layers by name, `layer1[0].relu1`, in registration order."""
        return layers(self, Neuron)

    @property
    def dynamics(self) -> Dynamics:
        """The constants that all neuron layers share."""
        return next(iter(self.neurons().values())).dynamics

    def present(self, images: Tensor) -> Tensor | Train:
        """The input train; thresholds are brought above their floor first."""
        for neuron in self.neurons().values():
            neuron.project_()
        engine = self.choice.driver(self.training)
        if engine is None:
            return unrolled.present(images, self.setting.timesteps)
        return engine.present(images)

    def readout(self, train: Tensor | Train) -> Tensor:
        """`sum_t v_t s_t` of the last neuron layer's train, `(N, num_classes)`."""
        if isinstance(train, Tensor):
            return unrolled.readout(train, self.dynamics)
        return train.engine.readout(train, self.dynamics)

    def configure(self, **choices) -> list[str]:
        dropout = max((m.p for m in self.modules() if isinstance(m, nn.Dropout)), default=0.0)
        device = next(self.parameters()).device
        self.choice = select.choose(self.setting.timesteps, device, dropout=dropout, **choices)
        if self.choice.name != "unrolled":
            self.to(memory_format=torch.channels_last)  # as its trains lie, and so its gradients
        return list(self.choice.notes)

    def neuron_line(self) -> str:
        """The neuron setting in one line."""
        s = self.setting
        trained = f"trained, at least {s.Vth_bound:g}" if s.train_Vth else "fixed"
        return (
            f"timesteps {s.timesteps}, Vth {s.Vth:g} ({trained}), alpha {s.alpha:g}, "
            f"tau {s.tau:g}, delta_t {s.delta_t:g}"
        )

    def reset_firing_rates(self) -> None:
        """Forget the spikes counted so far."""
        for neuron in self.neurons().values():
            neuron.reset_rate()

    def firing_rates(self) -> dict[str, float]:
        """Fraction of steps with a spike, a layer, over the evaluation since the last reset."""
        counts = {name: neuron.rate() for name, neuron in self.neurons().items()}
        return {name: float(fired) / seen for name, (fired, seen) in counts.items() if seen}
