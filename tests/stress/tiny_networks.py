"""The tiny networks of the tests, for `--import` by programs that run in processes of their own."""

from models.registry import register
from tests.cifar.tiny_net import BUILDERS as CIFAR
from tests.imagenet.tiny_net import BUILDERS as IMAGENET

for name, builder in (CIFAR | IMAGENET).items():
    register(name)(builder)
