"""The watch of a run over its steps: signals, checkpoints within an epoch, values not finite."""

from __future__ import annotations

import signal
from collections.abc import Callable

from torch import Tensor
from torch.nn.utils import get_total_norm

from utils.distributed.request_sync import RequestSync
from utils.distributed.world import World
from utils.system.errors import Stopped, UserError
from utils.system.signals import STOPS, Request, Signals, exit_status
from utils.training import non_finite
from utils.training.loop import Watch
from utils.training.state import Training


class RunWatch(Watch):
    """Saves and stops where `signals` ask for it, saves every `save_every` steps (0: never).

    A step whose gradients are not finite ends the run, or with `skip` is left out: nothing of it
    remains in the model. An epoch has `steps` steps; `save` writes a checkpoint, on every process.
    """

    def __init__(
        self,
        training: Training,
        steps: int,
        world: World,
        signals: Signals,
        save: Callable[[], None],
        save_every: int = 0,
        skip: bool = False,
    ) -> None:
        self.training, self.steps, self.world = training, steps, world
        self.signals, self.save, self.save_every, self.skip = signals, save, save_every, skip
        self.requests = RequestSync(world)
        self.request = Request.NONE
        self.kept: list[Tensor] = []

    def before_step(self) -> None:
        if self.skip:
            self.kept = [buffer.clone() for buffer in self.training.model.buffers()]

    def passes(self, images: Tensor, loss: Tensor) -> bool:
        gradients = [p.grad for p in self.training.model.parameters() if p.grad is not None]
        size = get_total_norm(gradients)
        # Averaged gradients are the same on all processes, which therefore decide alike.
        value = size if self.world.size > 1 else size + loss
        if value.isfinite():
            return True
        line = f"{self._where(1)}: {self._reason(images)}"
        if not self.skip:
            raise UserError(
                f"no longer finite in {line}; lower --lr, lengthen --warmup or pass --on_nan skip; "
                "the last checkpoint is kept"
            )
        self._leave_out(line)
        return False

    def after_step(self) -> None:
        self.request = max(self.request, self.requests.post(self.signals.request()))
        if self.training.step < self.steps:  # else the running statistics are still to be averaged
            self._act()

    def after_steps(self) -> None:
        if self.training.meter.count() == 0:
            raise UserError(
                f"--on_nan skip: no step of epoch {self.training.epoch + 1} was finite; lower --lr "
                "or resume from an earlier checkpoint"
            )
        self._agree()

    def interrupts(self) -> bool:
        return self.signals.stop is not None

    def after_evaluation(self) -> None:
        self._agree(due=False)

    def _reason(self, images: Tensor) -> str:
        """Return what is not finite first, in whichever process it is: gradients are in all."""
        found = self.world.all_gather(non_finite.first_not_finite(self.training.model, images))
        return next((one for one in found if not one.startswith(non_finite.GRADIENT)), found[0])

    def _leave_out(self, line: str) -> None:
        for buffer, kept in zip(self.training.model.buffers(), self.kept, strict=True):
            buffer.copy_(kept)
        self.training.skipped += 1
        self.world.print_main(f"warning: skipping {line} ({self.training.skipped} skipped so far)")

    def _agree(self, due: bool = True) -> None:
        self.request = max(self.request, self.requests.exchange(self.signals.request()))
        self._act(due)

    def _act(self, due: bool = True) -> None:
        """Serve the request of all processes; `due` where steps have been taken since."""
        request, self.request = self.request, Request.NONE
        taken = self.training.iteration + self.training.step
        if request or (due and self.save_every and taken % self.save_every == 0):
            self.save()
        if request == Request.SAVE:
            self.world.print_main(f"SIGUSR1: saved after {self._where()}")
        elif request:
            number = next(number for number in STOPS if STOPS[number] == request)
            self.world.barrier()  # a process that ends may take its peers with it
            raise Stopped(self._farewell(number) if self.world.is_main else "", exit_status(number))

    def _farewell(self, number: signal.Signals) -> str:
        return f"{number.name}: saved after {self._where()}; --resume auto goes on from there"

    def _where(self, ahead: int = 0) -> str:
        done = self.training
        return f"epoch {done.epoch + 1}, step {done.step + ahead} of {self.steps}"
