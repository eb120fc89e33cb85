import csv
import json
import math
import os
import re
import shutil
import signal

import pytest
import torch

from imagenet.loaders import FolderLoader
from models import user_networks
from tests import ranks
from utils.runs.checkpoint_keys import CheckpointContent
from utils.training.metrics import Meter

PUBLISHED = {"epoch", "arch", "state_dict", "best_acc1", "acc1", "optimizer"}
ANN = "--arch preresnet_ann.tiny --name ann "
CALIBRATE = "--arch preresnet_cal_Vth.tiny --pre_train ann.pth --calculate_Vth Vth "
SNN = "--arch preresnet_snn.tiny_if --pre_train ann.pth --load_Vth Vth.dict "


class Killed(BaseException):
    """Stands for the end of a process."""


def _rows(folder, stem):
    lines = (folder / f"{stem}.txt").read_text().splitlines()
    return [[float(x) for x in line.split()] for line in lines[1:]]


def _tested(folder, stem):
    """The only row of a table of evaluations, its numbers as such."""
    with (folder / f"{stem}_evaluation.tsv").open() as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    return {key: float(x) if re.fullmatch(r"[\d.]+", x) else x for key, x in row.items()}


def _load(path):
    return torch.load(path, weights_only=True)


def test_an_ann_writes_published_keys_log_and_curves(call):
    folder = call(ANN + "--epochs 2")
    suffixes = {path.name.removeprefix("ann") for path in folder.iterdir()}
    assert suffixes == {".txt", ".pth", "_best.pth", ".pdf", ".json", "_card.md"}
    last = _load(folder / "ann.pth")
    assert PUBLISHED <= last.keys() <= CheckpointContent.__annotations__.keys()
    assert (last["arch"], last["epoch"]) == ("preresnet_ann.tiny", 2)
    rows = _rows(folder, "ann")
    assert [row[0] for row in rows] == [0.05, 0.025]
    assert last["acc1"] == pytest.approx(rows[-1][4], abs=1e-6)
    assert last["best_acc1"] == pytest.approx(max(row[4] for row in rows), abs=1e-6)
    (record,) = json.loads((folder / "ann.json").read_text())
    assert record["arch"] == "preresnet_ann.tiny"
    assert record["manualSeed"] == 5


def test_no_flag_is_written_to(call):
    call(ANN.replace("ann ", "frozen ") + "--resume auto")  # `call` passes frozen flags


def test_calibration_writes_bare_tensors_and_prints_the_table(call, handed_over, capsys):
    folder = call(CALIBRATE)
    thresholds = _load(folder / "Vth.dict")
    layers = ["layer1[0].storein1", "layer1[0].storein2"]
    assert list(thresholds) == ["storein1", *layers, "storein2", "storein3"]
    assert all(value.shape == () and value.dtype == torch.float32 for value in thresholds.values())
    printed = capsys.readouterr().out
    for name, value in thresholds.items():
        assert re.search(rf"^{re.escape(name)} +{value:.6f}$", printed, re.M)
    assert "5 batches of val/" in printed
    assert not (folder / "preresnet_cal_Vth.tiny.txt").exists()


def test_calibration_from_random_training_images(call, handed_over):
    one = _load(call(CALIBRATE) / "Vth.dict")
    flags = CALIBRATE + "--calib_split train --calib_batches 2 "
    two, again, other = (_load(call(flags + f"--seed {s}") / "Vth.dict") for s in (5, 5, 6))
    assert two == again
    assert one != two != other


def test_a_silent_layer_is_warned_of(call, handed_over, capsys):
    content = _load(handed_over / "ann.pth")
    content["state_dict"]["bn3.weight"].zero_()
    content["state_dict"]["bn3.bias"].fill_(-1.0)
    torch.save(content, handed_over / "ann.pth")
    call(CALIBRATE)
    assert "warning: thresholds at 0: storein3;" in capsys.readouterr().out


