import errno
import os

import pytest
import torch

from tests.full_disk import largest_file
from utils.runs import checkpoint
from utils.system.atomic_write import folder_atomically, link, write_atomically, writing
from utils.system.errors import UserError


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


def test_a_folder_that_cannot_be_created_is_named_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/folder.*--checkpoint"),
        writing(tmp_path / "file/folder"),
    ):
        (tmp_path / "file" / "folder").mkdir()


@pytest.mark.parametrize("size", [0, 1000, 50_000, 390_000])
def test_a_checkpoint_that_does_not_fit_keeps_the_old_one_whole(tmp_path, size):
    path = tmp_path / "x.pth"
    checkpoint.save(path, {"state_dict": {"w": torch.zeros(3)}})
    with largest_file(size), pytest.raises(UserError, match=r"x\.pth \(File too large\)"):
        checkpoint.save(path, {"state_dict": {"w": torch.zeros(100_000)}})
    assert len(checkpoint.load(path)["state_dict"]["w"]) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_lost_permission_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("old")

    def refuse(self, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(path), "replace", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_program_is_not_reported_as_one_of_the_disk(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "x", lambda file: 1 / 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_gets_a_second_name(tmp_path, monkeypatch, links):
    path, other = tmp_path / "x", tmp_path / "y"
    path.write_text("new")
    other.write_text("old")
    if not links:

        def refuse(*_):
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
    link(path, other)
    assert other.read_text() == "new" and path.exists() == links
    assert {file.name for file in tmp_path.iterdir()} <= {"x", "y"}


def test_a_folder_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder"
    with folder_atomically(path) as unfinished:
        (unfinished / "x").write_text("x")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["x"]
    assert list(path.parent.iterdir()) == [path]


def test_an_error_removes_the_unfinished_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), folder_atomically(tmp_path / "x"):
        1 / 0  # noqa: B018
    with (
        pytest.raises(UserError, match="cannot write .*x .*: make room"),
        folder_atomically(tmp_path / "x", "make room") as unfinished,
    ):
        (unfinished / "missing" / "y").write_text("")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leftover", ["folder", "file", "link"])
def test_what_a_killed_process_left_is_replaced(tmp_path, leftover):
    rest = tmp_path / ".x.partial"
    if leftover == "folder":
        (rest / "deep").mkdir(parents=True)
    elif leftover == "file":
        rest.write_text("")
    else:
        rest.symlink_to("nowhere")
    with folder_atomically(tmp_path / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
