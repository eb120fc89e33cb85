"""The ANN, its calibration and the SNN in little: one block, few channels, the same names."""

from functools import partial

from torch import nn

from models.neuron import IFNeuron, LIFNeuron
from models.preresnet_imagenet import Block, PreActResNet, SpikingPreActResNet


class Tiny:
    """A stem, `depth` blocks and a head."""

    def _build(self, depth, activation, spiking, num_classes, width):
        self.conv1 = nn.Conv2d(3, 4, 7, stride=4, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = activation()
        blocks = [Block(4, 4, 1, (3, 3), activation, spiking) for _ in range(depth)]
        self.layer1 = nn.Sequential(*blocks)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu2 = activation()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(16, num_classes)
        self.bn3 = nn.BatchNorm1d(num_classes)
        self.relu3 = activation()

    def forward(self, images):
        x = self.layer1(self.relu1(self.bn1(self.conv1(self.present(images)))))
        x = self.fc(self.flat(self.pool(self.relu2(self.bn2(x)))))
        return self.readout(self.relu3(self.bn3(x)))


class TinyANN(Tiny, PreActResNet):
    """With ReLUs."""


class TinySNN(Tiny, SpikingPreActResNet):
    """With neurons."""


def ann(setting, num_classes=10, depth=1):
    return TinyANN(depth, num_classes)


def snn(setting, num_classes=10, depth=1, neuron=IFNeuron):
    return TinySNN(depth, partial(neuron, setting), setting, num_classes)


BUILDERS = {
    "preresnet_ann.tiny": ann,
    "preresnet_cal_Vth.tiny": ann,
    "preresnet_cal_Vth.deeper": partial(ann, depth=2),
    "preresnet_ann.deeper": partial(ann, depth=2),
    "preresnet_snn.tiny_if": snn,
    "preresnet_snn.tiny_lif": partial(snn, neuron=LIFNeuron),
}
