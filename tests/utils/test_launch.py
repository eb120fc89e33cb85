import os

import pytest
import torch.multiprocessing as mp

from utils.errors import UserError
from utils.launch import spawn


def _write(index, folder):
    (folder / str(index)).touch()


def _refuse(index, culprit):
    if index == culprit:
        raise UserError(f"--flag {index}: no")
    os.read(os.pipe()[0], 1)  # waits, as for a peer that is gone


def _fail(index):
    raise RuntimeError("a fault of the program")


def test_work_is_done_by_each_process(tmp_path):
    spawn(_write, 2, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.parametrize("culprit", [0, 1])
def test_the_mistake_one_finds_ends_all(culprit):
    with pytest.raises(UserError, match=f"--flag {culprit}: no"):
        spawn(_refuse, 2, culprit)


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(mp.ProcessRaisedException, match="a fault of the program"):
        spawn(_fail, 1)
