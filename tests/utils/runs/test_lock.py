import os

import pytest

from utils.runs.lock import RunLock
from utils.runs.paths import RunFiles
from utils.system.errors import UserError


def test_another_run_is_refused_with_the_holder_and_the_files(tmp_path):
    files = RunFiles(tmp_path, "net")
    with RunLock(files):
        for refuse in (RunLock(files).check, RunLock(files).__enter__):
            with pytest.raises(UserError, match=rf"--name: process {os.getpid()} .*{tmp_path}/net"):
                refuse()
        assert files.lock.exists()
    assert not files.lock.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    lock = RunLock(RunFiles(tmp_path / "file", "net"))
    lock.check()
    with pytest.raises(UserError, match="cannot write"):
        lock.__enter__()
