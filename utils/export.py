"""Write a trained network for other programs: SpikingJelly, NIR, or plain PyTorch.

python -m utils.export checkpoint/digits/NAME_best.pth --to torch [--out STEM]
"""

from __future__ import annotations

import argparse
import io
import os
import re
from pathlib import Path

import torch
from torch import nn

from models.export import nir_graph, spikingjelly_module, torch_module
from models.export.layer_graph import ExportError
from models.registry import UnknownModel
from models.trained import build_network, network_name
from models.user_networks import import_networks
from utils.runs import checkpoint
from utils.system.atomic_write import write_atomically
from utils.system.entry import run
from utils.system.errors import UserError, flag_errors
from utils.system.flags import FlagParser, between
from utils.system.text import print_line
from utils.training.flags import add_import

SIZES = {"vgg.": 48, "preresnet_snn.": 224}  # of the images that networks are trained with
OTHER_SIZE = 32
_REMEDY = "make room or choose another --out"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = FlagParser(prog="python -m utils.export", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of this project")
    parser.add_argument(
        "--to",
        required=True,
        choices=("spikingjelly", "nir", "torch"),
        help="a Python file and its weights for SpikingJelly or plain PyTorch, or a NIR file",
    )
    parser.add_argument(
        "--out", metavar="STEM", help="the files' path without suffix; beside the checkpoint"
    )
    parser.add_argument(
        "--size",
        type=between(1, 10_000),
        nargs=2,
        metavar=("H", "W"),
        help="of the images, for --to nir; that of the network's data set if not given",
    )
    add_import(parser)
    return parser


def main() -> None:
    """Export the checkpoint that the command line names; an existing file is never replaced."""
    args = build_parser().parse_args()
    path = Path(args.checkpoint)
    if args.size and args.to != "nir":
        raise UserError(f"--size: --to {args.to} takes images of any size; leave the flag out")
    stem = _stem(args, path)
    with flag_errors("--import"):
        import_networks(args.imports or [])
    name, network = _read(path)
    try:
        if args.to == "nir":
            size = args.size or [_size(name)] * 2
            files = [(stem.with_name(f"{stem.name}.nir"), _nir(network, *size))]
        else:
            files = _module(network, args.to, name, stem)
    except ExportError as error:
        raise UserError(f"--to {args.to}: {name} cannot be exported: {error}") from error
    for file, _ in files:
        if os.path.lexists(file):
            raise UserError(f"--out {file}: it exists already; name another file")
    for file, content in files:
        write_atomically(file, lambda target, content=content: target.write(content), _REMEDY)
    print_line(f"{path}: {name}; wrote {' and '.join(str(file) for file, _ in files)}")


def _stem(args: argparse.Namespace, path: Path) -> Path:
    """Return the path of the files to write without suffix; its name is one of a Python module."""
    name = path.stem if args.to == "nir" else f"{path.stem}_{args.to}"
    stem = path.with_name(name) if args.out is None else Path(args.out)
    if not stem.parent.is_dir():
        raise UserError(f"--out {args.out}: no folder {stem.parent}; make it first")
    return stem.with_name(re.sub(r"\W", "_", stem.name))


def _read(path: Path) -> tuple[str, nn.Module]:
    """Return the name of a checkpoint's network, and the network with its weights."""
    content = checkpoint.load(path, "CHECKPOINT")
    try:
        network = build_network(content)
    except UnknownModel as error:
        hint = "networks of your own need --import FILE"
        raise UserError(f"CHECKPOINT {path.name}: {error}; {hint}") from error
    except ValueError as error:
        raise UserError(f"CHECKPOINT {path.name}: {error}") from error
    checkpoint.load_weights(network, content["state_dict"], f"CHECKPOINT {path.name}")
    return network_name(content), network.eval()


def _size(name: str) -> int:
    sizes = (size for prefix, size in SIZES.items() if name.startswith(prefix))
    return next(sizes, OTHER_SIZE)


def _module(network: nn.Module, to: str, name: str, stem: Path) -> list[tuple[Path, bytes]]:
    """Return the weights and the source of a module, with the files to write them to."""
    weights, code = (stem.with_name(stem.name + suffix) for suffix in (".pth", ".py"))
    if to == "torch":
        source, state = torch_module.export(network, name, weights.name)
    else:
        source, state = spikingjelly_module.export(network, name, weights.name)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return [(weights, buffer.getvalue()), (code, source.encode())]


def _nir(network: nn.Module, height: int, width: int) -> bytes:
    """Return the content of a NIR file; raises `UserError` without the package nir."""
    try:
        import nir
    except ImportError as error:
        raise UserError("--to nir: needs the package nir; pip install nir") from error
    buffer = io.BytesIO()
    nir.write(buffer, nir_graph.nir_graph(network, height, width))
    return buffer.getvalue()


if __name__ == "__main__":
    run(main)
