"""Convert a checkpoint or a file of thresholds for the published code, or to safetensors.

python -m utils.convert CHECKPOINT --to published
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.runs import checkpoint
from utils.runs.checkpoint_keys import CIFAR_KEYS, IMAGENET_KEYS, CheckpointContent
from utils.runs.safetensors_file import write_safetensors
from utils.system.atomic_write import write_atomically
from utils.system.entry import run
from utils.system.errors import UserError
from utils.system.flags import FlagParser
from utils.system.text import print_line

PREFIXES = {"published": "module.", "published-gpu": ""}
_BULK = ("state_dict", "optimizer", "optimizer_names", "random_states", "rows", "parts")
_REMEDY = "make room or choose another --out"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = FlagParser(prog="python -m utils.convert", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="CHECKPOINT", help="a .pth, or a .dict of thresholds")
    parser.add_argument(
        "--to",
        required=True,
        choices=(*PREFIXES, "safetensors"),
        help="published: the keys of the published code, those of tensors beginning with module., "
        "as it writes them under DataParallel; published-gpu: the same without module., as for a "
        "single GPU; safetensors: weights, with the facts of the run as metadata",
    )
    parser.add_argument("--out", help="file to write; by default beside CHECKPOINT")
    return parser


def main() -> None:
    """Convert the file that the command line names."""
    args = build_parser().parse_args()
    source = Path(args.file)
    target = Path(args.out) if args.out else _default_target(source, args.to)
    if os.path.lexists(target):
        raise UserError(f"--out {target}: it exists already; name another file")
    content = checkpoint.read(source, "CHECKPOINT")
    thresholds = _thresholds(content)
    if thresholds is None:
        content = checkpoint.load(source, "CHECKPOINT")
    if args.to == "safetensors":
        tensors = content["state_dict"] if thresholds is None else thresholds
        metadata = facts(content) if thresholds is None else {}
        write_safetensors(target, tensors, metadata, _REMEDY)
    else:
        if thresholds is None:
            converted = published_checkpoint(content, PREFIXES[args.to], source.name)
        else:
            converted = published_thresholds(thresholds)
        write_atomically(target, lambda file: torch.save(converted, file), _REMEDY)
    print_line(f"wrote {target}")


def published_checkpoint(content: CheckpointContent, prefix: str, file: str) -> dict[str, Any]:
    """Return the keys of a published checkpoint, the names of tensors preceded by `prefix`.

    Accuracies are 0-dim tensors, which the published ImageNet program moves to its device. Raises
    `UserError`, naming `file`, for missing keys and for a checkpoint within an epoch.
    """
    keys = IMAGENET_KEYS if IMAGENET_KEYS.network in content else CIFAR_KEYS
    if missing := [key for key in keys.required if key not in content]:
        raise UserError(
            f"CHECKPOINT {file}: no {', '.join(missing)} in it, so it cannot be resumed"
        )
    if content.get("step"):
        raise UserError(
            f"CHECKPOINT {file}: written within an epoch, which the published code cannot resume; "
            "convert a checkpoint of a whole epoch"
        )
    named = (IMAGENET_KEYS.network,) if keys is IMAGENET_KEYS else ()
    converted = {key: content[key] for key in (*keys.required, *named)}
    converted["state_dict"] = {prefix + key: t for key, t in content["state_dict"].items()}
    for key in (keys.acc, keys.best_acc):
        converted[key] = torch.tensor(float(content[key]))
    return converted


def published_thresholds(thresholds: dict[str, Tensor]) -> dict[str, Any]:
    """Return `thresholds` as published: those in blocks, `layer1[0].storein1`, as 1-tuples."""
    return {name: (value,) if "." in name else value for name, value in thresholds.items()}


def facts(content: CheckpointContent) -> dict[str, str]:
    """Return what a checkpoint says of its run, as text; other values than text in JSON."""
    told = {key: value for key, value in content.items() if key not in _BULK}
    told = {k: v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for k, v in told.items()}
    told["checkpoint_format"] = told.pop("format", None)
    return {"format": "pt"} | {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in told.items()
    }


def _thresholds(content: Any) -> dict[str, Tensor] | None:
    """Return the content of a file of thresholds by name, None if it is another file."""
    if not isinstance(content, dict) or not content:
        return None
    values = {
        name: value[0] if isinstance(value, tuple) and len(value) == 1 else value
        for name, value in content.items()
    }
    valid = all(
        isinstance(name, str) and "storein" in name and isinstance(value, Tensor)
        for name, value in values.items()
    )
    return values if valid else None


def _default_target(source: Path, kind: str) -> Path:
    if kind == "safetensors":
        return source.with_suffix(".safetensors")
    return source.with_name(f"{source.stem}_{kind.replace('-', '_')}{source.suffix}")


if __name__ == "__main__":
    run(main)
