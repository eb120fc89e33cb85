"""Compiling C++ sources: the cache, other flags, and the message where there is no compiler."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest

from models.engines.ops import native_build
from models.engines.ops.native_build import CompilerError

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, native_build.COMPILERS)), reason="no C++ compiler"
)


@pytest.fixture
def source(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv("CXXFLAGS", raising=False)
    path = tmp_path / "sum.cpp"
    path.write_text(
        "#ifndef SHIFT\n#define SHIFT 0\n#endif\n"
        'extern "C" void add(double a, double* to, int threads) { *to += a + SHIFT; }\n'
    )
    return path


def add(library: ctypes.CDLL) -> float:
    to = ctypes.c_double(1.0)
    signature = [ctypes.c_double, ctypes.c_void_p, ctypes.c_int]
    native_build.call(library, "add", signature, 2.0, ctypes.addressof(to))
    return to.value


@needs_compiler
def test_compiled_once_for_all_processes(source: Path, tmp_path, monkeypatch) -> None:
    assert add(native_build.load(source)) == 3.0
    (made,) = (tmp_path / "cache" / "dsr").iterdir()
    monkeypatch.setattr(native_build, "_compile", lambda *arguments: pytest.fail("compiled again"))
    assert add(native_build.load(source)) == 3.0
    assert made.suffix == ".so"


@needs_compiler
def test_other_flags_make_another_library(source: Path, monkeypatch) -> None:
    native_build.load(source)
    monkeypatch.setenv("CXXFLAGS", "-DSHIFT=4")
    assert add(native_build.load(source)) == 7.0


@needs_compiler
def test_a_cache_that_is_not_writable(source: Path, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert add(native_build.load(source)) == 3.0


@pytest.mark.parametrize(
    ("compiler", "message"),
    [
        ("no_such_compiler", "no_such_compiler cannot be started"),
        ("false", "false failed"),
        (None, r"none of c\+\+, g\+\+, clang\+\+ found; install one, or set CXX"),
    ],
)
def test_a_missing_compiler_is_one_line(compiler, message: str, source: Path, monkeypatch) -> None:
    if compiler is None:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    else:
        monkeypatch.setenv("CXX", compiler)
    with pytest.raises(CompilerError, match=f"^{message}.*$"):
        native_build.load(source)
