"""Pre-activation spiking ResNets for 3x32x32 images (He et al. 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from models.network import NeuronBuilder, SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron
from models.registry import register
from models.setting import NeuronSetting


def _conv(channels_in: int, channels_out: int, size: int, stride: int = 1, bias: bool = True):
    padding = size // 2
    return nn.Conv2d(channels_in, channels_out, size, stride=stride, padding=padding, bias=bias)


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return a 1x1 convolution, without BatchNorm, where the shape changes, else the identity."""
    if stride == 1 and channels_in == channels_out:
        return nn.Sequential()
    return _conv(channels_in, channels_out, 1, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the residual is the activated input."""

    expansion = 1

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        dropout: float,
        neuron: NeuronBuilder,
        setting: NeuronSetting,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = _conv(channels_in, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _conv(channels, channels, 3)
        self.shortcut = _shortcut(channels_in, channels, stride)
        self.relu1 = neuron(setting)
        self.relu2 = neuron(setting)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(x))
        out = self.conv1(x)
        out = self.conv2(self.dropout(self.relu2(self.bn2(out))))
        return out + self.shortcut(x)


class Bottleneck(nn.Module):
    """Convolutions 1x1 with the stride, 3x3 and 1x1; the residual is the activated input."""

    expansion = 4

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        dropout: float,
        neuron: NeuronBuilder,
        setting: NeuronSetting,
    ) -> None:
        super().__init__()
        channels_out = self.expansion * channels
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = _conv(channels_in, channels, 1, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn3 = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout(dropout)
        self.conv3 = _conv(channels, channels_out, 1)
        self.shortcut = _shortcut(channels_in, channels_out, stride)
        self.relu1 = neuron(setting)
        self.relu2 = neuron(setting)
        self.relu3 = neuron(setting)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(x))
        out = self.conv1(x)
        out = self.conv2(self.relu2(self.bn2(out)))
        out = self.conv3(self.dropout(self.relu3(self.bn3(out))))
        return out + self.shortcut(x)


class PreActResNet(SpikingNetwork):
    """Four stages of `width` times 1, 2, 4, 8 channels; the static image is presented T times."""

    in_channels = 3

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        neuron: NeuronBuilder,
        setting: NeuronSetting,
        num_classes: int = 10,
        dropout: float = 0.0,
        width: int = 64,
    ) -> None:
        super().__init__(setting)

        def stage(channels_in: int, channels: int, depth: int, stride: int) -> nn.Sequential:
            channels_out = block.expansion * channels
            first = block(channels_in, channels, stride, dropout, neuron, setting)
            rest = (
                block(channels_out, channels, 1, dropout, neuron, setting) for _ in range(1, depth)
            )
            return nn.Sequential(first, *rest)

        widths = [width] + [block.expansion * width * k for k in (1, 2, 4, 8)]
        self.conv1 = _conv(self.in_channels, width, 3, bias=False)
        self.layer1 = stage(widths[0], width, depths[0], stride=1)
        self.layer2 = stage(widths[1], 2 * width, depths[1], stride=2)
        self.layer3 = stage(widths[2], 4 * width, depths[2], stride=2)
        self.layer4 = stage(widths[3], 8 * width, depths[3], stride=2)
        self.bn1 = nn.BatchNorm2d(widths[4])
        self.pool = nn.AvgPool2d(4)
        self.flat = nn.Flatten()
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(widths[4], num_classes)
        self.bn2 = nn.BatchNorm1d(num_classes)
        self.relu1 = neuron(setting)
        self.relu2 = neuron(setting)
        self.relu3 = neuron(setting)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(self.present(images))  # (T*N, 64, 32, 32)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.relu1(self.bn1(x))  # (T*N, 512, 4, 4)
        x = self.relu2(self.pool(x))
        x = self.linear(self.drop(self.flat(x)))
        return self.readout(self.relu3(self.bn2(x)))


def _resnet18(neuron: NeuronBuilder, setting: NeuronSetting, **options) -> PreActResNet:
    return PreActResNet(BasicBlock, (2, 2, 2, 2), neuron, setting, **options)


@register("preresnet.resnet18_if")
def resnet18_if(setting: NeuronSetting, **options) -> PreActResNet:
    """PreAct-ResNet-18 of IF neurons."""
    return _resnet18(IFNeuron, setting, **options)


@register("preresnet.resnet18_lif")
def resnet18_lif(setting: NeuronSetting, **options) -> PreActResNet:
    """PreAct-ResNet-18 of LIF neurons."""
    return _resnet18(LIFNeuron, setting, **options)