def test_the_snn_starts_from_both_and_is_tested_before_training(call, handed_over, capsys):
    capsys.readouterr()
    call(SNN)
    printed = capsys.readouterr().out
    assert "from ann.pth, preresnet_ann.tiny after 3 epochs; it holds none of the 5" in printed
    assert re.search(r"thresholds: 5 from Vth.dict, [\d.]+ to [\d.]+\n", printed)
    before = re.search(r"before training: loss .* top-1 ([\d.]+) %.* of 9 samples", printed)
    assert printed.index("before training") < printed.index("epoch 1/1")
    assert _load(handed_over / "preresnet_snn.tiny_if.pth")["arch"] == "preresnet_snn.tiny_if"
    call(SNN + "-e --name tested")
    assert _tested(handed_over, "tested")["top-1 (%)"] == pytest.approx(float(before[1]), abs=0.01)
    assert "untrained" not in capsys.readouterr().out


def test_a_snn_of_many_steps_and_no_late_threshold_is_the_ann(call, handed_over, capsys):
    """With T large and alpha 0.5 the rates are the clipped activations, so scores agree."""
    call("--arch preresnet_ann.tiny --pre_train ann.pth -e --name a")
    call(SNN + "-e --name b --timesteps 400")
    ann, spiking = (_tested(handed_over, name) for name in "ab")
    assert spiking["loss"] == pytest.approx(ann["loss"], abs=0.1)
    assert (ann["timesteps"], spiking["timesteps"]) == ("", 400)
    assert ann["checkpoint"] == spiking["checkpoint"] == "ann.pth"


def test_lif_thresholds_are_scaled_by_delta_t(call, handed_over, capsys):
    capsys.readouterr()
    line = SNN.replace("tiny_if", "tiny_lif") + "-e --delta_t 0.1"
    call(line)
    largest = max(_load(handed_over / "Vth.dict").values()).item()
    assert re.search(rf" to {0.1 * largest:.4g}\n", capsys.readouterr().out)


@pytest.mark.parametrize("stage", [ANN, SNN])
@pytest.mark.parametrize("workers", [0, 1])
def test_stopping_and_resuming_writes_the_log_of_not_stopping(
    call, handed_over, monkeypatch, stage, workers
):
    flags = stage + f"--epochs 3 --optimizer Adam --lr 0.01 -j {workers} "
    call(flags + "--name whole")
    original = FolderLoader.set_epoch

    def set_epoch(self, epoch):
        if epoch == 2:
            raise Killed
        original(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(FolderLoader, "set_epoch", set_epoch)
        with pytest.raises(Killed):
            call(flags + "--name broken")
    folder = call(flags + f"--name broken --resume {'auto' if workers else 'broken.pth'}")
    assert _rows(folder, "broken") == _rows(folder, "whole")
    whole, broken = (_load(folder / f"{name}.pth") for name in ("whole", "broken"))
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, broken["state_dict"][key])


@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_within_an_epoch_it_ends_as_if_it_had_not_been(
    call, handed_over, monkeypatch, workers, capsys
):
    flags = SNN + f"--epochs 2 --optimizer Adam --lr 0.01 -j {workers} "
    call(flags + "--name whole")
    original = Meter.merge

    def merge(self, *others):
        original(self, *others)
        merge.steps += 1
        if merge.steps == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    merge.steps = 0
    monkeypatch.setattr(Meter, "merge", merge)
    with pytest.raises(SystemExit) as ended:
        call(flags + "--name broken")
    assert ended.value.code == 143
    assert "epoch 2, step 1 of 3" in capsys.readouterr().err
    folder = call(flags + "--name broken --resume auto")
    assert "before training" not in capsys.readouterr().out
    assert _rows(folder, "broken") == _rows(folder, "whole")
    whole, broken = (_load(folder / f"{name}.pth") for name in ("whole", "broken"))
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, broken["state_dict"][key])


def test_resuming_replaces_what_was_handed_over_and_says_so(call, handed_over, capsys):
    call(SNN)
    capsys.readouterr()
    call(SNN + "--epochs 2 --resume preresnet_snn.tiny_if.pth")
    printed = capsys.readouterr().out
    assert "note: --resume preresnet_snn.tiny_if.pth replaces" in printed
    assert "before training" not in printed
    assert len(_rows(handed_over, "preresnet_snn.tiny_if")) == 2


