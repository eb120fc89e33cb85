"""Training a network to the end of its schedule, with a log and checkpoints."""

from __future__ import annotations

from torch import nn

from utils.runs.checkpoint_rotation import Checkpoints
from utils.runs.curves import save_curves
from utils.runs.lock import RunLock
from utils.runs.log import Log
from utils.runs.paths import owner
from utils.runs.record import append_record
from utils.system import random_state
from utils.system.errors import UserError, warn_on_write_error
from utils.system.signals import Signals
from utils.training import loop, optimizer
from utils.training.context import Run
from utils.training.faults import explained
from utils.training.hooks import RunWatch
from utils.training.progress import bar_factory
from utils.training.state import Training


def train(run: Run) -> None:
    """Train up to `--epochs`, anew or from the checkpoint resumed.

    Raises `Stopped` when a signal asked for it, with everything saved; and `UserError`, before
    anything is written, when another run writes the same files.
    """
    args, world = run.args, run.world
    training = _begin(run)
    if training.epoch >= args.epochs:
        world.print_main(f"nothing to train: {training.epoch} of --epochs {args.epochs} are done")
        if world.is_main and _in_place(run) and run.files.previous.exists():  # killed at the end
            _finish(run, training, Checkpoints(run.files))
        return
    if args.Vth_grad_sum:
        scale_threshold_gradients(run.model, world.size)
    if not world.is_main:
        _fit(run, training, None)
        return
    run.files.make_folder()
    with RunLock(run.files.lock):
        _open_log(run, training)
        checkpoints = Checkpoints(run.files, run.files.folder / args.resume)
        _fit(run, training, checkpoints)
        _finish(run, training, checkpoints)


def _fit(run: Run, training: Training, checkpoints: Checkpoints | None) -> None:
    """Train to the end; the main process alone has `checkpoints` to write."""
    args, world, steps = run.args, run.world, len(run.data.train)

    def after_epoch(epoch: loop.Epoch) -> None:
        _save_epoch(run, training, epoch, checkpoints)

    def save() -> None:
        content = training.snapshot(world, steps) | run.facts()
        if checkpoints:
            checkpoints.save_within_epoch(content)

    bars = bar_factory(world, args.print_freq)
    with Signals(echoes=world.size > 1) as signals, explained(run):
        skip = args.on_nan == "skip"
        watch = RunWatch(training, steps, world, signals, save, args.save_every, skip)
        data = run.data
        loop.fit(
            training,
            data.train,
            data.test,
            run.schedule,
            world,
            bars,
            after_epoch,
            watch,
            parts=args.accumulate,
            compression=args.grad_compression,
        )


def scale_threshold_gradients(model: nn.Module, factor: int) -> None:
    """Multiply the threshold gradients of `model` by `factor`, before they are averaged."""
    for name, parameter in model.named_parameters():
        if name.rsplit(".", 1)[-1] == "Vth":
            parameter.register_hook(lambda gradient: gradient * factor)


def _begin(run: Run) -> Training:
    """Return the training at its start: fresh at `--start-epoch`, or where the checkpoint ends."""
    args, steps = run.args, len(run.data.train)
    optimiser = optimizer.build(
        args.optimizer,
        run.model,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.weight_decay,
        nesterov=args.nesterov,
    )
    training = Training(
        run.model,
        optimiser,
        args.start_epoch,
        args.start_epoch * steps,
        accuracy_keys=run.words.accuracies,
    )
    random_state.seed(args.manualSeed + run.world.rank)  # each process drops out other units
    if run.content:
        training.resume(run.content, steps, run.world, args.resume)
    return training


def _in_place(run: Run) -> bool:
    """Return whether the run goes on in its own files, of which none is ahead of it."""
    resumed = run.files.folder / run.args.resume
    newest = resumed in (run.files.last, run.files.mid) or run.args.resume_auto
    return run.content is not None and newest


def _open_log(run: Run, training: Training) -> None:
    """Leave the rows of the epochs trained so far in the log; keep older files aside."""
    files, log = run.files, Log(run.files.log)
    if not training.rows and run.content:  # it is of a version that kept them in the log alone
        rows = Log(owner(files.folder, run.args.resume).log).epochs()
        training.rows = rows[: run.content.get("log_rows", training.epoch)]
    if _in_place(run):
        later = _count_rows(run, log) - len(training.rows)
        if later > 0:
            run.world.print_main(f"log: dropping {later} rows that came after {run.args.resume}")
    elif aside := files.set_aside(keep=files.folder / run.args.resume):
        run.world.print_main(f"the files of an earlier {files.stem} are now {aside.stem}*")
    log.start(training.rows)
    append_record(files.record, {**run.facts(), "engine": run.model.engine_line()})


def _count_rows(run: Run, log: Log) -> int:
    """Return how many epochs are in `log`, which is put aside if it cannot be read."""
    try:
        return len(log.epochs())
    except UserError:
        aside = log.path.with_name(f"{log.path.name}.damaged")
        log.path.replace(aside)
        run.world.print_main(
            f"warning: the log was damaged, is now {aside.name}, and is written again"
        )
        return 0


def _save_epoch(
    run: Run, training: Training, epoch: loop.Epoch, checkpoints: Checkpoints | None
) -> None:
    """Log `epoch`, then save checkpoints: of a run killed in between, resuming drops the row."""
    trained, tested = epoch.train, epoch.test
    row = [epoch.learning_rate, trained.loss, tested.loss, trained.top1, tested.top1]
    training.rows.append(row)
    content = training.snapshot(run.world) | run.facts()
    if not checkpoints:
        return
    with warn_on_write_error("the log"):
        Log(run.files.log).complete(training.rows)
    checkpoints.save_epoch(content, epoch.is_best)
    run.world.print_main(
        f"epoch {training.epoch}/{run.args.epochs}: train loss {trained.loss:.4f} acc "
        f"{trained.top1:.2f} %, test loss {tested.loss:.4f} acc {tested.top1:.2f} % "
        f"(best {training.best_acc:.2f} %), {epoch.seconds:.1f} s"
    )


def _finish(run: Run, training: Training, checkpoints: Checkpoints) -> None:
    """Draw the curves and say where everything lies."""
    title = f"{run.files.stem} on {run.data.name}, {run.model.engine_line()}"
    with warn_on_write_error("the log"):
        Log(run.files.log).complete(training.rows)
    with warn_on_write_error("the curves"):
        save_curves(run.files.curves, training.rows, title)
    checkpoints.finish()
    if training.skipped:
        run.world.print_main(f"{training.skipped} steps were skipped")
    run.world.print_main(
        f"best test accuracy {training.best_acc:.2f} % in {training.epoch} epochs; log, "
        f"checkpoints and curves: {run.files.path('*')}"
    )
