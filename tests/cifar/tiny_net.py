"""A spiking network small enough to train in a test, and any entry script with it registered."""

import os
import runpy
import signal
import sys

from torch import nn

from models import registry
from models.network import SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron


class TinyNet(SpikingNetwork):
    """A convolution and a linear layer, each with BatchNorm and neuron."""

    in_channels = 3

    def __init__(self, neuron, setting, num_classes=10, dropout=0.0):
        super().__init__(setting)
        self.conv1 = nn.Conv2d(3, 4, 5, stride=4)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = neuron(setting)
        self.drop = nn.Dropout(dropout)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(4 * 7 * 7, num_classes)
        self.bn2 = nn.BatchNorm1d(num_classes)
        self.relu2 = neuron(setting)

    def forward(self, images):
        x = self.relu1(self.bn1(self.conv1(self.present(images))))
        x = self.linear(self.flat(self.drop(x)))
        return self.readout(self.relu2(self.bn2(x)))


def tiny_if(setting, **options):
    return TinyNet(IFNeuron, setting, **options)


def tiny_lif(setting, **options):
    return TinyNet(LIFNeuron, setting, **options)


BUILDERS = {"tiny.if": tiny_if, "tiny.lif": tiny_lif}


def forward_until_the_end(network, images):
    """`TinyNet.forward`, but one process of a first start gets a signal at a step in training."""
    if network.training and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        TinyNet.steps = getattr(TinyNet, "steps", -1) + 1
        at = (os.environ["RANK"], str(TinyNet.steps))
        if at == (os.environ.get("TINY_DIES", "1"), os.environ["TINY_DIES_AT"]):
            number = signal.Signals[os.environ.get("TINY_SIGNAL", "SIGKILL")]
            os.kill(os.getpid(), number)
    return forward(network, images)


if __name__ == "__main__":
    if "TINY_DIES_AT" in os.environ:
        forward, TinyNet.forward = TinyNet.forward, forward_until_the_end
    for name, builder in BUILDERS.items():
        registry.register(name)(builder)
    # The launcher puts its own flag first.
    script = sys.argv.pop(next(i for i, a in enumerate(sys.argv) if a.startswith("cifar/")))
    runpy.run_path(script, run_name="__main__")