def test_published_checkpoints_are_resumed_and_tested(call, capsys):
    folder = call(ANN + "--epochs 2")
    ours = _load(folder / "ann.pth")
    call("-e --resume ann_best.pth --timesteps 3")  # the arch of `call` is given, the name is not
    assert "note: from ann_best.pth: --name ann\n" in capsys.readouterr().out
    assert _tested(folder, "ann")["checkpoint"] == "ann_best.pth"
    published = {key: ours[key] for key in PUBLISHED}
    published["state_dict"] = {f"module.{k}": v for k, v in ours["state_dict"].items()}
    published["best_acc1"] = torch.tensor(ours["best_acc1"])
    torch.save(published, folder / "theirs.pth")
    call(ANN + "--resume theirs.pth -e --name tested")
    assert _tested(folder, "tested")["top-1 (%)"] == pytest.approx(ours["acc1"], abs=1e-6)
    call(ANN + "--resume theirs.pth --epochs 3 --name B")
    assert _load(folder / "B.pth")["epoch"] == 3


def test_a_network_of_the_users_own_trains_and_is_evaluated(call, monkeypatch):
    monkeypatch.setattr(user_networks, "_imported", {})
    own = f"--import {ranks.ROOT / 'tests' / 'own_networks.py'} --arch mine.cnn "
    content = _load(call(own) / "mine.cnn.pth")
    assert content["arch"] == "mine.cnn" and len(content["args"]["imports"]) == 1
    monkeypatch.setattr(user_networks, "_imported", {})  # `call` forgets its registrations
    call(own + "-e --resume mine.cnn.pth --rate_stat 1")


def test_firing_rates_are_saved(call, handed_over):
    call(SNN + "-e --rate_stat 1")
    rates = _load(handed_over / "preresnet_snn.tiny_if_firing_rate.dict")
    layers = ["layer1[0].relu1", "layer1[0].relu2"]
    assert sorted(rates) == [*layers, "relu1", "relu2", "relu3"]
    assert all(0 <= rate <= 1 for rate in rates.values())


def test_warm_up_ends_with_the_first_epoch(call, monkeypatch):
    rates = []
    monkeypatch.setattr("utils.training.loop.set_learning_rate", lambda _, rate: rates.append(rate))
    call(ANN + "--epochs 2 --warmup 10")
    half = 0.025 * (1 + math.cos(math.pi / 2))
    assert rates == pytest.approx([0.005, 0.01, 0.015, half, half, half])


def test_lines_are_printed_every_so_many_batches(call, capsys):
    call(ANN + "-p 2")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in lines[:2]] == [
        "epoch 1/1 train 2/3",
        "epoch 1/1 test 2/2",
    ]


def test_skipped_images_are_counted_in_the_end(call, images, tmp_path, capsys):
    root = shutil.copytree(images, tmp_path / "bad")
    (root / "train" / "class1" / "2.png").write_bytes(b"")
    (root / "val" / "class0" / "0.png").write_bytes(b"")
    folder = call(ANN + f"--data {root} --skip_bad_images --epochs 2")
    assert "2 unreadable images were skipped" in capsys.readouterr().out
    assert len(_rows(folder, "ann")) == 2


def test_bf16_trains_an_ann(call, capsys, monkeypatch):
    monkeypatch.setattr("models.engines.select.has_bf16", lambda device: True)
    folder = call(ANN + "--precision bf16 --epochs 2")
    assert "autograd, precision bf16" in capsys.readouterr().out
    assert math.isfinite(_rows(folder, "ann")[-1][1])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("engine", ["folded", "unrolled", "rate"])
def test_every_engine_trains_the_snn(call, handed_over, capsys, engine, precision, monkeypatch):
    monkeypatch.setattr("models.engines.select.has_bf16", lambda device: True)
    call(SNN + f"--engine {engine} --precision {precision}")
    assert f"engine {engine}" in capsys.readouterr().out
