import json
import struct
import sys

import pytest
import torch

from models import NeuronSetting, create_model
from tests import golden_numbers as golden
from utils import convert
from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CIFAR_KEYS, IMAGENET_KEYS
from utils.system import entry

NETWORKS = {  # of the golden key lists
    "cifar_preresnet_resnet18_lif": "preresnet.resnet18_lif",
    "cifar_vgg_vgg11_if": "vgg.vgg11_if",
    "imagenet_preresnet_snn_resnet18_if": "preresnet_snn.resnet18_if",
    "imagenet_preresnet_snn_resnet50_if": "preresnet_snn.resnet50_if",
    "imagenet_preresnet_ann_resnet18": "preresnet_ann.resnet18",
}
WEIGHTS = {
    "conv.weight": torch.arange(6.0).view(1, 2, 3),
    "Vth": torch.tensor(0.3, dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(7),
    "flags": torch.tensor([True, False, True]),
    "empty": torch.empty(0, 3, dtype=torch.bfloat16),
}


def _content(keys=CIFAR_KEYS, state=WEIGHTS, **more):
    return {
        keys.network: "net",
        "epoch": 3,
        "state_dict": state,
        keys.acc: 91.5,
        keys.best_acc: torch.tensor(92.5),
        "optimizer": {"state": {}, "param_groups": []},
        "rows": [[0.0] * 5],
        "setting": {"timesteps": 20, "Vth": 0.3},
        "format": 1,
        **more,
    }


def _convert(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
    entry.run(convert.main)


@pytest.mark.parametrize(("to", "prefix"), [("published", "module."), ("published-gpu", "")])
@pytest.mark.parametrize("name", NETWORKS)
def test_published_keys_are_those_of_the_golden_lists(name, to, prefix):
    keys = IMAGENET_KEYS if name.startswith("imagenet") else CIFAR_KEYS
    with torch.device("meta"):
        shapes = golden.keys()[name]
        state = create_model(NETWORKS[name], NeuronSetting(), 10).state_dict()
    found = convert.published_checkpoint(_content(keys, state), convert.PREFIXES[to], "x.pth")
    assert list(found["state_dict"]) == [f"{prefix}{key}" for key in shapes]
    expected = {"epoch", "state_dict", keys.acc, keys.best_acc, "optimizer"}
    assert found.keys() == expected | ({"arch"} if keys is IMAGENET_KEYS else set())
    assert isinstance(found[keys.best_acc], torch.Tensor) and found[keys.acc].item() == 91.5


def test_a_converted_checkpoint_comes_back(tmp_path, monkeypatch, capsys):
    path = tmp_path / "net.pth"
    checkpoint.save(path, _content())
    _convert(monkeypatch, path, "--to", "published")
    assert capsys.readouterr().out == f"wrote {tmp_path / 'net_published.pth'}\n"
    back = checkpoint.load(tmp_path / "net_published.pth")
    assert back["state_dict"].keys() == WEIGHTS.keys()
    assert all(torch.equal(back["state_dict"][key], WEIGHTS[key]) for key in WEIGHTS)


def test_thresholds_are_tuples_within_blocks(tmp_path, monkeypatch):
    thresholds = {"storein1": torch.tensor(1.5), "layer1.0.storein1": torch.tensor(2.5)}
    checkpoint.save(tmp_path / "Vth.dict", thresholds)
    _convert(monkeypatch, tmp_path / "Vth.dict", "--to", "published", "--out", tmp_path / "x")
    found = torch.load(tmp_path / "x", weights_only=True)
    assert found == {"storein1": torch.tensor(1.5), "layer1.0.storein1": (torch.tensor(2.5),)}
    _convert(monkeypatch, tmp_path / "x", "--to", "safetensors", "--out", tmp_path / "y")
    assert _read(tmp_path / "y")[0] == thresholds


def _read(path):
    """The tensors and the metadata of a safetensors file, as its format is described."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata = header.pop("__metadata__")
    names = {"F32": "float32", "F64": "float64", "BF16": "bfloat16", "I64": "int64", "BOOL": "bool"}
    tensors, ends = {}, [0]
    for name, entry_ in header.items():
        begin, end = entry_["data_offsets"]
        assert begin == ends[-1]
        ends.append(end)
        dtype = getattr(torch, names[entry_["dtype"]])
        assert (8 + length + begin) % dtype.itemsize == 0
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype) if end > begin else []
        tensors[name] = torch.as_tensor(flat, dtype=dtype).view(entry_["shape"])
    assert ends[-1] == len(data)
    return tensors, metadata


def test_safetensors_hold_the_weights_and_the_facts(tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "net.pth", _content(step=2, args={"lr": 0.1}))
    _convert(monkeypatch, tmp_path / "net.pth", "--to", "safetensors")
    tensors, metadata = _read(tmp_path / "net.safetensors")
    assert tensors.keys() == WEIGHTS.keys()
    for key, value in WEIGHTS.items():
        assert torch.equal(tensors[key], value) and tensors[key].dtype == value.dtype
    assert metadata["format"] == "pt" and metadata["model"] == "net"
    assert json.loads(metadata["setting"]) == {"timesteps": 20, "Vth": 0.3}
    assert (metadata["epoch"], metadata["acc"], metadata["best_acc"]) == ("3", "91.5", "92.5")
    assert all(isinstance(value, str) for value in metadata.values())
    assert not {"state_dict", "optimizer", "rows"} & metadata.keys()


def test_the_safetensors_package_reads_them(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors")
    checkpoint.save(tmp_path / "net.pth", _content())
    _convert(monkeypatch, tmp_path / "net.pth", "--to", "safetensors")
    with safetensors.safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert file.metadata()["model"] == "net"
        assert set(file.keys()) == WEIGHTS.keys()
        assert all(torch.equal(file.get_tensor(key), WEIGHTS[key]) for key in WEIGHTS)


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, ["--to", "published"], "CHECKPOINT net.pth: no such file"),
        ({"a": 1.0}, ["--to", "published"], "CHECKPOINT net.pth is not a checkpoint"),
        ([1], ["--to", "safetensors"], "CHECKPOINT net.pth is not a checkpoint"),
        (_content(step=2), ["--to", "published"], "within an epoch"),
        (
            {"state_dict": WEIGHTS},
            ["--to", "published"],
            "no epoch, acc, best_acc, optim",
        ),
        (
            {"state_dict": {"w": torch.zeros(2, dtype=torch.complex64)}},
            ["--to", "safetensors"],
            "w",
        ),
        (_content(), ["--to", "onnx"], "--to"),
        (_content(), ["--to", "published", "--out", "{tmp}"], "--out"),
        (_content(), ["--to", "published", "--out", "{tmp}/none/x.pth"], "cannot write"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    tmp_path, monkeypatch, capsys, content, arguments, said
):
    if content is not None:
        torch.save(content, tmp_path / "net.pth")
    before = sorted(tmp_path.iterdir())
    arguments = [word.format(tmp=tmp_path) for word in arguments]
    with pytest.raises(SystemExit) as ended:
        _convert(monkeypatch, tmp_path / "net.pth", *arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in line
    assert sorted(tmp_path.iterdir()) == before
