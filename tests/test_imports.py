"""The import rules of the project: one way, and without effects."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = {
    "cifar": {"cifar", "models", "utils"},
    "imagenet": {"imagenet", "models", "utils"},
    "models": {"models"},
    "utils": {"utils"},
}
OWN = {*ALLOWED, "tests", "benchmarks", "scripts"}
EFFECTS = {"parse_args", "parse_known_args", "manual_seed", "seed", "is_available", "set_device"}
EFFECTS |= {"init_process_group", "print", "set_num_threads", "set_default_dtype"}


def modules():
    return [file for package in ALLOWED for file in sorted((ROOT / package).rglob("*.py"))]


def imported(nodes):
    """Return the top-level names of every absolute import among `nodes`."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            names.add(node.module.split(".")[0])
    return names


def run_at_import(tree):
    """Return the nodes that run when a module is imported: not function bodies, main, types."""
    waiting, nodes = [tree], []
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            waiting += [*getattr(node, "decorator_list", []), *node.args.defaults]
            continue
        if isinstance(node, ast.If) and {"__name__", "TYPE_CHECKING"} & variables(node.test):
            continue
        nodes.append(node)
        waiting += ast.iter_child_nodes(node)
    return nodes


def variables(tree):
    """Return the variables that an expression reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def called(nodes):
    """Return the last parts of the names of everything called among `nodes`."""
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    return {ast.unparse(function).split(".")[-1] for function in functions}


@pytest.fixture(params=modules(), ids=lambda file: str(file.relative_to(ROOT)))
def module(request):
    return request.param.relative_to(ROOT), ast.parse(request.param.read_text())


def test_imports_point_one_way(module):
    path, tree = module
    assert imported(ast.walk(tree)) & OWN <= ALLOWED[path.parts[0]]


def test_models_do_not_need_torchvision(module):
    path, tree = module
    nodes = ast.walk(tree) if path.parts[0] == "models" else run_at_import(tree)
    assert "torchvision" not in imported(nodes)


def test_importing_parses_seeds_and_chooses_nothing(module):
    _, tree = module
    assert not called(run_at_import(tree)) & EFFECTS


def test_every_module_imports_under_any_command_line():
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in modules()]
    code = f"""
import importlib, random, sys
import numpy, torch
random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
states = lambda: (random.getstate(), numpy.random.get_state()[2], torch.get_rng_state().tolist())
before, threads = states(), torch.get_num_threads()
for name in {names}:
    importlib.import_module(name.removesuffix(".__init__"))
assert states() == before and torch.get_num_threads() == threads
assert "torchvision" not in sys.modules
assert not torch.cuda.is_initialized()
"""
    command = [sys.executable, "-c", code, "--no-such-flag"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


@pytest.mark.parametrize(
    "code, found",
    [
        ("parse_args()", {"parse_args"}),
        ("if x:\n    torch.manual_seed(0)", {"manual_seed"}),
        ("class A:\n    parser.parse_args()", {"parse_args"}),
        ("def main():\n    parse_args()", set()),
        ("def main(args=parse_args()):\n    pass", {"parse_args"}),
        ("if __name__ == '__main__':\n    parse_args()", set()),
        ("if TYPE_CHECKING:\n    parse_args()", set()),
    ],
)
def test_effects_at_import_are_found(code, found):
    assert called(run_at_import(ast.parse(code))) == found
