"""Train or evaluate a spiking network in several processes, one a GPU, or over CPUs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

from cifar import train  # noqa: E402
from cifar.options import build_parser  # noqa: E402
from utils.distributed.launch_env import join  # noqa: E402
from utils.system.entry import run  # noqa: E402


def main() -> None:
    """Parse the command line, join the other processes and do what it says."""
    args = build_parser(multi=True).parse_args()
    with join(args.local_rank, args.timeout) as world:
        train.main(args, world)


if __name__ == "__main__":
    run(main)
