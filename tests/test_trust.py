"""Nothing in the tree runs code that it reads: neither evaluated, nor unpickled, nor by a shell.

The one exception is `--import`: `models/user_networks.py` runs Python files, those that the command
line names.
"""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path"}
IMPORTS = {"import_module", "exec_module", "spec_from_file_location"}  # by the end of the name
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
SHELLS = {"subprocess.getoutput", "subprocess.getstatusoutput", "os.execl", "os.spawnl"}
# What must be passed, and as what, by the end of the name of what is called.
REQUIRED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "read_array": ("allow_pickle", False),
    "write_array": ("allow_pickle", False),
}
# Tests make hostile files, and start a script in their own process.
ALLOWED_IN_TESTS = {"pickle", "runpy.run_path"} | IMPORTS
ALLOWED_IN = {"models/user_networks.py": IMPORTS}


def sources():
    listing = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        return sorted(
            file
            for folder in ("cifar", "imagenet", "models", "utils", "tests", "scripts")
            for file in (ROOT / folder).rglob("*.py")
        )
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).exists()]


def faults(tree):
    """Return what in a module runs code that is data, in the words of `CALLS` and so on."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} & MODULES
        elif isinstance(node, ast.Call):
            found |= _faults_of_call(ast.unparse(node.func), node.keywords)
    return found


def _faults_of_call(name, keywords):
    passed = {word.arg: word.value for word in keywords}
    found = {name} & (CALLS | SHELLS) | {name.rpartition(".")[2]} & IMPORTS
    shell = passed.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        found.add("shell")
    for called, (word, value) in REQUIRED.items():
        if name == called or name.endswith(f".{called}"):
            given = passed.get(word)
            if not isinstance(given, ast.Constant) or given.value is not value:
                found.add(called)
    return found


@pytest.mark.parametrize("file", sources(), ids=lambda file: str(file.relative_to(ROOT)))
def test_no_data_are_run(file):
    found = faults(ast.parse(file.read_text()))
    path = file.relative_to(ROOT)
    allowed = ALLOWED_IN_TESTS if path.parts[0] == "tests" else ALLOWED_IN.get(str(path), set())
    assert found <= allowed


def test_only_the_command_line_names_what_is_imported():
    calls = [
        (file.relative_to(ROOT).parts[0], ast.unparse(node.args[0]))
        for file in sources()
        if file.relative_to(ROOT).parts[0] != "tests"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_networks")
    ]
    assert {folder for folder, _ in calls} == {"cifar", "imagenet", "utils"}
    assert {argument for _, argument in calls} == {"args.imports or []"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("eval('1')", {"eval"}),
        ("model.eval()", set()),
        ("exec(text)", {"exec"}),
        ("torch.compile(f)", set()),
        ("import pickle", {"pickle"}),
        ("def f():\n    from pickle import loads", {"pickle"}),
        ("torch.load(p)", {"torch.load"}),
        ("torch.load(p, weights_only=False)", {"torch.load"}),
        ("torch.load(p, weights_only=flag)", {"torch.load"}),
        ("torch.load(p, weights_only=True)", set()),
        ("np.load(p)", {"np.load"}),
        ("np.load(p, allow_pickle=False)", set()),
        ("np.lib.format.read_array(f, allow_pickle=True)", {"read_array"}),
        ("subprocess.run(c, shell=True)", {"shell"}),
        ("subprocess.run(c)", set()),
        ("os.system(c)", {"os.system"}),
        ("importlib.import_module(name)", {"import_module"}),
        ("spec.loader.exec_module(module)", {"exec_module"}),
    ],
)
def test_what_runs_data_is_found(code, found):
    assert faults(ast.parse(code)) == found
