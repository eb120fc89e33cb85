import pytest
import torch

from cifar.build import build_context
from cifar.options import build_parser
from models import registry
from models.recording.recorder import Recorder
from tests.cifar.tiny_net import BUILDERS
from tests.frozen_args import FrozenArgs
from utils.analysis.flags import ReportFlags
from utils.analysis.report import finish_run
from utils.datasets.image_tensors import TrainImages
from utils.distributed.world import World
from utils.system import entry
from utils.training.evaluate import evaluate
from utils.training.flags import read_flags
from utils.training.trainer import train

FLAGS = (
    "--dataset digits --path ./data --model tiny.lif --timesteps 2 --delta_t 0.5 --Vth 0.6 "
    "--train-batch 512 --test-batch 200 --warmup 4 --compile off"
)


@pytest.fixture
def tiny_flags(tmp_path):
    """The flags of a short training of `tiny.lif` on the digits that writes to `tmp_path`."""
    return [*FLAGS.split(), "-c", str(tmp_path)]


@pytest.fixture
def call(tmp_path, tiny_flags, monkeypatch):
    """Run the training program in this process, as its entry script does."""
    for name, builder in BUILDERS.items():
        monkeypatch.setitem(registry._BUILDERS, name, builder)

    def call(*flags, tiny=True):
        """`tiny=False` leaves out the flags of `tiny_flags` but for the output's folder."""

        def main():
            first = tiny_flags if tiny else ["-c", str(tmp_path)]
            args = FrozenArgs(build_parser(multi=False).parse_args([*first, *flags]))
            context = build_context(args, World(torch.device("cpu")))
            (evaluate if args.evaluate else train)(context)
            finish_run(context, Recorder(context.model), read_flags(ReportFlags, args))

        entry.run(main)
        return tmp_path / "digits"

    return call


@pytest.fixture
def before_epoch(monkeypatch):
    """Return a function that lets something happen each time before an epoch (from 0)."""

    def arm(epoch, happen):
        original = TrainImages.set_epoch

        def set_epoch(self, now):
            if now == epoch:
                happen()
            original(self, now)

        monkeypatch.setattr(TrainImages, "set_epoch", set_epoch)

    return arm
