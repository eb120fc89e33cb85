"""Train a network to the end of its schedule, with a log, checkpoints and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from utils.device.peak_memory import peak_memory
from utils.monitoring.tensorboard import TensorBoard
from utils.optimization.ema import Ema
from utils.runs.checkpoint_keys import CheckpointContent
from utils.runs.checkpoint_rotation import Checkpoints
from utils.runs.curves import save_curves
from utils.runs.json_log import NAMES, JsonLog
from utils.runs.lock import RunLock
from utils.runs.log import Log
from utils.runs.paths import owner
from utils.runs.record import append_record
from utils.system import random_state
from utils.system.atomic_write import writing
from utils.system.errors import UserError, warn_on_write_error
from utils.system.signals import Signals
from utils.system.text import print_line
from utils.training import loop
from utils.training.context import RunContext
from utils.training.evaluate import mean_firing_rates
from utils.training.flags import TrainingFlags
from utils.training.hooks import RunHooks
from utils.training.metrics import EpochResult
from utils.training.out_of_memory import explain_failures
from utils.training.progress import bar_factory
from utils.training.state import TrainState


def train(context: RunContext) -> None:
    """Train up to `--epochs`, from the start or from the checkpoint resumed.

    Raises `Stopped` when a signal asked to stop, after saving; and `UserError`, before anything
    is written, when another run writes the same files.
    """
    flags, world, steps = context.training, context.world, len(context.data.train)
    state = initial_state(context)
    output = RunOutput(context, state)
    if state.epoch >= flags.epochs:
        world.print_main(f"nothing to train: {state.epoch} of --epochs {flags.epochs} are done")
        output.finish_stopped()
        return
    if note := _ema_note(flags, steps):
        world.print_main(note)
    if context.distributed.Vth_grad_sum:
        scale_threshold_gradients(context.model, world.size)
    with output, Signals(echoes=world.size > 1) as signals, explain_failures(context):
        skip = flags.on_nan == "skip"
        hooks = RunHooks(state, steps, world, signals, output, flags.save_every, skip)
        loop.fit(
            state,
            context.data,
            context.schedule,
            world,
            bar_factory(world, flags.print_freq),
            hooks,
            flags.accumulate,
            context.distributed.grad_compression,
            flags.label_smoothing,
        )
        output.finish()


def _ema_note(flags: TrainingFlags, steps: int) -> str | None:
    """Return a note if the average spans more than a tenth of a run of `steps` per epoch."""
    if not flags.ema:
        return None
    span, updates = 1 / (1 - flags.ema), flags.epochs * steps / flags.accumulate
    if span <= updates / 10:
        return None
    return (
        f"note: --ema {flags.ema:g}: the average spans about {span:.0f} steps, which is long for a "
        f"run of {updates:.0f}; lower it for the average to leave the first weights behind"
    )


def scale_threshold_gradients(model: nn.Module, factor: int) -> None:
    """Multiply the threshold gradients of `model` by `factor`, before they are averaged."""
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[-1] == "Vth":
            parameter.register_hook(lambda gradient: gradient * factor)


def initial_state(context: RunContext) -> TrainState:
    """Return the state at `--start-epoch`, or that of the checkpoint resumed."""
    flags, steps = context.training, len(context.data.train)
    optimizer = context.build_optimizer(context.model)
    epoch = flags.start_epoch
    ema = Ema(context.model, flags.ema) if flags.ema else None
    state = TrainState(context.model, optimizer, epoch, epoch * steps, keys=context.keys, ema=ema)
    random_state.seed(context.seed + context.world.rank)  # each rank drops out other units
    if resumed := context.resumed:
        state.resume(resumed.content, steps, context.world, resumed.name)
    return state


class RunOutput:
    """The files that training writes, locked within a `with` block.

    Saving is a collective: all ranks call it, and rank 0 writes.
    """

    def __init__(self, context: RunContext, state: TrainState) -> None:
        self.context, self.state, self.files = context, state, context.files
        self.log, self.json_log = Log(self.files.log), JsonLog(self.files.json_log)
        self.tensorboard = None
        if context.training.tensorboard is not None:
            folder = Path(context.training.tensorboard) / self.files.folder.name / self.files.stem
            self.tensorboard = TensorBoard(folder)
        self.lock = RunLock(self.files)
        resumed = context.resumed.path if context.resumed else None
        self.checkpoints = Checkpoints(self.files, resumed)

    def __enter__(self) -> RunOutput:
        if self.tensorboard and self.context.timesteps:
            self.context.model.record_firing_rates()
        if self.context.world.is_main:
            if self.tensorboard:
                self.tensorboard.make_parent()
            self.files.make_folder()
            self.lock.__enter__()
            try:
                self.files.remove_unfinished()
                self._open_log()
                self._start_tensorboard()
            except BaseException:
                self.lock.__exit__()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self.context.world.is_main:
            self.lock.__exit__()

    def save_within_epoch(self) -> None:
        """Save a checkpoint after a step."""
        context = self.context
        content = self.state.snapshot(context.world, len(context.data.train)) | context.facts()
        if context.world.is_main:
            self.checkpoints.save_within_epoch(content)

    def save_epoch(self, result: EpochResult) -> None:
        """Log `result`, then save checkpoints: resuming drops a row without a checkpoint."""
        state, world, trained, tested = self.state, self.context.world, result.train, result.test
        row = [result.learning_rate, trained.loss, tested.loss, trained.top1, tested.top1]
        state.rows.append(row)
        content = state.snapshot(world) | self.context.facts()
        curves = self._curves(result) if self.tensorboard else {}
        if not world.is_main:
            return
        self._complete_logs()
        if self.tensorboard:
            with warn_on_write_error("the curves of TensorBoard"):
                self.tensorboard.add(state.epoch, curves)
        if result.ema:
            self.checkpoints.save_average(self._average(content), result.ema_is_best)
        self.checkpoints.save_epoch(content, result.is_best)
        average = ""
        if result.ema:
            average = f"average {result.ema.top1:.2f} % (best {state.ema.best_acc:.2f} %), "
        world.print_main(
            f"epoch {state.epoch}/{self.context.training.epochs}: train loss {trained.loss:.4f} "
            f"acc {trained.top1:.2f} %, {self.context.data.selection_name} loss "
            f"{tested.loss:.4f} acc {tested.top1:.2f} % "
            f"(best {state.best_acc:.2f} %), {average}{result.seconds:.1f} s"
        )

    def _average(self, content: CheckpointContent) -> CheckpointContent:
        """Return the averaged weights in the `content` of a checkpoint, as one to evaluate."""
        keys = self.context.keys
        return {key: content[key] for key in self.context.facts()} | {
            "epoch": content["epoch"],
            "state_dict": content["ema_state_dict"],
            keys.acc: content["ema_acc"],
            keys.best_acc: content["ema_best_acc"],
        }

    def finish(self) -> None:
        """Draw the curves, remove what only an unfinished run needs, and print the result."""
        context, state = self.context, self.state
        if not context.world.is_main:
            return
        title = f"{self.files.stem} on {context.data.name}, {context.model.engine_line()}"
        self._complete_logs()
        with warn_on_write_error("the curves"):
            save_curves(self.files.curves, state.rows, title, context.data.selection_name)
        self.checkpoints.finish()
        if state.skipped:
            context.world.print_main(f"{state.skipped} steps were skipped")
        if state.ema:
            context.world.print_main(
                f"best {context.data.selection_name} accuracy of the averaged weights "
                f"{state.ema.best_acc:.2f} %: {self.files.ema}"
            )
        context.world.print_main(
            f"best {context.data.selection_name} accuracy {state.best_acc:.2f} % in {state.epoch} "
            f"epochs; log, checkpoints and curves: {self.files.path('*')}"
        )

    def finish_stopped(self) -> None:
        """Finish a run that was stopped after its last epoch or whose log lacks rows."""
        rows = self.state.rows
        if self.context.world.is_main and self._in_place() and rows and not self._is_finished():
            with self.lock:
                self.files.remove_unfinished()
                self.finish()

    def _is_finished(self) -> bool:
        drawn = self.files.curves.exists() and not self.files.previous.exists()
        return drawn and self.log.holds(len(self.state.rows))

    def _in_place(self) -> bool:
        """Return whether the run continues in its own files, none of which is trained further."""
        resumed = self.context.resumed
        newest = (self.files.last, self.files.mid)
        return resumed is not None and (resumed.automatic or resumed.path in newest)

    def _open_log(self) -> None:
        """Keep older files under another name; leave the rows of the epochs trained in the log."""
        context, state, files, resumed = self.context, self.state, self.files, self.context.resumed
        if resumed and not state.rows:  # written by a version that kept them in the log alone
            rows = Log(owner(resumed.path.parent, resumed.name).log).epochs()
            state.rows = rows[: resumed.content.get("log_rows", state.epoch)]
        if self._in_place():
            later = self._count_rows() - len(state.rows)
            if later > 0:
                print_line(f"log: dropping {later} rows that came after {resumed.name}")
        elif aside := files.set_aside(keep=resumed.path if resumed else None):
            print_line(f"the files of an earlier {files.stem} are now {aside.stem}*")
        self.log.start(state.rows)
        if self._writes_json():
            self.json_log.write(state.rows, state.epoch)
        append_record(files.record, {**context.facts(), "engine": context.model.engine_line()})

    def _start_tensorboard(self) -> None:
        """Continue the curves of this run; new ones begin with the epochs in the log."""
        if not self.tensorboard:
            return
        state = self.state
        if self.tensorboard.start(state.epoch, self._in_place()):
            first = state.epoch - len(state.rows) + 1
            for epoch, row in enumerate(state.rows, first):
                self.tensorboard.add(epoch, _log_curves(row, self.context.data.selection_name))

    def _writes_json(self) -> bool:
        """Return whether to write the log as JSON: with its flag, or as an earlier start did."""
        return self.context.training.log_json or self.files.json_log.exists()

    def _complete_logs(self) -> None:
        """Bring the logs up to the last epoch."""
        with warn_on_write_error("the log"):
            self.log.complete(self.state.rows)
        if self._writes_json():
            with warn_on_write_error("the JSON log"):
                self.json_log.write(self.state.rows, self.state.epoch)

    def _curves(self, result: EpochResult) -> dict[str, float]:
        """Return the values of an epoch for TensorBoard; a collective."""
        context, data = self.context, self.context.data
        tested_on = data.selection_name
        values = _log_curves(self.state.rows[-1], tested_on)
        values |= {"accuracy_top5/train": result.train.top5}
        values |= {f"accuracy_top5/{tested_on}": result.test.top5}
        if result.ema:
            values |= {f"loss/{tested_on}_average": result.ema.loss}
            values |= {f"accuracy/{tested_on}_average": result.ema.top1}
        values["speed/training_images_per_second"] = result.speed
        values["memory/peak_MiB"] = peak_memory(context.world.device) / 2**20
        if context.timesteps:
            rates, neurons = mean_firing_rates(context, data.selection), context.model.neurons()
            context.model.reset_firing_rates()
            values |= {f"firing_rate/{_dotted(layer)}": rate for layer, rate in rates.items()}
            thresholds = {layer: neuron.Vth.item() for layer, neuron in neurons.items()}
            values |= {f"threshold/{_dotted(layer)}": Vth for layer, Vth in thresholds.items()}
        return values

    def _count_rows(self) -> int:
        """Return the number of epochs in the log, which is renamed if it cannot be read."""
        try:
            return len(self.log.epochs())
        except UserError:
            path = self.log.path
            with writing(path):
                damaged = path.replace(path.with_name(f"{path.name}.damaged"))
            print_line(f"warning: the log was damaged: it is now {damaged.name}, and written again")
            return 0


def _log_curves(row: Sequence[float], tested_on: str) -> dict[str, float]:
    """Return the values of a row of the log by the name of their curve."""
    values = dict(zip(NAMES, row, strict=True))
    return {
        "learning_rate": values["learning_rate"],
        "loss/train": values["train_loss"],
        f"loss/{tested_on}": values["test_loss"],
        "accuracy/train": values["train_accuracy"],
        f"accuracy/{tested_on}": values["test_accuracy"],
    }


def _dotted(layer: str) -> str:
    """Return `layer1[0].relu1` as `layer1.0.relu1`: TensorBoard's names have no brackets."""
    return layer.replace("[", ".").replace("]", "")
