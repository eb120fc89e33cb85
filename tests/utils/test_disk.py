import errno

import pytest

from utils.disk import write_atomically, writing
from utils.errors import UserError


def test_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    def fail(file):
        file.write(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(UserError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line_with_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/folder.*--checkpoint"),
        writing(tmp_path / "file/folder"),
    ):
        (tmp_path / "file" / "folder").mkdir()
