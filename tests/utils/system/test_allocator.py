"""The allocator is tuned unless the user has set its variables."""

from __future__ import annotations

import ctypes
import os

import pytest

from utils.system.allocator import tune_allocator


class Library:
    def __init__(self) -> None:
        self.options: list[tuple[int, int]] = []

    def mallopt(self, option: int, value: int) -> None:
        self.options.append((option, value))


@pytest.fixture
def library(monkeypatch) -> Library:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "THP_"))]:
        monkeypatch.delenv(name)
    return library


def test_large_pages_and_freed_memory_are_kept(monkeypatch, library: Library) -> None:
    tune_allocator()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    assert library.options == [(-4, 0), (-1, 2**31 - 1)]


def test_settings_of_the_user_are_kept(monkeypatch, library: Library) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    tune_allocator()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0" and library.options == []


def test_a_library_without_mallopt_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "1")
    tune_allocator()
