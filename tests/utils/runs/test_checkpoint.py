import pickle
import zipfile

import pytest
import torch
from torch import nn

from utils.runs import checkpoint
from utils.system.errors import UserError


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


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_at_any_of_50_places_is_one_line(tmp_path, legacy):
    path = tmp_path / "x.pth"
    torch.save(_published(_net()), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for cut in [*(len(whole) * k // 49 for k in range(49)), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"^--resume x\.pth[^\n]*$"):
            checkpoint.load(path)


def test_a_flipped_bit_anywhere_is_found(tmp_path):
    path = tmp_path / "x.pth"
    checkpoint.save(path, {"state_dict": {"w": torch.randn(1000)}})
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        (weights,) = (m for m in archive.infolist() if m.file_size == 4000)
    for place in range(weights.header_offset + 200, weights.header_offset + 4000, 100):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match=r"x\.pth"):
            checkpoint.load(path)


class Payload:
    """Unpickling it would make the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("where", ["epoch", "state_dict", "random_states"])
def test_a_checkpoint_that_would_run_code_leaves_no_trace(tmp_path, legacy, where):
    path, trace = tmp_path / "x.pth", tmp_path / "trace"
    content = _published(_net()) | {where: [Payload(trace)]}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for read in (checkpoint.load, lambda file: checkpoint.read(file, "--load_Vth")):
        with pytest.raises(UserError, match=r"^--\w+ x\.pth[^\n]*$"):
            read(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Payload(trace)))
    assert trace.exists()  # so the payload would have worked


def test_an_archive_that_would_grow_when_unpacked_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"w": torch.zeros(1_000_000)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with pytest.raises(UserError, match=r"x\.pth"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "damage",
    [
        {"epoch": "seven"},
        {"epoch": None},
        {"setting": [1]},
        {"optimizer": 3},
        {"manualSeed": "x"},
        {"rows": 5},
        {"state_dict": {1: torch.zeros(1)}},
        {"state_dict": {"w": torch.zeros(2, 2).to_sparse()}},
    ],
)
def test_contents_of_another_kind_are_one_line(tmp_path, damage):
    torch.save(_published(_net()) | damage, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"^--resume x\.pth[^\n]*$"):
        checkpoint.load(tmp_path / "x.pth")


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


def test_another_model_lists_missing_and_unexpected_keys():
    foreign = {f"layer.{i}": torch.zeros(1) for i in range(9)}
    with pytest.raises(UserError) as error:
        checkpoint.load_weights(_net(), foreign, "--resume x.pth")
    text = str(error.value)
    assert "missing 0.weight" in text
    assert "unexpected layer.0" in text
    assert "layer.7 and 1 more" in text
    assert "\n" not in text
