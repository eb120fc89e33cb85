"""A network of a user's own, as `--import tests/own_networks.py` registers it."""

from torch import nn

from models import LIFNeuron, SpikingNetwork, register


@register("mine.cnn")
@register("preresnet_mine.cnn")
class SmallCNN(SpikingNetwork):
    """A convolution and a linear layer for images of any size."""

    in_channels = 3

    def __init__(self, setting, num_classes=10):
        super().__init__(setting)
        self.conv = nn.Conv2d(3, 4, 5, stride=4)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = LIFNeuron(setting)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(36, num_classes)
        self.bn2 = nn.BatchNorm1d(num_classes)
        self.relu2 = LIFNeuron(setting)

    def forward(self, images):
        x = self.pool(self.relu1(self.bn1(self.conv(self.present(images)))))
        return self.readout(self.relu2(self.bn2(self.linear(self.flat(x)))))
