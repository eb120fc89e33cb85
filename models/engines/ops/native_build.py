"""Compile a C++ source to a shared library, at first use, and load it.

Libraries are kept in the user's cache. `CXX` names another compiler, `CXXFLAGS` adds to the flags.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from models.engines.ops import native_cache

COMPILERS = ("c++", "g++", "clang++")
# Without contraction to fused multiply-adds, rounding and therefore every spike equal torch's.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = "-mprefer-vector-width=512"  # x86 only
TIME_LIMIT = 300  # seconds; compiling takes a few


class CompilerError(Exception):
    """There is no working compiler; the message is one line."""


def load(source: Path, functions: Iterable[str] = ()) -> ctypes.CDLL:
    """Load the library of this source, from the user's cache if it was compiled before.

    Any header beside it may belong to it. Raises `CompilerError` without a working C++ compiler,
    and where the library lacks one of the `functions`.
    """
    library = _load(source)
    for name in functions:
        _function(library, name)
    return library


def _load(source: Path) -> ctypes.CDLL:
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise CompilerError(f"none of {', '.join(COMPILERS)} found; install one, or set CXX")
    flags = [*FLAGS, *([WIDE] if "avx512f" in _processor() else [])]
    flags += os.environ.get("CXXFLAGS", "").split()
    headers = sorted(source.parent.glob("*.h"))
    texts = [file.read_text() for file in (source, *headers)]
    key = hashlib.sha256(repr((texts, compiler, flags, _processor())).encode())
    name = f"{source.stem}-{key.hexdigest()[:16]}.so"
    if folder := native_cache.cache_folder():
        with suppress(OSError):  # it is full or read-only
            if not native_cache.is_intact(folder / name):
                _compile(compiler, flags, source, folder / name)
            return _open(folder / name)
    try:
        with tempfile.TemporaryDirectory(prefix="dsr-") as folder:
            _compile(compiler, flags, source, Path(folder) / name)
            return _open(Path(folder) / name)
    except OSError as error:
        raise CompilerError(f"the library cannot be written ({error})") from None


def _open(library: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilerError(f"{library} cannot be loaded ({error})") from None


def call(library: ctypes.CDLL, name: str, signature: list, *arguments) -> None:
    """Call a function of the library with these arguments and the number of threads.

    A tensor is passed as the address of its values. Raises `CompilerError` if the function is
    missing.
    """
    function = _function(library, name)
    function.argtypes, function.restype = signature, None
    values = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    function(*values, torch.get_num_threads())


def _function(library: ctypes.CDLL, name: str) -> Callable:
    try:
        return getattr(library, name)
    except AttributeError:
        raise CompilerError(f"{library._name} has no function {name}") from None


def _compile(compiler: str, flags: list[str], source: Path, path: Path) -> None:
    """Compile to a temporary file and rename it to `path`: several processes may do so at once.

    Raises OSError when the folder of `path` cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        result = Path(folder) / path.name
        _run(compiler, [*flags, "-o", str(result), str(source)])
        if not result.is_file():
            raise CompilerError(f"{compiler} made no library")
        native_cache.publish(result, path)


def _run(compiler: str, arguments: list[str]) -> None:
    """Run the compiler in a session of its own, so that its children can be killed too."""
    try:
        process = subprocess.Popen(
            [*compiler.split(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CompilerError(f"{compiler} cannot be started ({error.strerror})") from None
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CompilerError(f"{compiler} did not end within {TIME_LIMIT} s") from None
        raise
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines() or [f"{compiler} failed"]
        raise CompilerError(next((line for line in lines if "error" in line), lines[0]))


def _processor() -> str:
    """Return what `-march=native` depends on; machines that differ may share a home folder."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
