"""What git holds names no machine, and no file is overlong."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MACHINE_PATHS = [f"/{folder}/" for folder in ("work", "root", "tmp", "home", "mnt", "Users")]


@pytest.fixture(scope="module")
def committed():
    """Return the text of each file in git's index, by name."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    contents = {file: file.read_bytes() for file in files if file.is_file()}
    return {
        file.relative_to(ROOT): content.decode()
        for file, content in contents.items()
        if b"\0" not in content
    }


@pytest.mark.parametrize("path", MACHINE_PATHS)
def test_no_file_names_a_path_of_one_machine(committed, path):
    assert [str(file) for file, text in committed.items() if path in text] == []


def test_no_module_is_longer_than_400_lines(committed):
    long = [f for f, text in committed.items() if f.suffix == ".py" and text.count("\n") > 400]
    assert long == []
