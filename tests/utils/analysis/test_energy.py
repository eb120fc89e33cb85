import pytest

from tests.utils.analysis.made import measurements
from utils.analysis.energy import Prices
from utils.analysis.latency import early_stop


def test_operations_and_energies_worked_out_by_hand():
    conv, linear = Prices(mac=4.0, ac=1.0).layers(measurements())
    assert conv == ("conv", "MAC", 100.0, 100, 400.0, 400.0)
    assert linear == ("linear", "AC", 9.0, 12, 9.0, 48.0)


def test_frames_are_presented_at_every_step():
    conv, _ = Prices(mac=4.0, ac=1.0).layers(measurements(frames=True))
    assert conv == ("conv", "MAC", 300.0, 100, 1200.0, 400.0)


def test_the_default_energies_are_those_of_horowitz():
    assert Prices() == Prices(mac=4.6, ac=0.9)


@pytest.mark.parametrize(("frames", "presented"), [(False, 1), (True, 9 / 4)])
def test_energy_of_images_that_stop_early(frames, presented):
    m = measurements(frames)
    stop = early_stop(m, 0.8)
    energy = Prices(mac=4.0, ac=1.0).stopped(m, stop.operations, stop.mean_steps)
    assert energy == pytest.approx(stop.operations + 4 * 100 * presented)


@pytest.mark.parametrize("frames", [False, True])
def test_without_stopping_the_energy_is_that_of_all_layers(frames):
    m, prices = measurements(frames), Prices()
    stop = early_stop(m, 1.0)
    total = sum(layer.energy for layer in prices.layers(m))
    assert prices.stopped(m, stop.operations, stop.mean_steps) == pytest.approx(total)
