"""What all spiking networks share: their engine, presentation, readout and firing rates."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models import kernels, unrolled
from models.dynamics import Dynamics
from models.folded import FoldedEngine, Train
from models.kernels import Kernels
from models.neuron import Neuron
from models.setting import NeuronSetting

ENGINES = ("folded", "unrolled", "rate")
PRECISIONS = ("fp32", "bf16")

NeuronBuilder = Callable[[NeuronSetting], Neuron]


class SpikingNetwork(nn.Module):
    """A network of linear maps, BatchNorms and neurons that any engine can drive.

    `forward(images)` takes `(N, in_channels, H, W)` or frames `(N, T, in_channels, H, W)` and
    gives the representation of the last neuron layer, `(N, num_classes)`. A subclass's `forward`
    begins with `present` and ends with `readout`.
    """

    in_channels: int

    def __init__(self, setting: NeuronSetting) -> None:
        super().__init__()
        self.setting = setting
        self.engine = FoldedEngine(setting.timesteps, Kernels())
        self.mixed = False

    def neurons(self) -> dict[str, Neuron]:
        """Neuron layers by name, `layer1[0].relu1`, in registration order."""
        return {
            re.sub(r"\.(\d+)", r"[\1]", name): module
            for name, module in self.named_modules()
            if isinstance(module, Neuron)
        }

    @property
    def dynamics(self) -> Dynamics:
        """The constants that all neuron layers share."""
        return next(iter(self.neurons().values())).dynamics

    def present(self, images: Tensor) -> Tensor | Train:
        """The input train; thresholds are brought above their floor first."""
        for neuron in self.neurons().values():
            neuron.project_()
        if self.engine is None:
            return unrolled.present(images, self.setting.timesteps)
        return self.engine.present(images)

    def readout(self, train: Tensor | Train) -> Tensor:
        """`sum_t v_t s_t` of the last neuron layer's train, `(N, num_classes)`."""
        if isinstance(train, Tensor):
            return unrolled.readout(train, self.dynamics)
        return self.engine.readout(train, self.dynamics)

    def __call__(self, images: Tensor) -> Tensor:
        # The unrolled engine's mixed precision is torch's; the folded engine casts by itself.
        autocast = self.engine is None and self.mixed
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            return super().__call__(images)

    def configure(self, engine: str = "folded", precision: str = "fp32", compile: bool = False):
        """Choose how the network is computed: `engine` of `ENGINES`, `precision` of `PRECISIONS`."""
        self.mixed = precision == "bf16"
        if engine == "unrolled":
            self.engine = None
            return
        self.engine = FoldedEngine(
            self.setting.timesteps,
            kernels.compiled() if compile else Kernels(),
            torch.bfloat16 if self.mixed else None,
            approximate=engine == "rate",
        )
