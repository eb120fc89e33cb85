"""Train or evaluate a spiking network in one process, on a GPU if there is one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

from cifar import train  # noqa: E402
from cifar.options import build_parser  # noqa: E402
from utils.distributed.launch_env import single_process  # noqa: E402
from utils.system.entry import run  # noqa: E402


def main() -> None:
    """Parse the command line and do what it says."""
    args = build_parser(multi=False).parse_args()
    train.main(args, single_process())


if __name__ == "__main__":
    run(main)
