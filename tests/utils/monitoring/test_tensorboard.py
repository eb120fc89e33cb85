import argparse
import importlib.util
import sys

import pytest

from tests.full_disk import largest_file
from tests.utils.monitoring.scalars import read_curves
from utils.monitoring.tensorboard import TensorBoard, tensorboard_folder
from utils.system.errors import UserError

EXTRAS = "requirements-extras.txt is not installed"


@pytest.fixture
def curves(tmp_path):
    """The curves of a run that has begun."""
    pytest.importorskip("tensorboard", reason=EXTRAS)
    curves = TensorBoard(tmp_path / "digits" / "net")
    curves.make_parent()
    assert curves.start(0, continues=False)
    return curves


def test_the_step_of_a_value_is_its_epoch(curves):
    for epoch in (1, 2, 3):
        curves.add(epoch, {"loss/train": 1 / epoch, "speed": float(epoch)})
    assert read_curves(curves.folder) == {
        "loss/train": [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))],
        "speed": [(1, 1.0), (2, 2.0), (3, 3.0)],
    }


def test_a_run_that_continues_hides_later_epochs_of_an_earlier_start(curves):
    for epoch in (1, 2, 3):
        curves.add(epoch, {"loss": 1.0})
    again = TensorBoard(curves.folder)
    assert not again.start(1, continues=True)
    again.add(2, {"loss": 2.0})
    assert read_curves(curves.folder) == {"loss": [(1, 1.0), (2, 2.0)]}


def test_another_run_of_the_name_keeps_the_earlier_curves_aside(curves):
    for k in range(2):
        curves.add(1, {"loss": float(k)})
        assert curves.start(0, continues=False)
    names = ["net", "net.old-1", "net.old-2"]
    assert sorted(path.name for path in curves.folder.parent.iterdir()) == names
    aside = [read_curves(curves.folder.with_name(name)) for name in names[1:]]
    assert aside == [{"loss": [(1, 0.0)]}, {"loss": [(1, 1.0)]}]


def test_a_full_disk_leaves_what_can_be_read_and_added_to(curves):
    curves.add(1, {"loss": 1.0})
    size = curves.path.stat().st_size
    with largest_file(size + 10), pytest.raises(UserError, match="--tensorboard"):
        curves.add(2, {"loss": 2.0})
    assert curves.path.stat().st_size == size
    curves.add(3, {"loss": 3.0})
    assert read_curves(curves.folder) == {"loss": [(1, 1.0), (3, 3.0)]}


def test_a_record_cut_by_a_kill_hides_no_later_start(curves):
    curves.add(1, {"loss": 1.0})
    curves.add(2, {"loss": 2.0})
    with curves.path.open("ab") as file:
        file.truncate(file.tell() - 5)
    curves.start(1, continues=True)
    curves.add(2, {"loss": 4.0})
    assert read_curves(curves.folder) == {"loss": [(1, 1.0), (2, 4.0)]}


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/digits/net.*--tensorboard"):
        TensorBoard(tmp_path / "file" / "digits" / "net").make_parent()


def test_without_the_package_the_flag_names_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(argparse.ArgumentTypeError, match="pip install tensorboard"):
        tensorboard_folder("runs")


def test_a_package_that_does_not_load_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        TensorBoard(tmp_path / "net").start(0, continues=False)
