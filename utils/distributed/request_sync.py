"""What any process wishes, known to all of them at the same step."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from utils.distributed.world import World


class Agreement:
    """The largest of the processes' wishes, numbers from 0.

    Of one process it is its own wish. Several exchange theirs beside the computation, on the
    host: what is wished in one step is known in the next, and no device waits for it.
    """

    def __init__(self, world: World) -> None:
        self.alone = world.size == 1
        self.group = self.request = self.largest = None
        if not self.alone and dist.get_backend() != "gloo":
            limit = timedelta(seconds=world.timeout)
            self.group = dist.new_group(backend="gloo", timeout=limit)

    def soon(self, wish: int) -> int:
        """Return what was wished a step ago, and ask for `wish`; all processes must call it."""
        if self.alone:
            return wish
        known = self._known()
        self.largest = torch.tensor(wish)
        self.request = dist.all_reduce(self.largest, dist.ReduceOp.MAX, self.group, async_op=True)
        return known

    def now(self, wish: int) -> int:
        """Return what is wished by now; all processes must call it, and wait for each other."""
        return max(self.soon(wish), self._known())

    def _known(self) -> int:
        if self.request is None:
            return 0
        self.request.wait()
        self.request = None
        return int(self.largest)
