"""Copies of small tensors to the host."""

import torch

from utils.device.host_copy import HostCopy


def test_a_copy_keeps_the_values_of_its_time() -> None:
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    copy = HostCopy(tensor)
    with torch.no_grad():
        tensor.add_(1)
    assert copy.read().tolist() == [1.0, 2.0] and not copy.read().requires_grad


def test_copying_does_not_wait_for_the_device(monkeypatch) -> None:
    """On a GPU the copy is recorded in the stream; only reading waits, and for that event."""
    calls = []

    class Event:
        def record(self, stream):
            calls.append("record")

        def synchronize(self):
            calls.append("synchronize")

    class Gpu:
        """A tensor that says that it is on a GPU."""

        def __init__(self, values):
            self.values, self.shape, self.dtype = values, values.shape, values.dtype
            self.device = torch.device("cuda")

    class Pinned:
        def copy_(self, source, non_blocking):
            assert non_blocking
            calls.append("copy")
            self.values = source.values.clone()

    monkeypatch.setattr(torch, "empty", lambda *size, dtype, pin_memory: Pinned())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    copy = HostCopy(Gpu(torch.tensor([3.0])))
    assert calls == ["copy", "record"]
    assert copy.read().values.tolist() == [3.0] and calls[2:] == ["synchronize"]
