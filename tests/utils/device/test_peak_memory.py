from pathlib import Path

import pytest
import torch

from utils.device.peak_memory import peak_memory

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux")
def test_the_peak_is_that_of_the_operating_system():
    entries = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    peak = 1024 * int(entries["VmHWM"].split()[0])
    assert peak_memory(torch.device("cpu")) == pytest.approx(peak, rel=0.05)
