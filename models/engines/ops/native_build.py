"""Compile a C++ source to a shared library, at first use, and load it.

Libraries are kept in the user's cache. `CXX` names another compiler, `CXXFLAGS` adds to the flags.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

COMPILERS = ("c++", "g++", "clang++")
# Without contraction to fused multiply-adds, rounding and therefore every spike equal torch's.
FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math", "-fopenmp", "-shared", "-fPIC"]
WIDE = "-mprefer-vector-width=512"  # x86 only


class CompilerError(Exception):
    """There is no working compiler; the message is one line."""


def load(source: Path) -> ctypes.CDLL:
    """Load the library of this source, from the user's cache if it was compiled before.

    The headers of `name.cpp` are the files `name_*.h` beside it. Raises `CompilerError` without a
    working C++ compiler.
    """
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        raise CompilerError(f"none of {', '.join(COMPILERS)} found; install one, or set CXX")
    flags = [*FLAGS, *([WIDE] if "avx512f" in _processor() else [])]
    flags += os.environ.get("CXXFLAGS", "").split()
    headers = sorted(source.parent.glob(f"{source.stem}_*.h"))
    texts = [file.read_text() for file in (source, *headers)]
    key = hashlib.sha256(repr((texts, compiler, flags, _processor())).encode())
    path = _cache() / f"{source.stem}-{key.hexdigest()[:16]}.so"
    if not path.exists():
        _compile(compiler, flags, source, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CompilerError(f"{path} cannot be loaded ({error}); remove it") from None


def call(library: ctypes.CDLL, name: str, signature: list, *arguments) -> None:
    """Call a function of the library with these arguments and the number of threads.

    A tensor is passed as the address of its values.
    """
    function = getattr(library, name)
    function.argtypes, function.restype = signature, None
    values = (a.data_ptr() if isinstance(a, Tensor) else a for a in arguments)
    function(*values, torch.get_num_threads())


def _compile(compiler: str, flags: list[str], source: Path, path: Path) -> None:
    """Compile to a temporary file and rename it to `path`: several processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        result = Path(folder) / path.name
        try:
            done = subprocess.run(
                [*compiler.split(), *flags, "-o", str(result), str(source)],
                capture_output=True,
                text=True,
            )
        except OSError as error:
            raise CompilerError(f"{compiler} cannot be started ({error.strerror})") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"{compiler} failed"]
            raise CompilerError(next((line for line in lines if "error" in line), lines[0]))
        os.replace(result, path)


def _cache() -> Path:
    """Return the project's folder in the user's cache, or a temporary one if it is not writable."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dsr"
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            return root
    except (OSError, RuntimeError):  # the latter for a user without a home
        return Path(tempfile.mkdtemp(prefix="dsr-"))


def _processor() -> str:
    """Return what `-march=native` depends on; machines that differ may share a home folder."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
