"""The short form of the stress test."""

from argparse import Namespace

from tests.stress.kill_and_resume import stress


def test_a_run_that_is_killed_twice_ends_like_an_undisturbed_one(tmp_path, capsys):
    args = {"kills": 2, "signal": "SIGKILL", "epochs": 16, "save_every": 5, "seed": 0}
    assert stress(Namespace(folder=tmp_path, seconds=None, **args)) == 0
    assert "2 kills by SIGKILL" in capsys.readouterr().out
