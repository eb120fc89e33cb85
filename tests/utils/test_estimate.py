"""The program that counts the memory of a step."""

import re
import sys

import pytest

from utils import estimate
from utils.system.errors import UserError

SMALL = ["--model", "vgg.vgg11_lif", "--dataset", "CIFAR10DVS", "--timesteps", "2"]


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the program; return its first line and the cells of its table."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["estimate", *flags])
        estimate.main()
        head, *table = capsys.readouterr().out.splitlines()
        return head, [[cell.strip() for cell in row.split("|")[1:-1]] for row in table]

    return run


def test_every_engine_and_precision_has_a_row(call):
    head, (columns, _, *rows) = call(*SMALL, "--batches", "64")
    assert "vgg.vgg11_lif, --timesteps 2, samples 2x2x48x48: peak memory of a training" in head
    assert columns == ["engine", "precision", "64 images"]
    assert len(rows) == 6 and {row[0] for row in rows} == {"folded", "unrolled", "rate"}
    need = {tuple(row[:2]): float(re.fullmatch(r"(\d\.\d\d) GiB", row[2])[1]) for row in rows}
    assert 0.1 < need["folded", "bf16"] < need["folded", "fp32"] < need["unrolled", "fp32"] < 1


def test_flags_choose_rows_and_batch(call):
    flags = ("--engine", "folded", "--precision", "bf16", "--train-batch", "6", "-e")
    head, (columns, _, row) = call(*SMALL, *flags)
    assert "an evaluation step" in head and columns[2:] == ["6 images"]
    assert row[:2] == ["folded", "bf16"]


def test_the_largest_batch_fits_and_the_next_one_does_not(call):
    flags = (*SMALL, "--engine", "folded", "--precision", "fp32")
    _, (columns, _, row) = call(*flags, "--memory", "0.5")
    assert columns[3] == "fits 0.5 GiB"
    most = int(re.fullmatch(r"(\d+) images", row[3])[1])
    _, (_, _, row) = call(*flags, "--batches", str(most), str(most + 1), str(2 * most))
    fits, next_one, twice = (float(cell.split()[0]) for cell in row[2:])
    assert fits <= round(estimate.USABLE * 0.5, 2) <= next_one + 0.01 < twice


def test_networks_of_imagenet_and_without_spikes(call):
    flags = ("imagenet", "--arch", "preresnet_ann.resnet18", "--image-size", "64", "-b", "2")
    head, (_, _, *rows) = call(*flags)
    assert "samples 3x64x64: peak memory of a training step, Adam" in head
    assert [row[:2] for row in rows] == [["autograd", "fp32"], ["autograd", "bf16"]]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "vgg.vgg11_if"], "--dataset cifar10: it has 3 channels, the network takes 2"),
        (["--model", "resnet"], "--model: unknown model 'resnet'"),
        (["imagenet", "--memory", "0"], "--memory: must be greater than 0"),
        ([*SMALL, "--batches", "1"], "--batches: must be at least 2"),
    ],
)
def test_wrong_flags_are_named(call, flags, said):
    with pytest.raises(UserError, match=re.escape(said)):
        call(*flags)
