"""The import rules of the project: one way, and without effects."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = {"utils.system", "utils.device"}
SERVICES = SYSTEM | {"utils.distributed", "utils.datasets"}
EQUATIONS = {"models.setting", "models.registry", "models.dynamics"}
OPS = EQUATIONS | {"models.engines.ops"}
ENGINES = OPS | {"models.engines.folded", "models.engines.unrolled", "models.engines.mean"}
NETWORK = ENGINES | {"models.engines.select", "models.neuron", "models.network"}
ZOO = {"models.preresnet", "models.preresnet_imagenet", "models.vgg"}
LIBRARY = {"models.functional", "models.thresholds", "models.recording", "models.export"}
MODELS = NETWORK | ZOO | LIBRARY | {"models"}
TRAINING = {"utils.optimization", "utils.monitoring", "utils.training"}
UTILS = SERVICES | TRAINING | {"utils.events", "utils.runs", "utils.analysis"}
# What each layer may import, itself aside. A module belongs to the layer with the longest name that
# begins its own.
LAYERS = {
    "models.setting": set(),
    "models.registry": {"models.setting"},
    "models.dynamics": {"models.setting"},
    "models.engines.ops": EQUATIONS,
    "models.engines.folded": OPS,
    "models.engines.unrolled": OPS,
    "models.engines.mean": OPS,
    "models.engines.select": ENGINES,
    "models.neuron": ENGINES,
    "models.functional": ENGINES,
    "models.network": NETWORK,
    **dict.fromkeys(sorted(ZOO), NETWORK),
    "models.thresholds": NETWORK,
    "models.recording": NETWORK,
    "models.export": NETWORK,
    "models": MODELS,
    "utils.system": set(),
    "utils.device": set(),
    "utils.distributed": SYSTEM,
    "utils.datasets": SYSTEM,
    "utils.events": SERVICES,
    "utils.runs": SERVICES,
    "utils.optimization": SYSTEM | {"utils.distributed"},
    "utils.monitoring": SERVICES | {"utils.runs"},
    "utils.training": SERVICES | {"utils.runs", "utils.optimization", "utils.monitoring"},
    "utils.analysis": UTILS - {"utils.analysis"},
    # Programs, run with `python -m`: nothing imports them.
    "utils": MODELS | UTILS | {"cifar", "imagenet"},
    "cifar": MODELS | UTILS,
    "imagenet": MODELS | UTILS,
}
PACKAGES = ("cifar", "imagenet", "models", "utils")
OWN = {*PACKAGES, "tests", "benchmarks", "scripts"}
EFFECTS = {"parse_args", "parse_known_args", "manual_seed", "seed", "is_available", "set_device"}
EFFECTS |= {"init_process_group", "print", "set_num_threads", "set_default_dtype"}


def modules():
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def imported(nodes):
    """Return the full names of every absolute import among `nodes`: `utils.runs.paths`.

    Of `from a import b` that is `a.b` where it is a module of the project, else `a`.
    """
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if is_module(name) else node.module for name in found}
    return names


def is_module(name):
    """Return whether a module or package of the project has this full name."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def top(names):
    """Return the top-level packages of full names."""
    return {name.partition(".")[0] for name in names}


def layer(name):
    """Return the layer that a module with this full name belongs to."""
    while name not in LAYERS:
        name = name.rpartition(".")[0]
    return name


def full_name(path):
    """Return the full name of the module in a file, relative to the root."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def import_graph():
    """Return the modules of the project that each one imports anywhere, by full name."""
    names = {full_name(file.relative_to(ROOT)): file for file in modules()}
    found = {name: imported(ast.walk(ast.parse(file.read_text()))) for name, file in names.items()}
    return {name: targets & names.keys() for name, targets in found.items()}


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
    own = layer(full_name(path))
    targets = {name for name in imported(ast.walk(tree)) if name.partition(".")[0] in OWN}
    assert top(targets) <= set(PACKAGES)
    upward = {name for name in targets if layer(name) not in LAYERS[own] | {own}}
    assert upward == set()


def test_nothing_imports_a_program():
    programs = {name for name in import_graph() if layer(name) == "utils"} - {"utils"}
    assert programs
    imported_anywhere = set().union(*import_graph().values())
    assert programs & imported_anywhere == set()


def test_there_is_no_import_circle():
    TopologicalSorter(import_graph()).prepare()  # raises CycleError with the circle


def test_no_folder_is_crowded():
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    counts = Counter(file.parent for file in files if file.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > 14} == {}


def test_models_do_not_need_torchvision(module):
    path, tree = module
    nodes = ast.walk(tree) if path.parts[0] == "models" else run_at_import(tree)
    assert "torchvision" not in top(imported(nodes))


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
