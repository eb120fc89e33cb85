"""docs/architecture.md tells the truth about the calls between a command and its gradient."""

import re
import shlex
import sys
import traceback
from pathlib import Path

import pytest
import torch

from cifar import main_single_gpu
from tests.docs.pages import ROOT, read

FLAGS = "--dataset digits --timesteps 1 --train-batch 2 --epochs 1 --compile off"


class Reached(Exception):
    """Raised in place of the backward pass."""


def test_the_calls_to_the_gradient_are_those_of_the_page(sandbox, monkeypatch):
    def backward(loss):
        raise Reached

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(sys, "argv", ["main_single_gpu.py", *shlex.split(FLAGS)])
    with pytest.raises(Reached) as reached:
        main_single_gpu.main()
    frames = traceback.extract_tb(reached.tb)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)]
    calls = [f"{frame.name} in {Path(frame.filename).relative_to(ROOT)}" for frame in own]
    listed = re.findall(r"^\d\. `(\w+)` in \[(.*?)\]", read("docs/architecture.md"), re.MULTILINE)
    assert calls[1:-1] == [f"{name} in {file}" for name, file in listed]
    assert len(listed) == 5  # so many calls, that of `backward` included
