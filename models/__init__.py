"""Spiking networks, their neurons, and the engines that differentiate them."""

from models import preresnet, preresnet_imagenet, vgg  # noqa: F401  (importing registers)
from models.network import SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron
from models.registry import UnknownModel, create_model, list_models, register
from models.setting import NeuronSetting

__all__ = [
    "IFNeuron",
    "LIFNeuron",
    "NeuronSetting",
    "SpikingNetwork",
    "UnknownModel",
    "create_model",
    "list_models",
    "register",
]
