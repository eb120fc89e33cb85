"""Compare runs by their logs: a table, and their curves in one picture.

python -m utils.compare checkpoint/digits/*.txt [--out comparison.png]
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path

from utils.monitoring.comparison_plot import draw
from utils.monitoring.run_logs import Group, group_runs, read_runs, without_repeats
from utils.system.atomic_write import write_atomically
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser
from utils.system.text import print_line

_FORMATS = (".png", ".pdf", ".svg")
_ACCURACY = 4  # the log's column of accuracies on test or validation data
_USAGE = "%(prog)s [-h] LOG [LOG ...] [--label NAME [NAME ...]] [--out FILE]"
_REMEDY = "make room or choose another --out"
_HEADER = ("runs", "n", "epochs", "scored on", "best accuracy", "last accuracy")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = FlagParser(
        prog="python -m utils.compare", usage=_USAGE, description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "logs", metavar="LOG", nargs="+", help="a run's .txt, or the .jsonl of --log_json"
    )
    parser.add_argument(
        "--label",
        nargs="+",
        metavar="NAME",
        help="a name per LOG; equal ones form a group; by the .json records if not given",
    )
    parser.add_argument("--out", metavar="FILE", help="draw the curves into this .png, .pdf, .svg")
    return parser


def main() -> None:
    """Compare the logs that the command line names."""
    args = build_parser().parse_args()
    if args.label and len(args.label) != len(args.logs):
        raise UserError(
            f"--label: {len(args.label)} for {len(args.logs)} LOG; give one label for each log"
        )
    target = _target(args.out) if args.out is not None else None
    runs = read_runs([Path(log) for log in args.logs])
    if not args.label:
        runs, left_out = without_repeats(runs)
        for line in left_out:
            print_line(line)
    groups = group_runs(runs, args.label)
    for line in table(groups):
        print_line(line)
    if target:
        _save(draw(groups), target)
        print_line(f"curves: {target}")


def table(groups: Sequence[Group]) -> list[str]:
    """Return the lines of a table: accuracies in percent, mean and standard deviation."""
    rows = [_HEADER, *map(_row, groups)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def _row(group: Group) -> tuple[str, ...]:
    accuracies = [run.column(_ACCURACY) for run in group.runs]
    best, last = [max(a) for a in accuracies], [a[-1] for a in accuracies]
    counts = str(len(group.runs)), str(group.epochs), group.tested_on
    return group.label, *counts, _mean_and_deviation(best), _mean_and_deviation(last)


def _mean_and_deviation(values: Sequence[float]) -> str:
    """Return `mean ± std` (of a sample), the mean alone for a single value."""
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _target(out: str) -> Path:
    """Return the picture to write; raises UserError for a folder or another kind of file."""
    path = Path(out)
    if path.suffix.lower() not in _FORMATS:
        raise UserError(f"--out {out}: name a .png, .pdf or .svg file")
    if not path.parent.is_dir():
        raise UserError(f"--out {out}: no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise UserError(f"--out {out}: not a regular file; name another one")
    return path


def _save(figure, path: Path) -> None:
    kind = path.suffix[1:].lower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that the font lacks
        write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=150), _REMEDY)


if __name__ == "__main__":
    run(main)
