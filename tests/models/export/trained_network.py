"""A network that was trained on digits for a moment, and all test digits."""

import torch
import torch.nn.functional as F

from models import NeuronSetting
from tests.cifar.tiny_net import BUILDERS
from utils.datasets.digits import digit_images


def trained_network(kind):
    """Return a network in evaluation mode, float32, unrolled, that knows most digits."""
    torch.manual_seed(0)
    setting = NeuronSetting(timesteps=4, Vth=0.6, delta_t=0.5, train_Vth=True)
    network = BUILDERS[f"tiny.{kind}"](setting)
    network.configure(engine="unrolled")
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    train = digit_images()[0]
    for rows in torch.randperm(len(train.images)).split(64)[:20]:
        optimizer.zero_grad()
        F.cross_entropy(network(_normalized(train.images[rows])), train.labels[rows]).backward()
        optimizer.step()
    return network.eval()


def digits():
    """Return the images and labels of all test digits."""
    test = digit_images()[1]
    return _normalized(test.images), test.labels


def _normalized(images):
    return (images.float() / 255 - 0.3) / 0.3
