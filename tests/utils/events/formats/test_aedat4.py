import sys

import numpy as np
import pytest

from tests.utils.events.formats.aedat4_bytes import aedat4_bytes
from tests.utils.events.recordings import make_events
from utils.events.formats.reader import read_events
from utils.system.errors import UserError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.aedat"  # not .aedat4: the header decides


@pytest.fixture
def reader():
    pytest.importorskip("aedat", reason="aedat is not installed (pip install aedat)")


def content(events, **kwargs):
    return aedat4_bytes(events.t, events.x, events.y, events.p, **kwargs)


def test_events_are_read_as_stored(path, reader):
    events = make_events()
    path.write_bytes(content(events))
    read = read_events(path)
    for field in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(read, field), getattr(events, field))
    assert read.source == str(path)


def test_a_truncated_file_is_named(path, reader):
    path.write_bytes(content(make_events())[:-100])
    with pytest.raises(UserError, match="recording.aedat: damaged AEDAT 4"):
        read_events(path)


def test_a_file_without_events_is_named(path, reader):
    path.write_bytes(aedat4_bytes([], [], [], []))
    with pytest.raises(UserError, match="recording.aedat: no events"):
        read_events(path)


def test_a_larger_sensor_is_refused(path, reader):
    events = make_events()
    path.write_bytes(aedat4_bytes(events.t, events.x + 200.0, events.y, events.p, size=346))
    with pytest.raises(UserError, match="recording.aedat: a sensor larger than 128x128"):
        read_events(path)


def test_a_missing_package_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "aedat", None)
    path.write_bytes(content(make_events()))
    with pytest.raises(UserError, match="recording.aedat.*pip install aedat"):
        read_events(path)
