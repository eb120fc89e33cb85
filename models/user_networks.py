"""Networks of the user's own: import the code that registers them, and check what it builds."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from models.network import Network
from models.registry import create_model, list_models
from models.setting import NeuronSetting

_imported: dict[str, list[str]] = {}  # the names that each file or module registered


def import_networks(sources: Sequence[str]) -> list[str]:
    """Run the Python files or modules `sources` and return the names of networks they register.

    A source that ends in `.py` or names a folder is a file; any other is a module, searched in the
    working directory too. A file can import the modules beside it. Each source is run once in a
    process. Raises `ValueError`, one line that begins with `--import`, for a source that is
    missing, fails, or registers nothing.
    """
    return [name for source in dict.fromkeys(sources) for name in _import(source)]


def build_on_meta(name: str, setting: NeuronSetting) -> Network:
    """Return the network `name` on the meta device, without memory, to read its attributes.

    Raises `UnknownModel`, and `ValueError` where the builder fails or builds something else.
    """
    try:
        with torch.device("meta"):
            network = create_model(name, setting)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{name} cannot be built: {_describe(error)}") from error
    if not isinstance(network, Network) or not isinstance(
        getattr(network, "in_channels", None), int
    ):
        raise ValueError(
            f"{name} is a {type(network).__name__}: it must be a SpikingNetwork with in_channels"
        )
    return network


def check_forward(network: Network, shape: Sequence[int], **choices) -> None:
    """Run a network from `build_on_meta` on a batch of samples of this shape, without values.

    `choices` are those of `Network.configure`. Raises `ValueError` where its `forward` breaks a
    rule for networks (`SpikingNetwork`) or fails.
    """
    try:
        network.configure(**choices)
        network.train()(torch.empty(2, *shape, device="meta"))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if f.filename == inspect.getfile(type(network))]
        place = f" ({_place(own[-1].filename, own[-1].lineno)})" if own else ""
        raise ValueError(f"{_one_line(error)}{place}") from error


def _import(source: str) -> list[str]:
    path = Path(source)
    is_file = path.suffix == ".py" or path.name != source
    key = str(path.resolve()) if is_file else source
    if key in _imported:
        return _imported[key]
    before = set(list_models())
    try:
        _run_file(path, key) if is_file else _run_module(source)
    except (Exception, SystemExit) as error:
        raise ValueError(f"--import {source}: {_describe(error, key)}") from error
    _imported[key] = sorted(set(list_models()) - before)
    if not _imported[key]:
        raise ValueError(
            f'--import {source}: it registers no network; put @register("a.name") from models '
            "above a SpikingNetwork or a function that builds one"
        )
    return _imported[key]


def _run_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise FileNotFoundError("no such file")
    _add_to_search_path(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError("a file of Python source must end in .py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _run_module(name: str) -> None:
    _add_to_search_path(Path.cwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ModuleNotFoundError(
                f"no module {error.name} here or on Python's path; the name of a file ends in .py"
            ) from error
        raise


def _add_to_search_path(folder: Path) -> None:
    """Let imports find modules in `folder`, after all others."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _describe(error: BaseException, file: str = "") -> str:
    """Return `error` in one line with where it was raised: in `file`, else in the last file."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({_place(error.filename, error.lineno)})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<")
    ]
    if not frames:
        return " ".join(str(error).split())
    frame = next((f for f in reversed(frames) if f.filename == file), frames[-1])
    return f"{_one_line(error)} ({_place(frame.filename, frame.lineno)})"


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _place(file: str | None, line: int | None) -> str:
    return f"{Path(file or '?').name}, line {line}"
