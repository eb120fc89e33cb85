"""Cached libraries: whom they must belong to, and what their checksums detect."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from models.engines.ops import native_cache


@pytest.fixture
def library(monkeypatch, tmp_path) -> Path:
    """A published file, in a cache folder created under the umask that allows everything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    former = os.umask(0)
    try:
        folder = native_cache.cache_folder()
        compiled = folder / "compiled"
        compiled.write_bytes(b"content")
        native_cache.publish(compiled, folder / "x.so")
    finally:
        os.umask(former)
    return folder / "x.so"


def test_only_the_user_has_access_whatever_the_umask(library: Path) -> None:
    paths = [library.parent, *library.parent.iterdir()]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert modes == {"dsr": 0o700, "x.so": 0o700, "x.so.sha256": 0o600}
    assert native_cache.is_intact(library)


@pytest.mark.parametrize("content", [b"", b"conten", b"content\0", bytes(7)])
def test_other_content_is_detected(library: Path, content: bytes) -> None:
    library.write_bytes(content)
    assert not native_cache.is_intact(library)


@pytest.mark.parametrize("name", ["x.so", "x.so.sha256"])
@pytest.mark.parametrize("change", ["removed", "group", "others", "link", "pipe"])
def test_files_that_others_could_have_made_are_not_used(library, tmp_path, name, change) -> None:
    file = library.with_name(name)
    if change in ("group", "others"):
        file.chmod(0o620 if change == "group" else 0o602)
    else:
        content = file.read_bytes()
        file.unlink()
        if change == "link":
            (tmp_path / "elsewhere").write_bytes(content)
            file.symlink_to(tmp_path / "elsewhere")
        elif change == "pipe":
            os.mkfifo(file)
    assert not native_cache.is_intact(library)


def test_files_of_another_user_are_not_used(library: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    owner = library.stat().st_uid
    assert native_cache.is_intact(library) == (owner == 0)


def test_a_folder_that_others_may_write_is_closed_to_them(library: Path) -> None:
    library.parent.chmod(0o777)
    assert native_cache.cache_folder() == library.parent
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["file", "link", "of another user"])
def test_no_folder_is_used_that_is_not_the_users(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if kind == "file":
        (tmp_path / "dsr").write_text("")
    elif kind == "link":
        (tmp_path / "target").mkdir(mode=0o755)
        (tmp_path / "dsr").symlink_to("target")
    else:
        (tmp_path / "dsr").mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        (tmp_path / "dsr").chmod(0o777)
    assert native_cache.cache_folder() is None
