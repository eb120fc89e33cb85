import sys
from pathlib import Path

import pytest

from models import NeuronSetting, SpikingNetwork, create_model, list_models, registry, user_networks
from models.user_networks import build_on_meta, check_forward, import_networks

NETWORK = """
from torch import nn
from models import LIFNeuron, SpikingNetwork, register

@register("{name}")
class Small(SpikingNetwork):
    in_channels = 3

    def __init__(self, setting, num_classes=10):
        super().__init__(setting)
        self.flat = nn.Flatten()
        self.linear = nn.Linear(12, num_classes)
        self.relu = LIFNeuron(setting)

    def forward(self, images):
        return self.readout(self.relu(self.linear(self.flat(self.present(images)))))
"""


@pytest.fixture(autouse=True)
def undone(monkeypatch, tmp_path):
    """Work in an empty folder, and forget what a test imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(registry, "_BUILDERS", registry._BUILDERS.copy())
    monkeypatch.setattr(user_networks, "_imported", {})


def write(file, text):
    path = Path(file)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return file


@pytest.mark.parametrize("source", ["mine.py", "./mine.py", "nets/mine.py"])
def test_a_file_registers_networks(source):
    write(source, NETWORK.format(name="mine.one") + NETWORK.format(name="mine.two"))
    assert import_networks([source]) == ["mine.one", "mine.two"]
    assert {"mine.one", "mine.two"} < set(list_models())
    assert isinstance(create_model("mine.one", NeuronSetting()), SpikingNetwork)


def test_several_sources_each_once_in_a_process():
    write("a.py", NETWORK.format(name="a.net"))
    write("b.py", NETWORK.format(name="b.net"))
    assert import_networks(["a.py", "b.py", "a.py"]) == ["a.net", "b.net"]
    assert import_networks(["./a.py"]) == ["a.net"]


def test_a_module_of_the_working_directory_by_its_name():
    write("own_pack/__init__.py", "")
    write("own_pack/nets.py", NETWORK.format(name="mine.net"))
    assert import_networks(["own_pack.nets"]) == ["mine.net"]


def test_a_file_imports_the_modules_beside_it_after_those_of_the_project():
    write("deep/own_layers.py", "NAME = 'mine.net'")
    write("deep/models.py", "raise RuntimeError('shadows the project')")
    write("deep/mine.py", "from own_layers import NAME\n" + NETWORK.replace('"{name}"', "NAME"))
    assert import_networks(["deep/mine.py"]) == ["mine.net"]


FAILING = {
    "fails.py": ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' ({}, line 2)"),
    "syntax.py": ("x = 1\nx = = 2\n", "SyntaxError: invalid syntax ({}, line 2)"),
    "needs.py": ("import no_such_package\n", "No module named 'no_such_package' ({}, line 1)"),
    "ends.py": ("import sys\nsys.exit(3)\n", "SystemExit: 3 ({}, line 2)"),
    "lines.py": ("raise ValueError('one\\ntwo')", "ValueError: one two ({}, line 1)"),
    "taken.py": (NETWORK.format(name="vgg.vgg11_lif"), "({}, line 5)"),
    "zeros.py": ("\0\0", "null bytes"),
    "empty.py": ("", "registers no network"),
    "./notes.txt": ("text", "must end in .py"),
}


@pytest.mark.parametrize("source", FAILING)
def test_a_file_that_fails_is_one_line_with_the_place(source):
    text, said = FAILING[source]
    write(source, text)
    assert said.format(source) in refusal(source)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gone.py", "no such file"),
        ("gone/", "no such file"),
        ("gone", "no module gone here or on Python's path; the name of a file ends in .py"),
        ("gone.deep", "no module gone here"),
        ("two..dots", "two"),
        ("json", "registers no network"),
    ],
)
def test_a_source_that_is_missing_or_registers_nothing_is_one_line(source, said):
    assert said in refusal(source)


def refusal(source):
    with pytest.raises(ValueError) as caught:
        import_networks([source])
    line = str(caught.value)
    assert line.startswith(f"--import {source}: ") and "\n" not in line
    return line


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        ("lambda setting: None", "unexpected keyword argument 'num_classes'"),
        ("lambda setting, num_classes: {}['x']", "KeyError: 'x' (odd.py, line 3)"),
        ("lambda setting, num_classes: 3", "odd.net is a int"),
        ("lambda setting, num_classes: nn.ReLU()", "a SpikingNetwork with in_channels"),
        ("lambda setting, num_classes: models.SpikingNetwork(setting)", "in_channels"),
    ],
)
def test_a_builder_that_builds_no_network_is_one_line(builder, said):
    write("odd.py", f"import models\nfrom torch import nn\nmodels.register('odd.net')({builder})\n")
    import_networks(["odd.py"])
    with pytest.raises(ValueError) as caught:
        build_on_meta("odd.net", NeuronSetting())
    assert said in str(caught.value) and "\n" not in str(caught.value)


FORWARD = "self.readout(self.relu(self.linear(self.flat(self.present(images)))))"
BROKEN = {
    "self.relu(self.linear(self.flat(self.present(images))))": "must end with return self.readout",
    "self.readout(self.linear(self.flat(self.present(images))))": "readout takes the output of a",
    "self.readout(self.relu(self.linear(images)))": "must begin with x = self.present(images)",
    "self.readout(self.relu(self.linear(self.present(images) * 2)))": "only linear maps may stand",
    "self.readout(self.relu(self.linear(self.present(images))))": "RuntimeError: ",
    "1 / 0": "must begin with",
}


@pytest.mark.parametrize("forward", BROKEN)
def test_a_forward_that_breaks_a_rule_or_fails_is_one_line(forward):
    write("mine.py", NETWORK.format(name="mine.net").replace(FORWARD, forward))
    import_networks(["mine.py"])
    network = build_on_meta("mine.net", NeuronSetting(timesteps=3))
    with pytest.raises(ValueError) as caught:
        check_forward(network, (3, 2, 2))
    line = str(caught.value)
    assert BROKEN[forward] in line and "\n" not in line
    assert line.endswith("(mine.py, line 16)") != ("forward of Small" in line)


@pytest.mark.parametrize("engine", [None, "folded", "unrolled"])
def test_a_forward_that_keeps_the_rules_passes(engine):
    write("mine.py", NETWORK.format(name="mine.net"))
    import_networks(["mine.py"])
    check_forward(build_on_meta("mine.net", NeuronSetting(timesteps=3)), (3, 2, 2), engine=engine)


def test_a_network_on_the_meta_device_has_no_memory():
    network = build_on_meta("vgg.vgg11_lif", NeuronSetting())
    assert network.in_channels == 2
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
