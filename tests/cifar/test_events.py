"""The training script on simulated recordings of each event data set, in its own layout."""

import sys

import pytest

from cifar import main_single_gpu
from models import registry
from models.neuron import IFNeuron
from models.vgg import VGG, WIDTHS
from tests.utils.events.layouts import write_gesture, write_n_caltech101, write_n_mnist
from utils.datasets.image_tensors import TrainImages
from utils.system import entry

FLAGS = "--model vgg.small --timesteps 2 --train-batch 8 --compile off -j 0 --manualSeed 1"
LAYOUTS = {
    "DVS128Gesture": (write_gesture, 11),
    "NMNIST": (write_n_mnist, 10),
    "NCaltech101": (write_n_caltech101, 3),
}


class Killed(BaseException):
    """Stands for the end of a process: no handler may see it."""


def small_vgg(setting, **options):
    return VGG(WIDTHS["vgg11"], IFNeuron, setting, **options, width=2)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Run the script on a data set; return the folder of its output."""
    monkeypatch.setitem(registry._BUILDERS, "vgg.small", small_vgg)
    monkeypatch.setattr("utils.system.allocator.tune_allocator", lambda: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def run(name, *flags, output="out"):
        argv = ["main_single_gpu.py", "--dataset", name, "--path", str(tmp_path / name)]
        argv += [*FLAGS.split(), "-c", str(tmp_path / output), *flags]
        monkeypatch.setattr(sys, "argv", argv)
        entry.run(main_single_gpu.main)
        return tmp_path / output / name

    return run


@pytest.mark.parametrize("name", LAYOUTS)
def test_training_and_resuming(train, tmp_path, capsys, monkeypatch, name):
    write, classes = LAYOUTS[name]
    write(tmp_path / name)
    whole = train(name, "--epochs", "2")
    assert f"{classes} classes" in " ".join(capsys.readouterr().out.split())

    def killed(self, epoch, original=TrainImages.set_epoch):
        if epoch == 1:
            raise Killed
        original(self, epoch)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(TrainImages, "set_epoch", killed)
        train(name, "--epochs", "2", output="parts")
    parts = train(name, "--epochs", "2", "--resume", "auto", output="parts")
    assert "Converting" not in capsys.readouterr().out  # the frames were cached
    for folder in (whole, parts):
        assert len(losses(folder)) == 2
    assert losses(parts) == losses(whole)


def losses(folder):
    return [line.split()[1] for line in (folder / "vgg.small.txt").read_text().splitlines()[1:]]
