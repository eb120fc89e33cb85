import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import os, torch
from utils.system.determinism import make_deterministic
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
make_deterministic()
print(os.environ.pop("CUBLAS_WORKSPACE_CONFIG"))
make_deterministic()
print(torch.are_deterministic_algorithms_enabled())
print(torch.is_deterministic_algorithms_warn_only_enabled())
print(torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""


def test_deterministic_kernels_are_selected_and_the_users_workspace_is_kept():
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines() == [":16:8", "True", "True", "True False", ":4096:8"]
