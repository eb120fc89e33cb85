import random

import numpy as np
import torch

from utils.system import random_state

CPU = torch.device("cpu")


def _draw():
    return random.random(), np.random.rand(), torch.rand(3).tolist()


def test_a_seed_fixes_all_generators():
    random_state.seed(5)
    first = _draw()
    random_state.seed(5)
    assert _draw() == first


def test_restoring_repeats_the_draws_also_through_a_file(tmp_path):
    random_state.seed(5)
    np.random.randn()  # leaves the second of a Gaussian pair behind
    random.gauss(0, 1)
    torch.save(random_state.capture(CPU), tmp_path / "s")
    first = _draw(), random.gauss(0, 1), np.random.randn()
    random_state.restore(torch.load(tmp_path / "s", weights_only=True), CPU)
    assert (_draw(), random.gauss(0, 1), np.random.randn()) == first


def test_any_seed_that_torch_takes_is_accepted():
    random_state.seed(2**33 + 1)
