import re

from tests.utils.analysis.made import measured
from utils.analysis.card import render
from utils.analysis.summary import ReportOptions, summarise

FACTS = {
    "network": "net",
    "parameters": 1234,
    "neurons": "timesteps 3",
    "checkpoint": "net_best.pth",
    "epoch": 7,
    "best_acc": 51.25,
    "chosen_on": "test",
    "accuracy": 75.0,
    "data": "a data set",
    "checksums": {"training": "aa11", "test": "bb22"},
    "manualSeed": 5,
    "engine": "folded",
    "device": "CPU",
    "commit": None,
    "versions": {"torch": "2.14", "numpy": "2"},
    "command": "python x.py",
    "args": {"name": "a|b\n", "mean": [0.5, 0.25], "resume": "", "epochs": 3},
}


def test_averaged_weights_have_a_row_of_their_own():
    average = {"accuracy": 76.5}
    assert "averaged weights" not in render("net", FACTS, None)
    assert "in their best epoch | 76.50 % |" in render("net", FACTS | {"average": average}, None)
    average["validation_accuracy"] = 80.25
    card = render("net", FACTS | {"average": average}, None)
    assert "in their best epoch | 76.50 % (80.25 % on the validation data) |" in card


def test_it_says_what_was_trained_and_what_came_of_it():
    summary = summarise(measured(), ["a", "b", "c"], ReportOptions())
    card = render("net on data", FACTS, summary)
    for part in (
        "# net on data\n",
        "1,234 parameters",
        "`net_best.pth`, epoch 7",
        "| accuracy | 75.00 % |",
        "| firing rate, mean over layers | 12.50 % |",
        "| synaptic operations per image | 9 |",
        "| multiply-accumulates of the ANN of the same shape | 112 |",
        "`aa11`",
        "seed: 5",
        "commit: not a git checkout",
        "torch 2.14, numpy 2",
        "| mean | `0.5 0.25` |",
    ):
        assert part in card, part


def test_values_stay_within_their_cells():
    card = render("net", FACTS, None)
    rows = [line for line in card.splitlines() if line.startswith("| name")]
    assert rows == ["| name | `a\\|b\\n` |"]
    assert all(
        len(re.findall(r"(?<!\\)\|", line)) == 3 for line in card.splitlines() if "|" in line
    )


def test_without_neurons_there_is_the_accuracy_alone():
    card = render("net", FACTS, None)
    assert "| accuracy | 75.00 % |" in card and "validation" not in card
    assert "firing rate" not in card


def test_the_accuracy_that_chose_the_checkpoint_is_told_from_that_of_the_test():
    card = render("net", FACTS | {"chosen_on": "validation"}, None)
    assert "| accuracy | 75.00 % |" in card
    assert "| accuracy on the validation data, which chose the checkpoint | 51.25 % |" in card
