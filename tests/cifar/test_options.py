import shlex

import pytest

from cifar.options import build_parser
from utils.system.errors import UserError

PUBLISHED = {
    "dataset": "cifar10",
    "path": "./data",
    "workers": 4,
    "model": "preresnet.resnet18_if",
    "name": "",
    "timesteps": 20,
    "Vth": 0.3,
    "tau": 1.0,
    "delta_t": 0.05,
    "alpha": 0.3,
    "train_Vth": 1,
    "Vth_bound": 0.0005,
    "rate_stat": 0,
    "epochs": 200,
    "start_epoch": 0,
    "train_batch": 128,
    "test_batch": 50,
    "lr": 0.1,
    "warmup": 400,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "optimizer": "SGD",
    "checkpoint": "./checkpoint",
    "resume": "",
    "manualSeed": None,
    "evaluate": False,
    "pin_memory": False,
}


def _parse(line, multi=False):
    return vars(build_parser(multi).parse_args(shlex.split(line)))


def test_defaults_are_the_published_ones():
    assert PUBLISHED.items() <= _parse("").items()
    multi = _parse("", multi=True)
    assert (PUBLISHED | {"lr": 0.05, "local_rank": -1}).items() <= multi.items()


def test_both_scripts_give_the_same_settings():
    assert _parse("").keys() == _parse("", multi=True).keys()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-d digits -j 0 -c out -e", {"dataset": "digits", "workers": 0, "evaluate": True}),
        ("--lr=0.05 --epochs=300", {"lr": 0.05, "epochs": 300}),
        ("--learning-rate 0.2 --wd 0", {"lr": 0.2, "weight_decay": 0.0}),
        ("--optimizer adam", {"optimizer": "Adam"}),
        ("--optimizer sgd --nesterov --pin_memory", {"optimizer": "SGD", "nesterov": True}),
        ("--mean 0.5 0.5 0.5 --std 1 1 1", {"mean": [0.5] * 3, "std": [1.0] * 3}),
        ("--engine rate --precision bf16 --compile off", {"engine": "rate", "precision": "bf16"}),
        ("--save_every 9 --on_nan skip", {"save_every": 9, "on_nan": "skip"}),
        ("--deterministic", {"deterministic": True, "on_nan": "stop", "save_every": 0}),
        ("--start-epoch 3 --manualSeed 0", {"start_epoch": 3, "manualSeed": 0}),
    ],
)
def test_spellings(line, expected):
    assert expected.items() <= _parse(line).items()


@pytest.mark.parametrize("spelling", ["--local_rank 1", "--local-rank 1", "--local-rank=1"])
def test_the_launchers_rank_in_both_spellings(spelling):
    assert _parse(spelling, multi=True)["local_rank"] == 1


def test_published_command_lines_parse():
    for line in (
        "--path ./data --dataset cifar10 --model preresnet.resnet18_lif --name NAME",
        "--path ./data --dataset cifar100 --model preresnet.resnet18_if --Vth 6 --alpha 0.5 "
        "--Vth_bound 0.01 --name NAME",
        "--path ./data/CIFAR10DVS --dataset CIFAR10DVS --model vgg.vgg11_if --Vth 6 --alpha=0.5 "
        "--Vth_bound 0.01 --lr=0.05 --epochs=300 --name NAME",
        "--model preresnet.resnet18_lif --timesteps 5 --lr 0.05 --Vth 0.6 --alpha 0.5 "
        "--Vth_bound 0.001 --delta_t 0.1",
    ):
        _parse(line)
        _parse(line, multi=True)


@pytest.mark.parametrize(
    "line",
    [
        "--optimizer lamb",
        "--epochs 0",
        "--train-batch 0",
        "--test-batch -5",
        "--lr 0",
        "--lr nan",
        "--momentum 1",
        "--wd -1",
        "--warmup -1",
        "--workers -1",
        "--dropout 1",
        "--train_Vth 2",
        "--engine fast",
        "--precision fp16",
        "--std 1 0 1",
        "--timesteps two",
        "--manualSeed -1",
        "--save_every -1",
        "--on_nan ignore",
        "--local_rank 0",
    ],
)
def test_bad_values_name_their_flag(line):
    with pytest.raises(UserError, match=line.split()[0]):
        _parse(line)
