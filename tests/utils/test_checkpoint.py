import pickle

import pytest
import torch
from torch import nn

from utils import checkpoint
from utils.errors import UserError


def _net(classes=3):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(8, classes))


def _published(net):
    """A checkpoint as the published code writes one under DataParallel."""
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    acc = torch.tensor(12.5)
    return {"epoch": 7, "state_dict": state, "acc": acc, "best_acc": acc, "optimizer": {}}


@pytest.mark.parametrize("legacy", [False, True])
def test_prefixed_keys_load_into_the_bare_model(tmp_path, legacy):
    source, target = _net(), _net()
    path = tmp_path / "x.pth"
    torch.save(_published(source), path, _use_new_zipfile_serialization=not legacy)
    content = checkpoint.load(path)
    checkpoint.load_weights(target, content["state_dict"], "--resume x.pth")
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_saved_keys_are_bare_and_whole(tmp_path):
    net = _net()
    checkpoint.save(tmp_path / "x.pth", {"state_dict": net.state_dict(), "epoch": 1})
    content = checkpoint.load(tmp_path / "x.pth")
    assert list(content["state_dict"]) == list(net.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_a_missing_file_names_those_that_are_there(tmp_path):
    checkpoint.save(tmp_path / "net_best.pth", {})
    with pytest.raises(UserError, match=r"--resume net\.pth.*net_best\.pth"):
        checkpoint.load(tmp_path / "net.pth")
    with pytest.raises(UserError, match="no .pth file is there"):
        checkpoint.load(tmp_path / "nowhere" / "net.pth")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_one_line(tmp_path, share, legacy):
    path = tmp_path / "x.pth"
    torch.save(_published(_net()), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"^--resume x\.pth[^\n]*$"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [b"text\n", b"%PDF-1.4\n", pickle.dumps({"a": print})])
def test_a_foreign_file_is_one_line_and_runs_no_code(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^--resume x\.pth[^\n]*$"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"state_dict": 3}])
def test_tensors_without_a_state_dict_are_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="no state_dict"):
        checkpoint.load(tmp_path / "x.pth")


def test_another_class_count_lists_the_keys_and_changes_nothing():
    net, state = _net(), _net(classes=5).state_dict()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError, match=r"2\.weight \(5, 8\) for \(3, 8\)"):
        checkpoint.load_weights(net, state, "--resume x.pth")
    for key, value in net.state_dict().items():
        assert torch.equal(before[key], value)


def test_another_model_lists_all_missing_and_unexpected_keys():
    foreign = {f"layer.{i}": torch.zeros(1) for i in range(9)}
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(_net(), foreign, "--resume x.pth")
    text = str(error.value)
    assert "missing 0.weight" in text
    assert "unexpected layer.0" in text
    assert "layer.8" in text
    assert "\n" not in text
