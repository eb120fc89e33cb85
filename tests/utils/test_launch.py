import os

import pytest
import torch.multiprocessing as mp

from utils.errors import UserError
from utils.launch import spawn


def _refuse(index, culprit):
    if index == culprit:
        raise UserError(f"--flag {index}: no")
    os.read(os.pipe()[0], 1)  # waits, as for a peer that is gone


def _fail(index):
    raise RuntimeError("a fault of the program")


def test_the_mistake_one_finds_ends_all():
    with pytest.raises(UserError, match="--flag 1: no"):
        spawn(_refuse, 2, 1)


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(mp.ProcessRaisedException, match="a fault of the program"):
        spawn(_fail, 1)
