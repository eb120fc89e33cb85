"""Train an ANN on ImageNet, take thresholds from it, train the spiking network with both."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

from imagenet.launch import start  # noqa: E402
from imagenet.options import build_parser  # noqa: E402
from imagenet.stages import run_stage  # noqa: E402
from utils.system.entry import run  # noqa: E402


def main() -> None:
    """Parse the command line and run its stage in as many processes as it says."""
    start(run_stage, build_parser().parse_args())


if __name__ == "__main__":
    run(main)
