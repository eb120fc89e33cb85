"""Training or testing a network: what both CIFAR entry scripts call."""

from __future__ import annotations

from argparse import Namespace

from cifar.run import prepare
from utils.distributed import World
from utils.evaluate import evaluate
from utils.train import train


def main(args: Namespace, world: World) -> None:
    """Train, or with `--evaluate` test, as the flags say; raises `UserError` for bad input."""
    run = prepare(args, world)
    (evaluate if args.evaluate else train)(run)
