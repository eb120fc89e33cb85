"""Train or evaluate a spiking network in one process, on a GPU if there is one."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.system.allocator import tune_allocator  # noqa: E402

tune_allocator()

from cifar.build import build_context  # noqa: E402
from cifar.options import build_parser  # noqa: E402
from models.recording.recorder import Recorder  # noqa: E402
from utils.analysis.flags import ReportFlags  # noqa: E402
from utils.analysis.report import finish_run  # noqa: E402
from utils.distributed.launch_env import single_process  # noqa: E402
from utils.system.entry import run  # noqa: E402
from utils.training.evaluate import evaluate  # noqa: E402
from utils.training.flags import read_flags  # noqa: E402
from utils.training.trainer import train  # noqa: E402


def main() -> None:
    """Parse the command line, then train or evaluate."""
    args = build_parser(multi=False).parse_args()
    context = build_context(args, single_process())
    (evaluate if args.evaluate else train)(context)
    finish_run(context, Recorder(context.model), read_flags(ReportFlags, args))


if __name__ == "__main__":
    run(main)
