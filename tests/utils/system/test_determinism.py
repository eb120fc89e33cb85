import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import os, torch
from utils.system.determinism import make_deterministic
make_deterministic()
print(torch.are_deterministic_algorithms_enabled())
print(torch.is_deterministic_algorithms_warn_only_enabled())
print(torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""


def _run(**environment):
    base = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    return subprocess.run(
        [sys.executable, "-c", CODE],
        env={**base, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_deterministic_kernels_are_selected_and_the_users_workspace_is_kept():
    assert _run() == ["True", "True", "True False", ":4096:8"]
    assert _run(CUBLAS_WORKSPACE_CONFIG=":16:8")[-1] == ":16:8"
