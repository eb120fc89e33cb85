import os
import socket

import pytest

from utils.system.regular_file import open_regular


def test_a_file_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to("x")
    for name in ("x", "link"):
        with open_regular(tmp_path / name, most=7) as file:
            assert file.read() == b"content"


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "pipe")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_devices_and_folders_are_refused(path):
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(path)


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OSError):
            open_regular("socket")


def test_a_large_file_is_refused_unread(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(OSError, match="1,099,511,627,776 bytes, more than the 1,000"):
        open_regular(tmp_path / "x", most=1000)


def test_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "link")
