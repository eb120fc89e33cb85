"""Spiking networks, their neurons, and the engines that differentiate them."""

from models import preresnet, preresnet_imagenet, vgg  # noqa: F401  (importing registers)
from models.registry import UnknownModel, create_model, list_models
from models.setting import NeuronSetting

__all__ = ["NeuronSetting", "UnknownModel", "create_model", "list_models"]
