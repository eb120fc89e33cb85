import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from imagenet.launch import start
from imagenet.options import build_parser
from imagenet.stages import run_stage
from models import registry
from tests.frozen_args import FrozenArgs
from tests.imagenet.tiny_net import BUILDERS
from utils.system import entry

FLAGS = "--arch preresnet_ann.tiny -j 0 --image-size 32 -b 8 --epochs 1 --warmup 0 --lr 0.05 "
FLAGS += "--timesteps 4 --compile off --optimizer SGD --seed 5"


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A folder of three classes, told apart by colour: 21 training and 9 validation images."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for half, count in (("train", 7), ("val", 3)):
        for label in range(3):
            folder = root / half / f"class{label}"
            folder.mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                pixels[..., label] += 100
                Image.fromarray(pixels).save(folder / f"{k}.png")
    return root


def _call(root, images, line):
    """Run the program in this process, on the CPU, as its entry script does."""
    flags = [*FLAGS.split(), "--data", str(images), "-c", str(root), *line.split()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_BUILDERS", registry._BUILDERS | BUILDERS)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        entry.run(lambda: start(run_stage, FrozenArgs(build_parser().parse_args(flags))))
    return root / "imagenet"


@pytest.fixture
def call(tmp_path, images):
    """A function that runs the program with some flags and returns the folder it writes to."""
    return lambda line: _call(tmp_path, images, line)


@pytest.fixture(scope="session")
def two_stages(tmp_path_factory, images):
    """The folder after the first two stages."""
    root = tmp_path_factory.mktemp("two_stages")
    _call(root, images, "--arch preresnet_ann.tiny --name ann --epochs 3")
    line = "--arch preresnet_cal_Vth.tiny --pre_train ann.pth --calculate_Vth Vth"
    return _call(root, images, line)


@pytest.fixture
def handed_over(two_stages, tmp_path):
    """A folder of the test's own after the first two stages."""
    return shutil.copytree(two_stages, tmp_path / "imagenet")
