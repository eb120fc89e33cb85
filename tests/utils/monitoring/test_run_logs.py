import json
import math

import pytest

from utils.monitoring.run_logs import group_runs, read_runs, without_repeats
from utils.runs.json_log import JsonLog
from utils.runs.log import Log
from utils.system.errors import UserError

FLAGS = {"model": "net.lif", "lr": 0.1, "manualSeed": 1, "name": "", "timesteps": 4}


@pytest.fixture
def write(tmp_path):
    """Write the log of a run and a record of these flags; return the log's path."""

    def write(stem, accuracies=(50.0, 60.0), suffix=".txt", record=True, **flags):
        rows = [[0.1, 2.0, 2.1, 40.0, accuracy] for accuracy in accuracies]
        path = tmp_path / f"{stem}{suffix}"
        if suffix == ".txt":
            Log(path).start(rows)
        else:
            JsonLog(path).write(rows, len(rows))
        if record:
            (tmp_path / f"{stem}.json").write_text(json.dumps([_record(FLAGS | flags)]))
        return path

    return write


def _record(flags):
    return {"args": flags, "manualSeed": flags["manualSeed"]}


def test_of_equal_runs_one_counts(write):
    paths = [
        write("a.old-1", accuracies=(1.0,)),
        write("a"),
        write("b", name="b"),
        write("c", manualSeed=2),
        write("d", lr=0.2),
        write("e", record=False),
        write("f", record=False),
    ]
    runs, lines = without_repeats(read_runs(paths))
    assert [run.path.stem for run in runs] == ["a", "c", "d", "e", "f"]
    assert sorted(lines) == [
        f"{paths[0]}: left out; {paths[1]} has the same flags and seed",
        f"{paths[2]}: left out; {paths[1]} has the same flags and seed",
    ]
    alone, lines = without_repeats(read_runs(paths[:1]))
    assert len(alone) == 1 and not lines


def test_the_data_that_runs_are_scored_on(write):
    runs = read_runs([write("a"), write("b", val_split=0.2)])
    assert [group.tested_on for group in group_runs(runs)] == ["test", "validation"]
    (group,) = group_runs(runs, ["x", "x"])
    assert group.tested_on == "test and validation"


def _groups(*paths, labels=None):
    return {g.label: [r.path.stem for r in g.runs] for g in group_runs(read_runs(paths), labels)}


def test_runs_that_differ_in_the_seed_form_a_group(write):
    paths = [
        write("a.0", manualSeed=5, name="a"),
        write("b", lr=0.2),
        write("a.1", suffix=".jsonl", log_json=True, checkpoint="elsewhere"),
    ]
    assert _groups(*paths) == {"net.lif, lr 0.1": ["a.0", "a.1"], "net.lif, lr 0.2": ["b"]}


def test_one_group_is_named_after_its_network(write):
    assert _groups(write("a"), write("b", manualSeed=2)) == {"net.lif": ["a", "b"]}


def test_a_run_without_a_record_is_alone(write, tmp_path):
    paths = [write(name, record=False) for name in "ab"]
    assert _groups(*paths) == {str(tmp_path / name): [name] for name in "ab"}
    (tmp_path / "a.json").write_text('[{"versions": {}}]')
    assert len(_groups(*paths)) == 2


def test_labels_replace_records(write):
    paths = [write("a"), write("b", lr=0.2, record=False), write("c")]
    assert _groups(*paths, labels=["x", "x", "y"]) == {"x": ["a", "b"], "y": ["c"]}


def test_both_kinds_of_log_have_the_same_rows(write):
    (text,), (lines,) = (read_runs([write(s, suffix=s)]) for s in (".txt", ".jsonl"))
    assert text.rows == lines.rows and text.column(4) == [50.0, 60.0]


def test_runs_of_a_group_are_equally_long(write):
    runs = read_runs([write("a"), write("b", [1.0, 2.0, 3.0])])
    with pytest.raises(UserError, match=r"b\.txt: 3 epochs, .*a\.txt .* 2; .*--label"):
        group_runs(runs)
    assert len(group_runs(runs, ["a", "b"])) == 2


def test_an_evaluation_is_not_an_epoch(write):
    path = write("a")
    Log(path).append([0.0, math.nan, 1.0, math.nan, 99.0])
    assert read_runs([path])[0].column(4) == [50.0, 60.0]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_a_log_without_epochs_is_named(write, suffix):
    with pytest.raises(UserError, match=rf"a\{suffix}: it holds no epoch"):
        read_runs([write("a", [], suffix=suffix)])


def test_a_run_given_twice_is_named(write):
    with pytest.raises(UserError, match=r"a\.jsonl: another LOG"):
        read_runs([write("a"), write("a", suffix=".jsonl")])
