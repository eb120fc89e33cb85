import sys

import pytest

from models import registry, user_networks


@pytest.fixture
def sandbox(monkeypatch, tmp_path):
    """Work in an empty folder; forget the networks that a test registers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(registry, "_BUILDERS", registry._BUILDERS.copy())
    monkeypatch.setattr(user_networks, "_imported", {})
    return tmp_path
