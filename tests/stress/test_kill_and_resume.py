"""The short form of the stress test."""

from argparse import Namespace

from tests.stress.kill_and_resume import stress


def test_killed_twice_a_run_ends_as_if_nothing_had_happened(tmp_path, capsys):
    args = {"kills": 2, "signal": "SIGKILL", "epochs": 16, "save_every": 5, "seed": 0}
    assert stress(Namespace(folder=tmp_path, seconds=None, **args)) == 0
    assert "2 kills by SIGKILL" in capsys.readouterr().out
