"""The shell scripts that set a machine up, run over stand-ins for Python and pip."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = ["quickstart.sh", "test.sh", ".ci/run", "scripts/environment.sh"]

# Notes each call. As `-m venv FOLDER` it makes an environment around itself.
STAND_IN = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$1 ${2:-}" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-c "*) exit "${TOO_OLD:-0}" ;;
    "-m ruff") exit "${RUFF_FAILS:-0}" ;;
    "-m pip") [[ $3 != install ]] || exit "${PIP_FAILS:-0}" ;;
esac
"""


class Checkout:
    """A copy of the scripts, with stand-ins, and a record of what they called."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "stand in" / "python"
        self.calls_file = folder / "calls"
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "requirements.txt").write_text("one\n")
        (folder / "requirements-test.txt").write_text("two\n")
        (folder / "requirements-extras.txt").write_text("five\n")
        (folder / "requirements-simulators.txt").write_text("four\n")
        self.python.parent.mkdir()
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def run(self, script, *arguments, **variables):
        """Run a script from another folder; return its result and the calls it made."""
        self.calls_file.write_text("")
        inherited = {k: v for k, v in os.environ.items() if k not in ("VENV", "CI", "PYTHON")}
        own = {"CALLS": str(self.calls_file), "PYTHON": str(self.python)}
        result = subprocess.run(
            [str(self.folder / script), *arguments],
            cwd=self.folder.parent,
            env={**inherited, **own, **variables},
            capture_output=True,
            text=True,
        )
        return result, self.calls_file.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "checkout").mkdir()
    return Checkout(tmp_path / "checkout")


def installs(calls):
    return [call for call in calls if call.startswith("-m pip install")]


def test_the_first_call_makes_an_environment_and_a_second_installs_nothing(checkout):
    result, calls = checkout.run("test.sh", "-k", "a name")
    assert result.returncode == 0, result.stderr
    assert "-m venv .venv" in calls and calls[-1] == "-m pytest -k a name"
    line, simulators = installs(calls)
    names = ("requirements.txt", "requirements-test.txt", "requirements-extras.txt")
    assert line.endswith(" ".join(f"--requirement={name}" for name in names))
    assert simulators.endswith(" --no-deps --quiet --requirement=requirements-simulators.txt")
    assert checkout.run("test.sh")[1] == ["-m pytest"]


def test_quickstart_needs_nothing_that_only_tests_need(checkout):
    (line,) = installs(checkout.run("quickstart.sh")[1])
    assert line.endswith(" --requirement=requirements.txt")
    line, _ = installs(checkout.run("test.sh")[1])
    assert line.endswith(
        " --requirement=requirements-test.txt --requirement=requirements-extras.txt"
    )


def test_changed_requirements_are_installed_again(checkout):
    checkout.run("test.sh")
    (checkout.folder / "requirements.txt").write_text("three\n")
    assert len(installs(checkout.run("test.sh")[1])) == 1


def test_a_given_environment_is_used(checkout, tmp_path):
    _, calls = checkout.run("test.sh", VENV=str(tmp_path / "my env"))
    assert f"-m venv {tmp_path}/my env" in calls
    assert not (checkout.folder / ".venv").exists()


def test_a_failed_installation_is_tried_again(checkout):
    result, calls = checkout.run("test.sh", PIP_FAILS="1")
    assert result.returncode == 2 and "error: pip" in result.stderr
    assert not any("pytest" in call for call in calls)
    assert len(installs(checkout.run("test.sh")[1])) == 2


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh", ".ci/run"])
@pytest.mark.parametrize("variables", [{"TOO_OLD": "1"}, {"PYTHON": "no-such-python"}])
def test_a_python_too_old_or_missing_gets_one_line(checkout, script, variables):
    result, _ = checkout.run(script, **variables)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no Python 3.10 or newer found as ")
    assert not (checkout.folder / ".venv").exists()


def test_an_environment_with_an_old_python_is_named(checkout):
    checkout.run("test.sh", PIP_FAILS="1")
    result, _ = checkout.run("test.sh", TOO_OLD="1")
    assert result.returncode == 2 and "error: .venv holds a Python older" in result.stderr


def test_quickstart_trains_and_evaluates_with_the_commands_it_prints(checkout):
    result, calls = checkout.run("quickstart.sh")
    train, evaluate, report, summary = calls[-4:]
    assert train.startswith("-u cifar/main_single_gpu.py --dataset digits --model preresnet.")
    assert "--evaluate" in evaluate and "--rate_stat 1" in evaluate
    assert report.startswith("-u -m utils.report checkpoint/digits/preresnet.resnet18_lif")
    assert summary.startswith("scripts/summary.py checkpoint/digits/preresnet.resnet18_lif")
    printed = [line for line in result.stdout.splitlines() if line.startswith("$ ")]
    assert printed == [f"$ .venv/bin/python {call}" for call in (train, evaluate, report)]


def test_continuous_integration_keeps_its_environment_between_checkouts(checkout, tmp_path):
    cache = {"CI": "true", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    _, calls = checkout.run(".ci/run", "-x", **cache)
    assert calls[-1] == "-m pytest -x" and not (checkout.folder / ".venv").exists()
    assert installs(checkout.run(".ci/run", **cache)[1]) == []
    (checkout.folder / "requirements.txt").write_text("three\n")
    assert len(installs(checkout.run(".ci/run", **cache)[1])) == 2
    assert len(list((tmp_path / "cache" / "dsr").iterdir())) == 2


def test_continuous_integration_elsewhere_uses_the_environment_of_test_sh(checkout):
    _, calls = checkout.run(".ci/run", "-x")
    assert calls[-1] == "-m pytest -x" and (checkout.folder / ".venv").is_dir()


def test_continuous_integration_checks_the_code_before_it_tests(checkout):
    _, calls = checkout.run(".ci/run")
    assert calls[-3:] == ["-m ruff check", "-m ruff format --check", "-m pytest"]
    result, calls = checkout.run(".ci/run", RUFF_FAILS="1")
    assert result.returncode == 1 and calls[-1] == "-m ruff check"
