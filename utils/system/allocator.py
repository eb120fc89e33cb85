"""Memory for torch's CPU tensors, which a step allocates and frees by the dozen."""

from __future__ import annotations

import ctypes
import os

# glibc's mallopt (malloc.h): map no request by itself, and give nothing back.
_MMAP_MAX, _NONE = -4, 0
_TRIM_THRESHOLD, _NEVER = -1, 2**31 - 1


def tune_allocator() -> None:
    """Ask Linux for 2 MiB pages and keep freed memory; to be called before torch is imported.

    Fresh pages are dear, most on virtual machines: a `rate` step of preresnet.resnet18_lif, T = 20,
    batch 32, bf16 took 1.4 to 1.7 s while large tensors came and went, 1.1 s so. What the user has
    set in the environment stays; where the C library has no mallopt nothing is done.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, _NONE)
        mallopt(_TRIM_THRESHOLD, _NEVER)
