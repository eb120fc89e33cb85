"""Compile the Triton kernels for GPUs that are not here, and list what each takes of one.

python benchmarks/kernel_resources.py
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from models.engines.ops import gpu, triton_kernels  # noqa: E402

ARCHITECTURES = (80, 90, 100)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
# Of a multiprocessor: threads, registers, and bytes of shared memory; 1 KiB of these is taken by
# the system for each program.
THREADS, REGISTERS, SHARED = 2048, 65536, {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}
SYSTEM_SHARED = 1 << 10

_FLOAT = "*fp32"
_SCALARS = dict.fromkeys(("decay", "gain", "alpha", "ceiling"), "fp32")
_NORM = dict.fromkeys(("mean", "inv_std", "gamma", "beta"), _FLOAT)
_MASKS = {"count": "*u8", "inside": "*i1", "above": "*i1"}
_LIF = {"STATIC": False, "PLAIN_SUM": False, "CLOSED": False}
_IF = {"STATIC": False, "PLAIN_SUM": True, "CLOSED": True}
_REDUCED = {"partial": _FLOAT, "arrivals": "*i32"}
_MERGE = {"MERGE": gpu.MERGE // gpu.MAX_WIDTH}
# Name -> kernel, its pointers in the type of the current, its other pointers, its constants.
# Pointers that are not named are left out.
KERNELS = {
    "fire, LIF": (
        "fire",
        ("y", "spikes", "mean_u", "mean_v"),
        {"Vth": _FLOAT, "time_mean": _FLOAT, "weights": _FLOAT, **_NORM, **_MASKS},
        _LIF,
    ),
    "fire, IF": ("fire", ("y", "spikes", "mean_u"), {"Vth": _FLOAT, **_NORM, **_MASKS}, _IF),
    "fire, evaluation": ("fire", ("y", "spikes"), {"Vth": _FLOAT, **_NORM}, _LIF),
    "means": (
        "means",
        ("q", "mean_u", "mean_v"),
        dict.fromkeys(("weights", "mean", "inv_std"), _FLOAT),
        {},
    ),
    "add": ("add", ("y", "a"), {"scale": _FLOAT, "shift": _FLOAT}, {"PER_CHANNEL": True}),
    "statistics": (
        "statistics",
        ("y",),
        {**dict.fromkeys(("time_mean", "mean", "var"), _FLOAT), **_REDUCED},
        _MERGE,
    ),
    "covariance": ("covariance", ("y", "q"), {"result": _FLOAT, **_REDUCED}, _MERGE),
}


class Resources(NamedTuple):
    """What one program takes: registers per thread, bytes on the stack (spills) and shared."""

    registers: int
    stack: int
    shared: int

    def occupancy(self, architecture: int) -> float:
        """Return the share of a multiprocessor's threads that can be resident."""
        threads = 32 * triton_kernels.OPTIONS["num_warps"]
        registers = -(-self.registers // 8) * 8 * threads  # allocated 8 per thread at a time
        programs = min(
            THREADS // threads,
            REGISTERS // registers,
            SHARED[architecture] // (self.shared + SYSTEM_SHARED),
        )
        return programs * threads / THREADS


def compile_kernel(name: str, dtype: str, architecture: int) -> Resources:
    """Compile a kernel of `KERNELS` for currents of `dtype`, `bf16` or `fp32`."""
    kernel, currents, pointers, constants = KERNELS[name]
    function = getattr(triton_kernels, kernel)
    pointers = pointers | dict.fromkeys(currents, f"*{dtype}")
    constants = constants | {"BLOCK_M": gpu.TILE // gpu.MAX_WIDTH, "BLOCK_C": gpu.MAX_WIDTH}
    signature, attributes = {}, {}
    for position, argument in enumerate(function.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in pointers or argument in ("C", "a_step"):
            signature[argument] = pointers.get(argument, "i32")
            attributes[(position,)] = [["tt.divisibility", 16]]  # as allocations and widths are
        elif argument in _SCALARS:
            signature[argument] = _SCALARS[argument]
        elif argument in ("M", "T", "blocks"):
            signature[argument] = "i32"
        else:
            signature[argument], constants[argument] = "constexpr", None
    source = ASTSource(function, signature, constants, attributes)
    target = GPUTarget("cuda", architecture, 32)
    compiled = triton.compile(source, target=target, options=triton_kernels.OPTIONS)
    return _resources(compiled)


def _resources(compiled) -> Resources:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(CUOBJDUMP), "--dump-resource-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"(REG|STACK|LOCAL):(\d+)", usage))
    stack = int(found["STACK"]) + int(found["LOCAL"])
    return Resources(int(found["REG"]), stack, compiled.metadata.shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    print("| kernel | type | sm | registers | spills (bytes) | shared (KiB) | occupancy |")
    print("|---|---|---|---|---|---|---|")
    for name in KERNELS:
        for dtype in ("bf16", "fp32"):
            for sm in ARCHITECTURES:
                found = compile_kernel(name, dtype, sm)
                print(
                    f"| {name} | {dtype} | {sm} | {found.registers} | {found.stack} | "
                    f"{found.shared / 1024:.1f} | {100 * found.occupancy(sm):.0f} % |"
                )


if __name__ == "__main__":
    main()
