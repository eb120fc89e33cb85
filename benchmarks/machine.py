"""What a measurement was made on, in the words that stand beside its figures."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path

import torch


def describe() -> dict[str, str]:
    """Processor, device, versions and date."""
    return {
        "processor": f"{_processor()}, {torch.get_num_threads()} threads",
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
