import math

import pytest

from utils.runs.curves import save_curves

ROW = [0.1, 2.0, 2.1, 10.0, 11.0]


@pytest.mark.parametrize("epochs", [1, 5, 200])
def test_draws_a_pdf_that_depends_on_the_rows_alone(tmp_path, epochs):
    paths = tmp_path / "a.pdf", tmp_path / "b.pdf"
    for path in paths:
        save_curves(path, [ROW] * epochs, "net.lif on digits")
    first, second = (path.read_bytes() for path in paths)
    assert first.startswith(b"%PDF")
    assert first == second


def test_a_test_loss_that_is_not_finite_is_left_out(tmp_path):
    save_curves(tmp_path / "a.pdf", [ROW, [0.1, 2.0, math.nan, 10.0, 11.0]], "net.lif")
    assert (tmp_path / "a.pdf").exists()
