"""docs/architecture.md tells the truth about the calls between a command and its gradient."""

import json
import re
import subprocess
import sys

from tests.docs.pages import ROOT, read

CODE = """
import json, os, runpy, sys, traceback
import torch

def backward(loss):
    frames = [(os.path.relpath(f.filename), f.name) for f in traceback.extract_stack()]
    calls = [f"{name} in {file}" for file, name in frames if name != "backward"]
    print("calls:", json.dumps(calls))
    sys.stdout.flush()
    os._exit(0)

torch.Tensor.backward = backward
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FLAGS = "--dataset digits --timesteps 1 --train-batch 2 --epochs 1 --compile off -c"


def test_the_calls_to_the_gradient_are_those_of_the_page(tmp_path):
    program = "cifar/main_single_gpu.py"
    code = f"import sys; sys.argv = {[program, *FLAGS.split(), str(tmp_path)]}\n{CODE}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    found = re.search(r"calls: (\[.*\])", done.stdout)
    assert found, done.stderr
    calls = [call for call in json.loads(found[1]) if (ROOT / call.split(" in ")[1]).is_file()]
    listed = re.findall(r"^\d\. `(\w+)` in \[(.*?)\]", read("docs/architecture.md"), re.MULTILINE)
    first = calls.index(f"main in {program}")
    assert calls[first:] == [f"{name} in {file}" for name, file in listed]
    assert len(listed) == 5
