"""Training or testing a network: what both CIFAR entry scripts call."""

from __future__ import annotations

from argparse import Namespace

from cifar.build import prepare
from utils.distributed.world import World
from utils.training.evaluate import evaluate
from utils.training.trainer import train


def main(args: Namespace, world: World) -> None:
    """Train, or with `--evaluate` test, as the flags say; raises `UserError` for bad input."""
    run = prepare(args, world)
    (evaluate if args.evaluate else train)(run)
