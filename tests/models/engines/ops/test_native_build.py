"""Compiling C++ sources: the cache, other flags, and the message where there is no compiler."""

from __future__ import annotations

import ctypes
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from models.engines.ops import native, native_build
from models.engines.ops.native_build import CompilerError
from models.engines.ops.sparse import events

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
    made = sorted(file.suffix for file in (tmp_path / "cache" / "dsr").iterdir())
    monkeypatch.setattr(native_build, "_compile", lambda *arguments: pytest.fail("compiled again"))
    assert add(native_build.load(source)) == 3.0
    assert made == [".sha256", ".so"]


@needs_compiler
def test_other_flags_make_another_library(source: Path, monkeypatch) -> None:
    native_build.load(source)
    monkeypatch.setenv("CXXFLAGS", "-DSHIFT=4")
    assert add(native_build.load(source)) == 7.0


@needs_compiler
def test_a_cache_that_is_not_writable(source: Path, tmp_path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert add(native_build.load(source)) == 3.0


@needs_compiler
@pytest.mark.parametrize("damage", ["truncated", "zeroed", "writable by others"])
def test_a_library_that_cannot_be_trusted_is_compiled_again(
    source: Path, tmp_path, monkeypatch, damage
) -> None:
    with monkeypatch.context() as unloaded:
        unloaded.setattr(ctypes, "CDLL", lambda path: None)
        native_build.load(source)
    (library,) = (tmp_path / "cache" / "dsr").glob("*.so")
    whole = library.read_bytes()
    if damage == "writable by others":
        library.chmod(0o722)
    else:
        content = whole[: len(whole) // 2] + bytes(len(whole) // 2) * (damage == "zeroed")
        library.write_bytes(content)
    assert add(native_build.load(source)) == 3.0
    assert library.read_bytes() == whole and stat.S_IMODE(library.stat().st_mode) == 0o700


@needs_compiler
def test_without_room_in_the_cache_a_temporary_folder_is_used(source, monkeypatch) -> None:
    publish = native_build.native_cache.publish

    def refuse(compiled, library):
        if "cache" in str(library):
            raise OSError(28, "No space left on device")
        publish(compiled, library)

    monkeypatch.setattr(native_build.native_cache, "publish", refuse)
    assert add(native_build.load(source)) == 3.0


@needs_compiler
def test_a_library_without_an_expected_function_is_refused_when_loaded(source: Path) -> None:
    with pytest.raises(CompilerError, match="^.* has no function subtract$"):
        native_build.load(source, ["add", "subtract"])
    assert add(native_build.load(source, ["add"])) == 3.0


@needs_compiler
@pytest.mark.skipif(not shutil.which("nm"), reason="no nm")
@pytest.mark.parametrize("module", [native, events])
def test_all_functions_of_a_library_are_expected(module) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", module.library()._name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    exported = {line.split()[2] for line in listed if " T " in line}
    assert exported - {"_init", "_fini"} == set(module.FUNCTIONS)


def test_a_missing_function_is_one_line(source: Path) -> None:
    library = ctypes.CDLL(None)
    with pytest.raises(CompilerError, match="no function not_there"):
        native_build.call(library, "not_there", [])


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("printf '\\377\\376 error: \\033[31m'; exit 1", "\ufffd\ufffd error: \x1b[31m"),
        ("exit 0", "cc made no library"),
        ("sleep 60 & echo $! > {pid}; wait", "cc did not end within 0.5 s"),
        ("cat > /dev/null; exit 1", "cc failed"),  # would wait for input
    ],
)
def test_a_strange_compiler_is_one_line(script, message, source, tmp_path, monkeypatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\n" + script.format(pid=tmp_path / "pid"))
    compiler.chmod(0o700)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(native_build, "TIME_LIMIT", 0.5 if "sleep" in script else 60)
    with pytest.raises(CompilerError) as error:
        native_build.load(source)
    assert message in str(error.value) and "\n" not in str(error.value)
    if "sleep" in script:  # its child was killed too
        child = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
        assert not child.exists() or " Z " in child.read_text()


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
