import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from models import NeuronSetting, registry, user_networks
from tests.models.export.odd_network import NEURONS, OddNetwork, odd_images, odd_network
from utils.export import main
from utils.system.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CLASSES = 5


def build(setting, num_classes=CLASSES):
    return OddNetwork(NEURONS["lif"], setting)


@pytest.fixture
def network():
    return odd_network("lif").float()


@pytest.fixture
def content(network, monkeypatch):
    """What a checkpoint of the network holds."""
    monkeypatch.setitem(registry._BUILDERS, "odd.lif", build)
    facts = {"model": "odd.lif", "num_classes": CLASSES, "setting": asdict(network.setting)}
    return {"state_dict": network.state_dict(), **facts}


@pytest.fixture
def checkpoint(content, tmp_path):
    path = tmp_path / "odd.lif_name_best.pth"
    torch.save(content, path)
    return path


@pytest.fixture
def call(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        main()

    return run


def files(folder):
    return sorted(file.name for file in folder.iterdir())


def test_the_torch_file_computes_the_same_without_the_project(checkpoint, network, call, capsys):
    call(checkpoint, "--to", "torch")
    stem = "odd_lif_name_best_torch"
    assert files(checkpoint.parent) == ["odd.lif_name_best.pth", f"{stem}.pth", f"{stem}.py"]
    assert f"{stem}.py" in capsys.readouterr().out
    x = odd_images().float()
    torch.save(x, checkpoint.parent / "images.pt")
    code = f"import {stem} as m, torch; x = torch.load('images.pt', weights_only=True)\n"
    code += f"torch.save(m.load('{stem}.pth')(x), 'outputs.pt')"
    subprocess.run([sys.executable, "-c", code], cwd=checkpoint.parent, check=True)
    outputs = torch.load(checkpoint.parent / "outputs.pt", weights_only=True)
    torch.testing.assert_close(outputs, network(x).detach(), rtol=0, atol=1e-6)


def test_the_spikingjelly_file_computes_the_same(checkpoint, network, call, monkeypatch):
    pytest.importorskip("spikingjelly", reason="requirements-simulators.txt is not installed")
    call(checkpoint, "--to", "spikingjelly", "--out", checkpoint.parent / "simulated")
    monkeypatch.syspath_prepend(checkpoint.parent)
    import simulated

    exported = simulated.load(checkpoint.parent / "simulated.pth")
    x = odd_images().float()
    torch.testing.assert_close(exported(x), network(x).detach(), rtol=0, atol=1e-6)


def test_the_nir_file_is_for_images_of_the_size_given(checkpoint, call):
    nir = pytest.importorskip("nir", reason="requirements-test.txt is not installed")
    call(checkpoint, "--to", "nir", "--size", 19, 21, "--out", checkpoint.parent / "graph")
    graph = nir.read(checkpoint.parent / "graph.nir")
    assert graph.nodes["images"].input_type["input"].tolist() == [2, 19, 21]
    assert graph.metadata["timesteps"] == 4
    call(checkpoint, "--to", "nir", "--out", checkpoint.parent / "default")
    graph = nir.read(checkpoint.parent / "default.nir")
    assert graph.nodes["images"].input_type["input"].tolist() == [2, 32, 32]


def test_a_network_of_ones_own_is_imported(call, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))
    monkeypatch.setattr(user_networks, "_imported", {})
    file = str(ROOT / "tests" / "own_networks.py")
    user_networks.import_networks([file])
    own = registry.create_model("mine.cnn", NeuronSetting(timesteps=2), num_classes=3)
    facts = {"model": "mine.cnn", "num_classes": 3, "setting": asdict(own.setting)}
    torch.save({"state_dict": own.state_dict(), **facts}, tmp_path / "own.pth")
    call(tmp_path / "own.pth", "--to", "torch", "--import", file)
    assert files(tmp_path) == ["own.pth", "own_torch.pth", "own_torch.py"]


def test_a_missing_package_is_named(checkpoint, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(UserError, match="^--to nir: needs the package nir; pip install nir$"):
        call(checkpoint, "--to", "nir")
    assert files(checkpoint.parent) == [checkpoint.name]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"model": "odd.li"},
            "CHECKPOINT odd.lif_name_best.pth: unknown model.*--import FILE$",
        ),
        ({"setting": {}, "model": "preresnet_ann.resnet18"}, "is of another model or class count"),
        ({"setting": {"colour": 1}}, "CHECKPOINT odd.lif_name_best.pth: damaged or of another"),
        ({"state_dict": {}}, "CHECKPOINT odd.lif_name_best.pth is of another model or class count"),
        ({"state_dict": 1}, "CHECKPOINT odd.lif_name_best.pth is not a checkpoint"),
        ({"num_classes": []}, "is damaged or foreign: wrong kind of value in num_classes"),
    ],
)
def test_foreign_checkpoints_are_refused(checkpoint, content, call, change, line):
    torch.save(content | change, checkpoint)
    with pytest.raises(UserError, match=line):
        call(checkpoint, "--to", "torch")
    assert files(checkpoint.parent) == [checkpoint.name]


def test_a_checkpoint_of_the_published_code_is_refused(checkpoint, content, call):
    torch.save({"state_dict": content["state_dict"], "epoch": 3}, checkpoint)
    with pytest.raises(UserError, match="it does not say its network, classes and neuron setting"):
        call(checkpoint, "--to", "torch")


@pytest.mark.parametrize("target", ["torch", "spikingjelly", "nir"])
def test_networks_without_neurons_are_refused(checkpoint, call, target):
    ann = registry.create_model("preresnet_ann.resnet18", odd_network("if").setting, 3)
    facts = {"arch": "preresnet_ann.resnet18", "num_classes": 3, "setting": {}}
    torch.save({"state_dict": ann.state_dict(), **facts}, checkpoint)
    with pytest.raises(UserError, match=f"--to {target}: preresnet_ann.resnet18 cannot be export"):
        call(checkpoint, "--to", target)
    assert files(checkpoint.parent) == [checkpoint.name]


def test_what_a_target_cannot_state_is_refused(checkpoint, call):
    pytest.importorskip("nir", reason="requirements-test.txt is not installed")
    with pytest.raises(UserError, match="layer conv1 cannot take 2x2x2; give larger images"):
        call(checkpoint, "--to", "nir", "--size", 2, 2)
    assert files(checkpoint.parent) == [checkpoint.name]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--to", "torch", "--size", "3", "3"], "--size: --to torch takes images of any size"),
        (["--to", "torch", "--out", "no/such/stem"], "--out no/such/stem: no folder no/such"),
    ],
)
def test_flags_that_make_no_sense_are_refused(checkpoint, call, arguments, line):
    with pytest.raises(UserError, match=line):
        call(checkpoint, *arguments)


@pytest.mark.parametrize("existing", ["name.pth", "other.pth", "other.py"])
def test_no_file_is_overwritten(content, call, tmp_path, existing):
    torch.save(content, tmp_path / "name.pth")
    if existing != "name.pth":
        (tmp_path / existing).write_text("of the user")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    stem = tmp_path / existing.split(".")[0]
    with pytest.raises(UserError, match=f"^--out .*{existing}: it exists already; name another"):
        call(tmp_path / "name.pth", "--to", "torch", "--out", stem)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_mistake_ends_the_program_with_one_line(tmp_path):
    command = [sys.executable, "-m", "utils.export", str(tmp_path / "none.pth"), "--to", "torch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: CHECKPOINT none.pth: no such file in ")
