"""Training a network to the end of its schedule, with a log and checkpoints."""

from __future__ import annotations

from torch import nn

from utils import checkpoint, engine, optimizer, random_state
from utils.logger import Log
from utils.progress import bar_factory
from utils.report import save_curves
from utils.run import Run
from utils.run_files import owner
from utils.run_record import append_record
from utils.training import Training


def train(run: Run) -> None:
    """Train up to `--epochs`, anew or from the checkpoint resumed."""
    args, world, data = run.args, run.world, run.data
    training = _begin(run)
    if training.epoch >= args.epochs:
        world.say(f"nothing to train: {training.epoch} of --epochs {args.epochs} are done")
        return
    if world.is_main:
        _open_log(run, training)
    if args.Vth_grad_sum:
        scale_threshold_gradients(run.model, world.size)
    bars = bar_factory(world, args.print_freq)

    def after_epoch(epoch: engine.Epoch) -> None:
        _save_epoch(run, training, epoch)

    engine.fit(
        training,
        data.train,
        data.test,
        run.schedule,
        world,
        bars,
        after_epoch,
        parts=args.accumulate,
        compression=args.grad_compression,
    )
    if world.is_main:
        _finish(run, training)


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


def _open_log(run: Run, training: Training) -> None:
    """Leave the rows of the epochs trained so far in the log; keep older files aside."""
    files, log = run.files, Log(run.files.log)
    files.make_folder()
    resumed = files.folder / run.args.resume
    rows = Log(owner(files.folder, run.args.resume).log).epochs() if run.content else []
    kept = rows[: run.content.get("log_rows", training.epoch)] if run.content else []
    if resumed == files.last:
        if len(kept) < len(rows):
            run.world.say(f"log: dropping {len(rows) - len(kept)} rows that came after {resumed}")
    elif aside := files.set_aside(keep=resumed):
        run.world.say(f"the files of an earlier {files.stem} are now {aside.stem}*")
    log.start(kept)
    append_record(files.record, {**run.facts(), "engine": run.model.engine_line()})


def _save_epoch(run: Run, training: Training, epoch: engine.Epoch) -> None:
    """Log `epoch`, then save checkpoints: of a run killed in between, resuming drops the row."""
    content = training.snapshot(run.world)
    if not run.world.is_main:
        return
    log, files = Log(run.files.log), run.files
    trained, tested = epoch.train, epoch.test
    log.append([epoch.learning_rate, trained.loss, tested.loss, trained.top1, tested.top1])
    content |= run.facts() | {"log_rows": len(log.epochs())}
    if epoch.is_best or not files.best.exists():
        checkpoint.save(files.best, content)
    checkpoint.save(files.last, content)
    run.world.say(
        f"epoch {training.epoch}/{run.args.epochs}: train loss {trained.loss:.4f} acc "
        f"{trained.top1:.2f} %, test loss {tested.loss:.4f} acc {tested.top1:.2f} % "
        f"(best {training.best_acc:.2f} %), {epoch.seconds:.1f} s"
    )


def _finish(run: Run, training: Training) -> None:
    """Draw the curves and say where everything lies."""
    title = f"{run.files.stem} on {run.data.name}, {run.model.engine_line()}"
    save_curves(run.files.curves, Log(run.files.log).epochs(), title)
    run.world.say(
        f"best test accuracy {training.best_acc:.2f} % in {training.epoch} epochs; log, "
        f"checkpoints and curves: {run.files.path('*')}"
    )
