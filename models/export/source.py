"""Python source for modules: constructor calls of torch's layers, forward passes, wrapped lines."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import fx, nn

from models.export.layer_graph import ExportError, calls, is_addition

WIDTH = 100
LOAD = '''\
def load(path, device="cpu"):
    """Return the network with the weights in the file `path`, ready to evaluate."""
    network = Network()
    network.load_state_dict(torch.load(path, map_location=device, weights_only=True))
    return network.to(device).eval().requires_grad_(False)
'''
_INLINE = 68  # columns up to which calls are nested in one line
_NOT_ATTRIBUTES = ("device", "dtype", "step_mode")


def arguments(layer: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of one of torch's layers, by name.

    A tuple of equal numbers is given as one number. Raises `ExportError` for other modules.
    """
    if not is_torch_layer(layer):
        raise ExportError(f"it holds a {type(layer).__name__}, which is no layer of torch.nn")
    values = {}
    for name in _parameters(type(layer)):
        value = getattr(layer, name)
        if name == "bias":
            value = value is not None
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        values[name] = value
    if "stride" in values and values["stride"] == values.get("kernel_size"):
        values["stride"] = default(layer, "stride")  # what pools take None for
    return values


def is_torch_layer(module: nn.Module) -> bool:
    """Return whether `module` is a layer of torch.nn, which holds no others."""
    ours = not type(module).__module__.startswith("torch.nn.modules.")
    return not (ours or any(module.children()) or isinstance(module, nn.Sequential))


def default(layer: nn.Module, name: str) -> Any:
    """Return the default of a constructor argument; `inspect.Parameter.empty` without one."""
    return _parameters(type(layer))[name].default


def _parameters(kind: type[nn.Module]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(kind).parameters
    return {name: p for name, p in found.items() if name not in _NOT_ATTRIBUTES}


def constructor(layer: nn.Module, package: str = "nn", given: dict[str, str] | None = None) -> str:
    """Return the call that makes a layer of torch.nn: `nn.Conv2d(3, 64, 3, padding=1)`.

    `given` names variables to write for some of the arguments.
    """
    parts = []
    for name, value in arguments(layer).items():
        variable = (given or {}).get(name)
        if variable is None and value == default(layer, name):
            continue
        text = variable or repr(value)
        required = default(layer, name) is inspect.Parameter.empty
        parts.append(text if required else f"{name}={text}")
    return f"{package}.{type(layer).__name__}({', '.join(parts)})"


def forward_lines(graph: fx.Graph) -> list[str]:
    """Return the statements of a forward pass whose argument is called `x`.

    Calls are nested up to the width of a line. Raises `ExportError` as `calls` does.
    """
    text = {node: "x" for node in graph.nodes if node.op == "placeholder"}
    lines = []
    for node in calls(graph):
        if is_addition(node):
            call = " + ".join(text[term] for term in node.args)
        else:
            call = f"self.{attribute(node.target)}({text[node.args[0]]})"
        if is_addition(node) and len(call) > _INLINE:
            longest = max(node.args, key=lambda term: len(text[term]))
            lines.append(f"{longest.name} = {text[longest]}")
            text[longest] = longest.name
            call = " + ".join(text[term] for term in node.args)
        if len(node.users) > 1 or len(call) > _INLINE:
            lines.append(f"{node.name} = {call}")
            call = node.name
        text[node] = call
    (output,) = (node for node in graph.nodes if node.op == "output")
    return [*lines, f"return {text[output.args[0]]}"]


def attribute(name: str) -> str:
    """Return a module's name as an expression: `layers[0].conv` for `layers.0.conv`."""
    return re.sub(r"\.(\d+)", r"[\1]", name)


def indented(lines: list[str], depth: int) -> list[str]:
    """Return `lines` at a depth of indentation; the arguments of a long call go on lines below."""
    indent = "    " * depth
    return [part for line in lines for part in _broken(indent + line, indent)]


def _broken(line: str, indent: str) -> list[str]:
    start, end = line.find("(") + 1, line.rfind(")")
    if len(line) <= WIDTH or not 0 < start < end:
        return [line]
    inner = indent + "    "
    filled = [""]
    for argument in _split(line[start:end]):
        if filled[-1] and len(inner) + len(filled[-1]) + len(argument) + 2 > WIDTH:
            filled.append("")
        filled[-1] += (" " if filled[-1] else "") + argument + ","
    below = [part for text in filled for part in _broken(inner + text, inner)]
    return [line[:start], *below, indent + line[end:]]


def _split(text: str) -> list[str]:
    """Return the arguments in `text`, apart by commas outside all brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
