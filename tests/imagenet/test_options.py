import pytest

from imagenet.options import build_parser
from utils.system.errors import UserError

PUBLISHED = {
    "data": "./data/imagenet",
    "checkpoint": "./checkpoint",
    "arch": "preresnet_snn.resnet18_if",
    "workers": 4,
    "epochs": 90,
    "start_epoch": 0,
    "batch_size": 144,
    "lr": 0.001,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "print_freq": 1000,
    "resume": "",
    "pre_train": "",
    "evaluate": False,
    "rate_stat": 0,
    "train_Vth": 1,
    "Vth_bound": 0.01,
    "dist_url": "tcp://224.66.41.62:23456",
    "dist_backend": "nccl",
    "world_size": -1,
    "rank": -1,
    "multiprocessing_distributed": False,
    "manualSeed": None,
    "gpu": None,
    "warmup": 5000,
    "calculate_Vth": "",
    "load_Vth": "",
    "optimizer": "Adam",
    "name": "",
    "timesteps": 50,
    "Vth": 6.0,
    "tau": 1.0,
    "delta_t": 0.05,
    "alpha": 0.5,
    "calib_batches": 5,
    "calib_split": "val",
    "image_size": 224,
    "min_crop": 0.08,
}


def _parse(line):
    return vars(build_parser().parse_args(line.split()))


def test_defaults_are_the_published_ones():
    assert PUBLISHED.items() <= _parse("").items()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-a preresnet_ann.resnet18 -b 256 -p 10 -j 2", {"batch_size": 256, "print_freq": 10}),
        ("--optimizer SGD --wd 1e-4", {"optimizer": "SGD", "weight_decay": 1e-4}),
        ("--optimizer adam --seed 3", {"optimizer": "Adam", "manualSeed": 3}),
        ("--gpu 1 --nproc 2 -e", {"gpu": 1, "nproc": 2, "evaluate": True}),
    ],
)
def test_flags_are_read(line, expected):
    assert expected.items() <= _parse(line).items()


@pytest.mark.parametrize(
    "line", ["-b 0", "--calib_split test", "--calib_batches 0", "--nproc 0", "--image-size 8"]
)
def test_values_that_make_no_sense_are_refused(line):
    with pytest.raises(UserError, match=line.split()[0]):
        _parse(line)
