"""The requests of all processes, known to each of them at the same step."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from utils.distributed.world import World
from utils.system.signals import Request


class RequestSync:
    """The largest request of all processes.

    Several processes all-reduce their requests on the host while the device computes: a request
    made in one step is known to all of them in the next, and no device waits for it.
    """

    def __init__(self, world: World) -> None:
        self.alone = world.size == 1
        self.group = self.work = self.largest = None
        if not self.alone and dist.get_backend() != "gloo":
            limit = timedelta(seconds=world.timeout)
            self.group = dist.new_group(backend="gloo", timeout=limit)

    def post(self, request: Request) -> Request:
        """Send `request` and return the largest of the previous call; a collective."""
        if self.alone:
            return request
        previous = self._receive()
        self.largest = torch.tensor(int(request))
        self.work = dist.all_reduce(self.largest, dist.ReduceOp.MAX, self.group, async_op=True)
        return previous

    def exchange(self, request: Request) -> Request:
        """Send `request` and return the largest up to now; a collective that waits for all."""
        return max(self.post(request), self._receive())

    def _receive(self) -> Request:
        if self.work is None:
            return Request.NONE
        self.work.wait()
        self.work = None
        return Request(int(self.largest))
