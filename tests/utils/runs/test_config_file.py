"""`--config FILE`: flags in YAML, JSON or a record."""

import json
import sys

import pytest

from cifar.options import build_parser as cifar_parser
from imagenet.options import build_parser as imagenet_parser
from utils.system.errors import UserError

RECORD = {"model": "vgg.vgg11_if", "lr": 0.05, "nesterov": True, "mean": [0.1, 0.2, 0.3]}


@pytest.fixture
def parse(tmp_path):
    """Return the flags of a file of this content, and of a command line."""

    def parse(content, *flags, suffix=".yaml", parser=None):
        path = tmp_path / f"flags{suffix}"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return (parser or cifar_parser(multi=False)).parse_args(["--config", str(path), *flags])

    return parse


def test_flags_of_a_file_replace_defaults_and_are_given(parse):
    pytest.importorskip("yaml", reason="requirements-extras.txt is not installed")
    args = parse("lr: 1e-2\nnesterov: true\nmean: [0.1, 0.2, 0.3]\ntrain-batch: 64\nname: 007\n")
    assert (args.lr, args.nesterov, args.mean) == (0.01, True, [0.1, 0.2, 0.3])
    assert (args.train_batch, args.name, args.momentum) == (64, "007", 0.9)
    assert args.given == {"lr", "nesterov", "mean", "train_batch", "name"}
    assert not hasattr(args, "config")


@pytest.mark.parametrize("word", ["off", "on", "auto"])
def test_yaml_takes_no_word_but_true_and_false_for_a_truth_value(parse, word):
    pytest.importorskip("yaml", reason="requirements-extras.txt is not installed")
    assert parse(f"compile: {word}").compile == word
    assert parse("name: 'true'").name == "true"
    assert parse("engine: null\nseed:\n", parser=imagenet_parser()).engine is None


@pytest.mark.parametrize("key", ["lr", "learning-rate", "learning_rate", "--lr"])
def test_any_spelling_of_a_flag_is_a_key(parse, key):
    assert parse({key: 0.5}, suffix=".json").lr == 0.5


@pytest.mark.parametrize("spelling", [["-b", "3"], ["--batch", "3"], ["--batch-size=3"], ["-b3"]])
def test_the_command_line_wins_however_it_is_spelled(parse, spelling):
    args = parse({"b": 7, "no_flip": True}, *spelling, suffix=".json", parser=imagenet_parser())
    assert args.batch_size == 3 and args.no_flip


def test_the_command_line_wins_over_switches_and_lists(parse):
    off = {"nesterov": False, "import": ["own.py"], "mean": [1, 1, 1]}
    flags = ("--nesterov", "--import", "mine.py", "--mean", "0", "0", "0")
    args = parse(off, *flags, suffix=".json")
    assert (args.nesterov, args.imports, args.mean) == (True, ["mine.py"], [0.0, 0.0, 0.0])


def test_a_wrong_value_that_the_command_line_replaces_is_not_used(parse):
    assert parse({"lr": -1}, "--lr", "1", suffix=".json").lr == 1


def test_a_wrong_command_line_is_reported_as_without_a_file(parse):
    with pytest.raises(UserError, match="^argument --lr/--learning-rate: must be"):
        parse({"lr": 1}, "--lr", "0", suffix=".json")


def test_a_record_stands_for_its_last_start_with_the_seed_drawn(parse):
    first = {"args": RECORD | {"lr": 1.0, "manualSeed": None}, "manualSeed": 77}
    last = {"args": RECORD | {"resume": "auto", "local_rank": 0}, "manualSeed": 77}
    args = parse([first, last], "--name", "x", suffix=".json")
    assert (args.model, args.lr, args.nesterov, args.mean) == tuple(RECORD.values())
    assert (args.manualSeed, args.resume, args.local_rank, args.name) == (77, "", -1, "x")


@pytest.mark.parametrize(
    ("resume", "taken"), [("auto", ""), ("", ""), ("other_best.pth", "other_best.pth")]
)
def test_a_run_that_began_from_a_checkpoint_begins_there_again(parse, resume, taken):
    record = [{"args": RECORD | {"resume": resume}}, {"args": RECORD | {"resume": "auto"}}]
    assert parse(record, suffix=".json").resume == taken


def test_a_record_of_several_processes_suits_one_where_it_used_none_of_their_flags(parse):
    args = vars(cifar_parser(multi=True).parse_args(["--lr", "0.3"]))
    record = [{"args": {k: v for k, v in args.items() if k != "given"}, "manualSeed": 1}]
    assert parse(record, suffix=".json").lr == 0.3
    record[0]["args"]["sync_bn"] = True
    with pytest.raises(UserError, match="unknown flag sync_bn"):
        parse(record, suffix=".json")


def test_a_record_of_another_program_is_refused(parse):
    record = [{"args": vars(imagenet_parser().parse_args([])) | {"given": None}}]
    with pytest.raises(UserError, match="unknown flag data; the nearest is"):
        parse(record, suffix=".json")


def test_without_the_package_yaml_names_it_and_json_works(parse, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserError, match=r"--config .*flags\.yml: .*pip install PyYAML"):
        parse("lr: 1", suffix=".yml")
    assert parse({"lr": 1}, suffix=".json").lr == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: 1\nlr: 2", "lr is given twice"),
        ("lr: 1\na: b: c", "line 2: not YAML"),
        ("lr: [1, 2", "line 1: not YAML"),
        ("lr: *nothing", "not YAML"),
        ("- lr", "neither flags"),
        ("", "neither flags"),
        ("lr: {a: 1}", "lr: takes a value"),
        ("[a]: 1", "not the name of a flag"),
        ("mean: [0, [1], 2]", "mean: takes values"),
        ("mean: [0, 1]", "--mean"),
        ("Vht: 1", "unknown flag Vht; the nearest is Vth"),
        ("\0", "not YAML"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_bad_yaml_is_named(parse, text, said):
    pytest.importorskip("yaml", reason="requirements-extras.txt is not installed")
    with pytest.raises(UserError, match=r"--config .*flags\.yaml: ") as error:
        parse(text)
    assert said in str(error.value) and "\n" not in str(error.value)
