"""Pre-activation ResNets for ImageNet (He et al. 2016): one skeleton for the ANN and the SNN.

The ANN has ReLUs where the SNN has neurons, under the same names. The published programs register
the parts in two different orders, and checkpoints and optimizer states keep that order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from models.engines import select
from models.network import Network, SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron, Neuron
from models.registry import register
from models.setting import NeuronSetting

VTH_GRADIENT_SCALE = 0.001  # of IF layers, as in the published ImageNet networks
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}

Activation = Callable[[], nn.Module]


def _conv(channels_in: int, channels_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)


def _register(module: nn.Module, parts: dict[str, nn.Module | None], spiking: bool) -> None:
    """Add the parts in the published order: as given for the ANN, by kind for the SNN."""
    kinds = ("conv", "layer", "downsample", "fc", "bn", "relu")
    names = sorted(parts, key=lambda n: kinds.index(n.rstrip("0123456789"))) if spiking else parts
    for name in names:
        module.add_module(name, parts[name])


class Block(nn.Module):
    """Two or three times BatchNorm, activation, convolution; the residual is the activated input.

    `sizes` are the kernel sizes: `(3, 3)` for a basic block, with the stride on the first
    convolution; `(1, 3, 1)` for a bottleneck, with the stride on the second convolution and four
    times the channels on the last.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        sizes: tuple[int, ...],
        activation: Activation,
        spiking: bool,
    ) -> None:
        super().__init__()
        self.depth = len(sizes)
        channels_out = channels * expansion(sizes)
        widths = [channels_in, *(channels,) * (self.depth - 1), channels_out]
        strided = sizes.index(3)
        parts: dict[str, nn.Module | None] = {}
        for i, size in enumerate(sizes):
            parts[f"bn{i + 1}"] = nn.BatchNorm2d(widths[i])
            parts[f"relu{i + 1}"] = activation()
            parts[f"conv{i + 1}"] = _conv(
                widths[i], widths[i + 1], size, stride if i == strided else 1
            )
        parts["downsample"] = None
        if stride != 1 or channels_in != channels_out:
            parts["downsample"] = nn.Sequential(
                _conv(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out)
            )
        _register(self, parts, spiking)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(x))
        out = self.conv1(x)
        out = self.conv2(self.relu2(self.bn2(out)))
        if self.depth == 3:
            out = self.conv3(self.relu3(self.bn3(out)))
        return out + (x if self.downsample is None else self.downsample(x))


def expansion(sizes: tuple[int, ...]) -> int:
    """Return the ratio of a block's output channels to its width."""
    return 4 if len(sizes) == 3 else 1


