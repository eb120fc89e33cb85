import pytest
import torch

from tests import ranks
from utils.distributed.launch_env import join
from utils.system.errors import UserError


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join().size == 1


def test_a_local_rank_without_a_launcher_is_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match="--local_rank.*torchrun"):
        join(local_rank=1)


@pytest.mark.parametrize("missing", ["MASTER_ADDR", "MASTER_PORT", "RANK"])
def test_half_an_environment_is_refused(monkeypatch, missing):
    for name, value in ranks.group(0, 2, "1").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(UserError, match=f"{missing}.*torchrun"):
        join()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "9" * 23),
        ("RANK", "2"),
        ("RANK", "-1"),
        ("RANK", "\u00b2"),
        ("LOCAL_RANK", "one"),
        ("LOCAL_RANK", "2"),
        ("MASTER_PORT", "port"),
        ("MASTER_PORT", "0"),
        ("MASTER_PORT", "99999"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, name, value):
    for variable in (ranks.group(0, 2, "1") | {name: value}).items():
        monkeypatch.setenv(*variable)
    with pytest.raises(UserError, match=f"^{name}={value}: must be an integer from"):
        join()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--nproc_per_node"):
        join()
