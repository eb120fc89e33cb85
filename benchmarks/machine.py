"""A description of the machine, to be reported with every measurement."""

from __future__ import annotations

if __name__ == "__main__":
    raise SystemExit("machine.py is a module of the benchmarks: run one of them instead")

import datetime  # noqa: E402
import platform  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402


def describe() -> dict[str, str]:
    """Return processor, device, versions and date."""
    return {
        "processor": f"{_processor()}, {torch.get_num_threads()} threads",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in lines.items()}
        features = [f for f in ("amx_bf16", "avx512_bf16") if f in facts.get("flags", "")]
        return " ".join([facts.get("model name", platform.machine()), *features])
    return platform.processor() or platform.machine()
