"""`--log_json`, `--tensorboard` and `--config` of the ImageNet program."""

import pytest

from tests.utils.monitoring.scalars import read_curves
from utils.runs import checkpoint
from utils.runs.json_log import JsonLog


@pytest.mark.parametrize("arch", ["preresnet_ann.tiny", "preresnet_snn.tiny_if"])
def test_a_run_is_followed_and_repeated_from_its_record(call, tmp_path, arch):
    pytest.importorskip("tensorboard", reason="requirements-extras.txt is not installed")
    folder = call(f"--arch {arch} --name run --log_json --tensorboard {tmp_path / 'tb'}")
    curves = read_curves(tmp_path / "tb" / "imagenet" / "run")
    assert [step for step, _ in curves["loss/test"]] == [1]
    layers = [name for name in curves if name.startswith(("threshold/", "firing_rate/"))]
    assert not any("[" in name for name in layers)
    assert bool(layers) == arch.startswith("preresnet_snn")
    rows = checkpoint.load(folder / "run.pth")["rows"]
    assert JsonLog(folder / "run.jsonl").read() == rows
    call(f"--arch {arch} --config {folder / 'run.json'} --name again")
    assert checkpoint.load(folder / "again.pth")["rows"] == rows
    assert (tmp_path / "tb" / "imagenet" / "again").is_dir()
