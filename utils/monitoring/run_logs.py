"""The logs of several runs, read and grouped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.runs.json_log import JsonLog
from utils.runs.log import Log
from utils.runs.paths import ASIDE, JSON_LOG, LOG, RECORD
from utils.system.errors import UserError

# Flags in which runs of one group may differ: the seed, and what has no effect on the result.
_IRRELEVANT = {
    *("manualSeed", "name", "checkpoint", "resume"),
    *("log_json", "tensorboard", "report", "save_every", "print_freq", "workers", "pin_memory"),
    *("test_batch", "mac_pj", "ac_pj", "stop_confidence", "log_evaluation", "rate_stat"),
    *("timeout", "local_rank", "gpu", "dist_url", "dist_backend", "rank"),
}


@dataclass(frozen=True)
class RunLog:
    """The epochs of a run's log, and flags and seed in the record beside it, if there is one."""

    path: Path
    rows: list[list[float]]
    flags: dict[str, Any]
    seed: int | None = None

    @property
    def tested_on(self) -> str:
        """The data of the scores after each epoch: "test", or "validation" with `--val_split`."""
        return "validation" if self.flags.get("val_split") else "test"

    @property
    def is_set_aside(self) -> bool:
        """Whether the log was renamed when another run took its name."""
        return ASIDE in self.path.stem

    def column(self, index: int) -> list[float]:
        """Return one column of the log, in its order."""
        return [row[index] for row in self.rows]


@dataclass(frozen=True)
class Group:
    """Runs of the same flags but for the seed, of the same number of epochs."""

    label: str
    runs: list[RunLog]

    @property
    def epochs(self) -> int:
        """The number of epochs of each run."""
        return len(self.runs[0].rows)

    @property
    def tested_on(self) -> str:
        """The data of the scores after each epoch: "test", "validation", or both."""
        return " and ".join(sorted({run.tested_on for run in self.runs}))


def read_runs(paths: Sequence[Path]) -> list[RunLog]:
    """Return the runs of logs, `.txt` or `.jsonl`.

    Raises `UserError` for a log that cannot be read or holds no epoch, and for two of one run.
    """
    stems = [path.resolve().with_suffix("") for path in paths]
    for index, path in enumerate(paths):
        if stems[index] in stems[:index]:
            raise UserError(f"LOG {path}: another LOG is of the same run; leave out one of them")
    return [_read_run(path) for path in paths]


def _read_run(path: Path) -> RunLog:
    if not path.is_file():
        reason = "not a file; name a .txt or .jsonl" if path.exists() else "no such file"
        raise UserError(f"LOG {path}: {reason}")
    if path.suffix not in (LOG, JSON_LOG):
        raise UserError(f"LOG {path}: not a log; name a run's .txt or .jsonl")
    rows = JsonLog(path).read() if path.suffix == JSON_LOG else Log(path).epochs()
    if not rows:
        raise UserError(f"LOG {path}: it holds no epoch; wait for the first one to end")
    return RunLog(path, rows, *_recorded(path.with_suffix(RECORD)))


def without_repeats(runs: Sequence[RunLog]) -> tuple[list[RunLog], list[str]]:
    """Return one run for each seed of recorded flags, and a line for each run that is left out.

    Runs of equal flags and seed are equal: they say nothing about the spread. A log that was set
    aside is left out before others.
    """
    first: dict[tuple[str, int], RunLog] = {}
    lines = []
    for run in sorted(runs, key=lambda run: run.is_set_aside):
        if run.seed is not None:
            same = first.setdefault((_key(run), run.seed), run)
            if same is not run:
                lines.append(f"{run.path}: left out; {same.path} has the same flags and seed")
    kept = [*first.values(), *(run for run in runs if run.seed is None)]
    return [run for run in runs if run in kept], lines


def group_runs(runs: Sequence[RunLog], labels: Sequence[str] | None = None) -> list[Group]:
    """Return the groups of `runs`, in the order of their first ones.

    Runs of one of `labels` form a group; without labels, those whose recorded flags differ only in
    the seed do, and a run without a record is a group of its own. Raises `UserError` for runs of a
    group that are not equally long.
    """
    found: dict[str, list[RunLog]] = {}
    for index, run in enumerate(runs):
        key = labels[index] if labels else _key(run)
        found.setdefault(key, []).append(run)
    names = list(found) if labels else _names([members[0] for members in found.values()])
    groups = [Group(*pair) for pair in zip(names, found.values(), strict=True)]
    for group in groups:
        _check_lengths(group)
    return groups


def _recorded(path: Path) -> tuple[dict[str, Any], int | None]:
    """Return flags and seed of the last start in the record `path`, none where there is none."""
    try:
        last = json.loads(path.read_text())[-1]
        flags = {key: value for key, value in last["args"].items() if key not in _IRRELEVANT}
        return flags, last.get("manualSeed")
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return {}, None


def _key(run: RunLog) -> str:
    return json.dumps(run.flags, sort_keys=True) if run.flags else str(run.path.resolve())


def _names(runs: Sequence[RunLog]) -> list[str]:
    """Return a name for each run: the network, and the flags in which the runs differ."""
    recorded = [run.flags for run in runs if run.flags]
    flags = sorted(set().union(*recorded) - {"model", "arch"})
    differing = [f for f in flags if any(r.get(f) != recorded[0].get(f) for r in recorded)]
    return [_name(run, differing) for run in runs]


def _name(run: RunLog, differing: Sequence[str]) -> str:
    if not run.flags:
        return str(run.path.with_suffix(""))
    network = run.flags.get("model") or run.flags.get("arch") or run.path.stem
    return ", ".join([network, *(f"{flag} {run.flags.get(flag)}" for flag in differing)])


def _check_lengths(group: Group) -> None:
    for run in group.runs:
        if len(run.rows) != group.epochs:
            raise UserError(
                f"LOG {run.path}: {len(run.rows)} epochs, but {group.runs[0].path} of the same "
                f"group has {group.epochs}; wait for it to end, or separate them with --label"
            )
