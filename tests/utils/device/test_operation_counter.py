"""Counts of operations, bytes moved and bytes allocated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from utils.device.operation_counter import OperationCounter

KIB = 256  # float32 elements


def test_operations_are_what_computes() -> None:
    a, b = torch.ones(KIB), torch.ones(KIB)
    with OperationCounter() as counter:
        (a + b).view(2, -1)[0].detach()
        torch.empty(KIB)
        a.shape, a.is_contiguous()
    assert counter.operations == {"add": 1}
    assert counter.total == 1


@pytest.mark.parametrize(
    ("run", "kib"),
    [
        (lambda a, b: a + b, 3),
        (lambda a, b: a.add_(b), 3),
        (lambda a, b: torch.add(a, b, out=b), 3),
        (lambda a, b: a + b[:1].expand(KIB), 2 + 1 / KIB),
        (lambda a, b: torch._foreach_add_([a, b], 1.0), 4),
        (lambda a, b: a.view(-1), 0),
    ],
)
def test_bytes_moved(run, kib: float) -> None:
    a, b = torch.ones(KIB), torch.ones(KIB)
    with OperationCounter() as counter:
        run(a, b)
    assert counter.bytes_moved == 1024 * kib


def test_peak_is_what_lives_at_once() -> None:
    resident = torch.ones(KIB)
    with OperationCounter([resident, resident.view(2, -1)]) as counter:
        assert counter.live == 1024
        a = torch.ones(KIB)
        view = a[1:]
        del a
        assert counter.live == 2 * 1024
        del view
        assert counter.live == 1024
        b = torch.ones(KIB)
        b.add_(1)
        assert counter.live == 2 * 1024
    assert counter.peak == 2 * 1024


def test_allocations_are_rounded_up() -> None:
    with OperationCounter(granule=512) as counter:
        a = torch.ones(1)
        assert counter.live == 512
        del a
    assert (counter.live, counter.peak) == (0, 512)


@pytest.mark.parametrize("grad", [True, False], ids=("training", "evaluation"))
def test_counts_do_not_need_values(grad: bool) -> None:
    counts = []
    for device in ("cpu", "meta"):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)
        ).to(device)
        images = torch.zeros(4, 3, 8, 8, device=device)
        labels = torch.zeros(4, dtype=torch.long, device=device)
        with OperationCounter([*model.parameters(), images]) as counter:
            if grad:
                F.cross_entropy(model(images), labels).backward()
            else:
                with torch.inference_mode():
                    model(images)
        counts.append((counter.operations, counter.bytes_moved, counter.live, counter.peak))
    assert counts[0] == counts[1]
    assert counts[0][3] > 4 * sum(p.numel() for p in model.parameters())
