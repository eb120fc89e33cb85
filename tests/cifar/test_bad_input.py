"""Each mistake is one line on stderr with the flag or file in it, status 2, and no file changed."""

import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from cifar import datasets
from utils.datasets.image_tensors import TrainImages


@pytest.fixture
def earlier(call, tmp_path):
    """The folder of an earlier run, with checkpoints that do not fit beside it."""
    folder = call("--epochs", "1", "--manualSeed", "1")
    whole = (folder / "tiny.lif.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pth").write_text("no checkpoint\n")
    content = torch.load(folder / "tiny.lif.pth", weights_only=True)
    content["state_dict"] = {
        key: torch.zeros(100, *value.shape[1:]) if value.shape[:1] == (10,) else value
        for key, value in content["state_dict"].items()
    }
    torch.save(content, folder / "classes.pth")
    content["state_dict"] = {"features.0.weight": torch.zeros(3)}
    torch.save(content, folder / "model.pth")
    content = torch.load(folder / "tiny.lif.pth", weights_only=True)
    momentum = content["optimizer"]["state"][0]["momentum_buffer"]
    content["optimizer"]["state"][0]["momentum_buffer"] = momentum.to_sparse()
    torch.save(content, folder / "sparse.pth")
    content["optimizer"]["state"][0]["momentum_buffer"] = momentum
    torch.save(content | {"rows": [["a", "row"]]}, folder / "rows.pth")
    torch.save(content | {"setting": {"Vth": torch.ones(3), 5: None}}, folder / "setting.pth")
    (tmp_path / "empty").mkdir()
    for name in ("digits", "folder"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "both.pth").write_text("")
    for half in ("train", "test"):
        (tmp_path / "one" / half / "a").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "one" / half / "a" / "0.png")
    (tmp_path / "file").write_text("")
    return folder


CASES = [
    ("--dataset cifar", ["--dataset cifar", "cifar10", "digits"]),
    ("--model tiny.lift", ["--model", "tiny.lif", "preresnet.resnet18_lif"]),
    ("--dataset folder --path {tmp}/empty", ["--path", "empty"]),
    ("--resume tiny.pth", ["--resume tiny.pth", "tiny.lif.pth"]),
    ("--resume gone.pth -e", ["--resume gone.pth"]),
    ("--resume cut.pth", ["--resume cut.pth"]),
    ("--resume text.pth -e", ["--resume text.pth"]),
    ("--resume classes.pth", ["--resume classes.pth", "linear.weight (100, 196) for (10, 196)"]),
    ("--resume classes.pth -e", ["--resume classes.pth", "linear.weight"]),
    ("--resume model.pth", ["--resume model.pth", "missing", "conv1.weight", "features.0.weight"]),
    ("--resume tiny.lif.pth --model tiny.if", ["--model tiny.lif"]),
    ("--resume tiny.lif.pth --optimizer Adam --epochs 2", ["--optimizer Adam", "tiny.lif.pth"]),
    ("--timesteps 0", ["--timesteps"]),
    ("--Vth -1", ["--Vth"]),
    ("--tau 0", ["--tau"]),
    ("--delta_t 0", ["--delta_t"]),
    ("--optimizer lamb", ["--optimizer", "SGD", "Adam"]),
    ("--nesterov --momentum 0", ["--nesterov", "--momentum"]),
    ("--name a/b", ["--name a/b"]),
    ("--name _best", ["--name _best", "another"]),
    ("--name x_mid", ["--name x_mid", "tiny.lifx"]),
    ("--name .old-12", ["--name .old-12"]),
    ("--name _evaluation -e", ["--name _evaluation"]),
    ("--resume {tmp}/digits", ["--resume", "digits: a folder"]),
    ("--resume . -e", ["--resume .: a folder"]),
    ("--resume sparse.pth --epochs 2", ["--resume sparse.pth", "not a dense tensor"]),
    ("--resume rows.pth --epochs 2", ["--resume rows.pth", "damaged"]),
    ("--lr 1e308", ["--lr", "at most"]),
    ("--Vth 1e39", ["--Vth", "at most"]),
    ("--epochs 99999999999999999999999", ["--epochs", "at most"]),
    ("--timesteps 99999999999999999999999", ["--timesteps", "at most"]),
    ("--save_every 99999999999999999999999", ["--save_every", "at most"]),
    ("--dataset folder --path {tmp}/one --timesteps 1", ["--path", "1 training samples"]),
    ("--no-such-flag", ["--no-such-flag"]),
    ("--dataset CIFAR10DVS", ["--model tiny.lif", "--dataset CIFAR10DVS", "channels"]),
    ("-c {tmp}/file -e", ["file/digits", "--checkpoint"]),
]


@pytest.mark.parametrize(("flags", "said"), CASES, ids=[flags for flags, _ in CASES])
def test_is_one_line(call, earlier, tmp_path, capsys, monkeypatch, flags, said):
    train = SimpleNamespace(num_samples=8)
    events = SimpleNamespace(train=train, num_classes=10, in_channels=2)
    monkeypatch.setitem(datasets._DATASETS, "CIFAR10DVS", lambda args, batching, world: events)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(*flags.format(tmp=tmp_path).split())
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in said:
        assert part in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_name_in_several_folders_needs_a_path(call, earlier, capsys):
    with pytest.raises(SystemExit):
        call("-e", "--resume", "both.pth", tiny=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert "digits/both.pth" in line and "folder/both.pth" in line


def test_a_setting_of_another_kind_is_passed_over(call, earlier):
    call("-e", "--resume", "setting.pth")


def test_damage_in_the_images_that_neurons_hide_keeps_the_last_whole_epoch(
    call, tmp_path, capsys, monkeypatch
):
    """A neuron whose membrane is not a number stays silent, so that the loss stays finite."""

    def load(self, start, stop, original=TrainImages.load):
        images, labels = original(self, start, stop)
        return images * (math.nan if self.epoch else 1.0), labels

    def set_epoch(self, epoch, original=TrainImages.set_epoch):
        original(self, epoch)
        self.epoch = epoch

    monkeypatch.setattr(TrainImages, "load", load)
    monkeypatch.setattr(TrainImages, "set_epoch", set_epoch)
    with pytest.raises(SystemExit):
        call("--epochs", "3", "--manualSeed", "1")
    (line,) = capsys.readouterr().err.splitlines()
    assert "epoch 2, step 1 of 3: the images are not finite" in line
    assert "--lr" in line
    folder = tmp_path / "digits"
    assert len((folder / "tiny.lif.txt").read_text().splitlines()) == 2
    assert torch.load(folder / "tiny.lif.pth", weights_only=True)["epoch"] == 1
