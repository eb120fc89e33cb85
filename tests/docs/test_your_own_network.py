"""The networks that the pages define are trained by the commands of the pages."""

import re
import shlex
import sys

import pytest

from cifar import main_single_gpu
from tests.docs.pages import code_blocks

SHORT = shlex.split("--epochs 1 --train-batch 719 --test-batch 359 --timesteps 1 --compile off")


@pytest.mark.parametrize("page", ["README.md", "docs/your-own-network.md"])
def test_the_network_of_a_page_is_trained_and_evaluated(page, sandbox, monkeypatch, capsys):
    (code,) = [c for c in code_blocks(page, "python") if c.startswith("# my_networks.py")]
    (sandbox / "my_networks.py").write_text(code)
    lines = "".join(code_blocks(page, "bash")).splitlines()
    commands = [line for line in lines if "--import my_networks.py" in line]
    for command in commands:
        arguments = shlex.split(command)[3:]
        monkeypatch.setattr(sys, "argv", ["main_single_gpu.py", *arguments, *SHORT])
        main_single_gpu.main()
    out = capsys.readouterr().out
    assert re.search(r"best test accuracy [\d.]+ % in 1 epochs", out)
    assert ("--evaluate" in "".join(commands)) == bool(re.search(r"test loss .* of 359", out))