class Skeleton:
    """The parts of the network and the path through them, with any activation."""

    def _build(
        self, depth: int, activation: Activation, spiking: bool, num_classes: int, width: int
    ) -> None:
        sizes = (1, 3, 1) if depth == 50 else (3, 3)
        widths = [width] + [width * k * expansion(sizes) for k in (1, 2, 4, 8)]

        def stage(i: int) -> nn.Sequential:
            channels, stride = width * 2**i, 1 if i == 0 else 2
            first = Block(widths[i], channels, stride, sizes, activation, spiking)
            rest = (
                Block(widths[i + 1], channels, 1, sizes, activation, spiking)
                for _ in range(1, DEPTHS[depth][i])
            )
            return nn.Sequential(first, *rest)

        parts = {
            "conv1": nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            "bn1": nn.BatchNorm2d(width),
            "relu1": activation(),
            **{f"layer{i + 1}": stage(i) for i in range(4)},
            "bn2": nn.BatchNorm2d(widths[4]),
            "relu2": activation(),
            "relu3": activation(),
            "fc": nn.Linear(widths[4], num_classes),
            "bn3": nn.BatchNorm1d(num_classes),
            "relu4": activation(),
        }
        _register(self, parts, spiking)
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(self.present(images))  # (T*N, 64, 112, 112)
        x = self.pool(self.relu1(self.bn1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.relu2(self.bn2(x))  # (T*N, 512 or 2048, 7, 7)
        x = self.relu3(self.avgpool(x))
        return self.readout(self.relu4(self.bn3(self.fc(self.flat(x)))))


class SpikingPreActResNet(Skeleton, SpikingNetwork):
    """The SNN: `neuron()` in place of every ReLU; a static image is presented T times."""

    in_channels = 3

    def __init__(
        self,
        depth: int,
        neuron: Callable[[], Neuron],
        setting: NeuronSetting,
        num_classes: int,
        width: int = 64,
    ) -> None:
        super().__init__(setting)
        self._build(depth, neuron, spiking=True, num_classes=num_classes, width=width)


class PreActResNet(Skeleton, Network):
    """The ANN: ReLUs and no timesteps."""

    in_channels = 3

    def __init__(self, depth: int, num_classes: int, width: int = 64) -> None:
        super().__init__()
        self.configure()
        relu = partial(nn.ReLU, inplace=False)
        self._build(depth, relu, spiking=False, num_classes=num_classes, width=width)

    def present(self, images: Tensor) -> Tensor:
        """Return the images unchanged."""
        return images

    def readout(self, x: Tensor) -> Tensor:
        """Return the logits in the parameters' type."""
        return x.to(self.fc.weight.dtype)

    def configure(
        self,
        engine: str | None = None,
        precision: str = "fp32",
        compile: str = "auto",
        image_steps: int = 0,
        sync_bn: bool = False,
    ) -> list[str]:
        """Choose the precision; raises `ValueError` for options of spiking networks."""
        for flag, value, default in (("engine", engine, None), ("compile", compile, "auto")):
            if value not in (default, "off"):
                raise ValueError(
                    f"--{flag} {value}: applies to spiking networks only; this is an ANN"
                )
        device = next((p.device for p in self.parameters()), torch.device("cpu"))
        self.choice = select.choose(
            1, device, engine="unrolled", precision=precision, sync_bn=sync_bn
        )
        return list(self.choice.notes)

    def engine_line(self) -> str:
        return f"autograd, precision {self.choice.precision}"

    def neuron_line(self) -> str:
        """Describe what stands in place of neurons."""
        return "ReLU"


def _if(depth: int, setting: NeuronSetting, num_classes: int, width: int) -> SpikingPreActResNet:
    neuron = partial(IFNeuron, setting, Vth_scale=VTH_GRADIENT_SCALE)
    return SpikingPreActResNet(depth, neuron, setting, num_classes, width)


def _lif(depth: int, setting: NeuronSetting, num_classes: int, width: int) -> SpikingPreActResNet:
    return SpikingPreActResNet(depth, partial(LIFNeuron, setting), setting, num_classes, width)


@register("preresnet_snn.resnet18_if")
def snn_resnet18_if(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-18 of IF neurons."""
    return _if(18, setting, num_classes, width)


@register("preresnet_snn.resnet18_lif")
def snn_resnet18_lif(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-18 of LIF neurons."""
    return _lif(18, setting, num_classes, width)


@register("preresnet_snn.resnet34_if")
def snn_resnet34_if(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-34 of IF neurons."""
    return _if(34, setting, num_classes, width)


@register("preresnet_snn.resnet34_lif")
def snn_resnet34_lif(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-34 of LIF neurons."""
    return _lif(34, setting, num_classes, width)


@register("preresnet_snn.resnet50_if")
def snn_resnet50_if(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-50 of IF neurons."""
    return _if(50, setting, num_classes, width)


@register("preresnet_snn.resnet50_lif")
def snn_resnet50_lif(setting: NeuronSetting, num_classes=1000, width=64) -> SpikingPreActResNet:
    """Spiking PreAct-ResNet-50 of LIF neurons."""
    return _lif(50, setting, num_classes, width)


# All builders take a neuron setting; the ANN ignores it.


@register("preresnet_ann.resnet18")
@register("preresnet_cal_Vth.resnet18")
def ann_resnet18(setting: NeuronSetting, num_classes=1000, width=64) -> PreActResNet:
    """PreAct-ResNet-18 with ReLUs, to be trained or to calibrate thresholds."""
    return PreActResNet(18, num_classes, width)


@register("preresnet_ann.resnet34")
@register("preresnet_cal_Vth.resnet34")
def ann_resnet34(setting: NeuronSetting, num_classes=1000, width=64) -> PreActResNet:
    """PreAct-ResNet-34 with ReLUs, to be trained or to calibrate thresholds."""
    return PreActResNet(34, num_classes, width)


@register("preresnet_ann.resnet50")
@register("preresnet_ann.preresnet50")
@register("preresnet_cal_Vth.resnet50")
@register("preresnet_cal_Vth.preresnet50")
def ann_resnet50(setting: NeuronSetting, num_classes=1000, width=64) -> PreActResNet:
    """PreAct-ResNet-50 with ReLUs, to be trained or to calibrate thresholds."""
    return PreActResNet(50, num_classes, width)
