"""Hooks between training steps: signals, checkpoints within an epoch, non-finite values."""

from __future__ import annotations

import signal
from typing import Protocol

from torch import Tensor

from utils.distributed.request_sync import RequestSync
from utils.distributed.world import World
from utils.system.errors import Stopped, UserError
from utils.system.signals import STOPS, Request, Signals, exit_status
from utils.training import non_finite
from utils.training.metrics import EpochResult, Meter
from utils.training.state import TrainState
from utils.training.step_guard import RejectedStep, StepGuard


class StepHooks:
    """Called by the loop at fixed places, on every rank; these take every step."""

    def before_step(self) -> None:
        """Called before each step."""

    def settle_step(self) -> bool:
        """Return whether the last step was kept; if not, what was computed since must be repeated.

        Called before each step is taken, and after the last one of an epoch.
        """
        return True

    def take_step(self, state: TrainState, images: Tensor, meter: Meter) -> None:
        """Update the parameters from their gradients, and merge the meter of the batch."""
        state.optimizer.step()
        if state.ema:
            state.ema.update(state.model)
        state.meter.merge(meter)

    def after_step(self) -> None:
        """Called after each step, once it is counted."""

    def after_training(self) -> None:
        """Called after the last step of an epoch, once the running statistics are averaged."""

    def stops_evaluation(self) -> bool:
        """Return whether the evaluation should end early; ranks may answer differently."""
        return False

    def after_evaluation(self) -> None:
        """Called after the evaluation of an epoch, which may have ended early."""

    def after_epoch(self, result: EpochResult) -> None:
        """Called once the epoch is counted in the training state."""


class RunWriter(Protocol):
    """Writes the files of a run; both methods gather from all ranks."""

    def save_within_epoch(self) -> None: ...

    def save_epoch(self, result: EpochResult) -> None: ...


class RunHooks(StepHooks):
    """Saves every epoch and every `save_every` steps (0: never), and serves `signals`.

    A step whose gradients are not finite ends the run with `UserError`, or with `skip` is left
    out and changes nothing in the model. An epoch has `steps` steps.
    """

    def __init__(
        self,
        state: TrainState,
        steps: int,
        world: World,
        signals: Signals,
        writer: RunWriter,
        save_every: int = 0,
        skip: bool = False,
    ) -> None:
        self.state, self.steps, self.world = state, steps, world
        self.signals, self.writer, self.save_every, self.skip = signals, writer, save_every, skip
        self.requests = RequestSync(world)
        self.request = Request.NONE
        self.guard = StepGuard(state, world, keep_buffers=skip)

    def before_step(self) -> None:
        self.guard.before_step()

    def settle_step(self) -> bool:
        rejected = self.guard.rejected()
        if rejected is None:
            return True
        line = f"{rejected.position}: {self._reason(rejected)}"
        if not self.skip:
            raise UserError(
                f"no longer finite in {line}; lower --lr, lengthen --warmup or pass --on_nan skip; "
                "the last checkpoint is kept"
            )
        self.guard.restore_buffers()
        self.state.skipped += 1
        self.world.print_main(f"warning: skipping {line} ({self.state.skipped} skipped so far)")
        return False

    def take_step(self, state: TrainState, images: Tensor, meter: Meter) -> None:
        self.guard.take_step(images, meter, self._position(1))

    def after_step(self) -> None:
        self.request = max(self.request, self.requests.post(self.signals.request()))
        if self.state.step < self.steps:  # else the running statistics are still to be averaged
            self._serve()

    def after_training(self) -> None:
        if self.state.meter.count() == 0:
            raise UserError(
                f"--on_nan skip: no step of epoch {self.state.epoch + 1} was finite; lower --lr "
                "or resume from an earlier checkpoint"
            )
        self._exchange_and_serve()

    def stops_evaluation(self) -> bool:
        return self.signals.stop is not None

    def after_evaluation(self) -> None:
        self._exchange_and_serve(trained=False)

    def after_epoch(self, result: EpochResult) -> None:
        self.writer.save_epoch(result)

    def _reason(self, rejected: RejectedStep) -> str:
        """Return what is not finite, preferring a layer of any rank to the gradients of all.

        The parameters are those of the rejected step, which changed none and is the last one taken.
        """
        own = non_finite.first_not_finite(self.state.model, rejected.images, rejected.parameters)
        found = self.world.all_gather(own)
        return next((one for one in found if not one.startswith(non_finite.GRADIENT)), found[0])

    def _exchange_and_serve(self, trained: bool = True) -> None:
        self.request = max(self.request, self.requests.exchange(self.signals.request()))
        self._serve(trained)

    def _serve(self, trained: bool = True) -> None:
        """Save and stop as requested; save every `save_every` steps if some were `trained`."""
        request, self.request = self.request, Request.NONE
        taken = self.state.iteration + self.state.step
        if request or (trained and self.save_every and taken % self.save_every == 0):
            self.settle_step()
            self.writer.save_within_epoch()
        if request == Request.SAVE:
            self.world.print_main(f"SIGUSR1: saved after {self._position()}")
        elif request:
            number = next(number for number in STOPS if STOPS[number] == request)
            self.world.barrier()  # a rank that exits early may end the others
            raise Stopped(
                self._stop_line(number) if self.world.is_main else "", exit_status(number)
            )

    def _stop_line(self, number: signal.Signals) -> str:
        return f"{number.name}: saved after {self._position()}; --resume auto continues from there"

    def _position(self, ahead: int = 0) -> str:
        state = self.state
        return f"epoch {state.epoch + 1}, step {state.step + ahead} of {self.steps}"
