import json

import pytest

from tests.utils.analysis.made import measured
from utils.analysis.energy import Prices
from utils.analysis.summary import ReportOptions, summarise

NAMES = ["cat", "dog", "bird"]


@pytest.fixture
def summary():
    return summarise(measured(), NAMES, ReportOptions(0.8, Prices(4.0, 1.0)))


def test_it_is_json_without_special_numbers(summary):
    assert json.loads(json.dumps(summary, allow_nan=False)) == json.loads(json.dumps(summary))


def test_the_latency_curve_ends_at_the_test_accuracy(summary):
    assert summary["latency"]["accuracy"][-1] == summary["accuracy"] == 75.0
    assert summary["ideal_accuracy"] == 100.0


def test_layers(summary):
    first, second = summary["layers"]
    assert first["firing_rate"] == 12 / (4 * 4 * 3)
    assert first["rate_by_step"] == [4 / 16, 6 / 16, 2 / 16]
    assert (first["never_fired"], first["silent"], first["saturated"]) == (1 / 4, 5 / 16, 1 / 16)
    assert first["representation_error"] == 0.5 / 2
    assert first["Vth"] == 0.5
    assert second["representation_error"] is None
    assert summary["firing_rate"] == first["firing_rate"] / 2


def test_energy(summary):
    energy = summary["energy"]
    assert (energy["synaptic_operations"], energy["macs"], energy["ann_macs"]) == (9.0, 100.0, 112)
    assert (energy["energy_pj"], energy["ann_energy_pj"]) == (409.0, 448.0)


def test_early_stop(summary):
    assert summary["early_stop"]["chosen"]["stopped"] == [1, 1, 2]
    assert "stopped" not in summary["early_stop"]["curve"][0]
    assert summarise(measured(), NAMES, ReportOptions())["early_stop"]["chosen"] is None


def test_classes(summary):
    assert summary["classes"]["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert summary["classes"]["most_confused"] == [
        {"label": "bird", "prediction": "dog", "images": 1}
    ]
