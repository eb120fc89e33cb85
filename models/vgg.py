"""Spiking VGGs for event frames (Simonyan & Zisserman 2015)."""

from __future__ import annotations

from torch import Tensor, nn

from models.network import NeuronBuilder, SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron
from models.registry import register
from models.setting import NeuronSetting

WIDTHS = {
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}


class VGG(SpikingNetwork):
    """Five stages of 3x3 convolutions with average pooling at their ends.

    Takes frames `(N, T, 2, H, W)`. `width` is the number of channels of the first stage; the others
    have the multiples of it that `widths` has of 64.
    """

    in_channels = 2

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...],
        neuron: NeuronBuilder,
        setting: NeuronSetting,
        num_classes: int = 10,
        dropout: float = 0.1,
        width: int = 64,
    ) -> None:
        super().__init__(setting)
        widths = tuple(tuple(channels * width // 64 for channels in stage) for stage in widths)

        def stage(channels: int, widths: tuple[int, ...]) -> nn.Sequential:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    neuron(setting),
                    nn.Dropout(dropout),
                ]
                channels = width
            return nn.Sequential(*layers, nn.AvgPool2d(2))

        inputs = [self.in_channels] + [stage_widths[-1] for stage_widths in widths]
        self.layer1 = stage(inputs[0], widths[0])
        self.layer2 = stage(inputs[1], widths[1])
        self.layer3 = stage(inputs[2], widths[2])
        self.layer4 = stage(inputs[3], widths[3])
        self.layer5 = stage(inputs[4], widths[4])
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs[5] * 7 * 7, num_classes),
            nn.BatchNorm1d(num_classes),
            neuron(setting),
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.present(images)  # (T*N, 2, 48, 48)
        x = self.layer5(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.readout(self.classifier(self.pool(x)))


@register("vgg.vgg11_if")
def vgg11_if(setting: NeuronSetting, **options) -> VGG:
    """VGG-11 of IF neurons."""
    return VGG(WIDTHS["vgg11"], IFNeuron, setting, **options)


@register("vgg.vgg11_lif")
def vgg11_lif(setting: NeuronSetting, **options) -> VGG:
    """VGG-11 of LIF neurons."""
    return VGG(WIDTHS["vgg11"], LIFNeuron, setting, **options)


@register("vgg.vgg13_if")
def vgg13_if(setting: NeuronSetting, **options) -> VGG:
    """VGG-13 of IF neurons."""
    return VGG(WIDTHS["vgg13"], IFNeuron, setting, **options)


@register("vgg.vgg13_lif")
def vgg13_lif(setting: NeuronSetting, **options) -> VGG:
    """VGG-13 of LIF neurons."""
    return VGG(WIDTHS["vgg13"], LIFNeuron, setting, **options)


@register("vgg.vgg16_if")
def vgg16_if(setting: NeuronSetting, **options) -> VGG:
    """VGG-16 of IF neurons."""
    return VGG(WIDTHS["vgg16"], IFNeuron, setting, **options)


@register("vgg.vgg16_lif")
def vgg16_lif(setting: NeuronSetting, **options) -> VGG:
    """VGG-16 of LIF neurons."""
    return VGG(WIDTHS["vgg16"], LIFNeuron, setting, **options)


@register("vgg.vgg19_if")
def vgg19_if(setting: NeuronSetting, **options) -> VGG:
    """VGG-19 of IF neurons."""
    return VGG(WIDTHS["vgg19"], IFNeuron, setting, **options)


@register("vgg.vgg19_lif")
def vgg19_lif(setting: NeuronSetting, **options) -> VGG:
    """VGG-19 of LIF neurons."""
    return VGG(WIDTHS["vgg19"], LIFNeuron, setting, **options)
