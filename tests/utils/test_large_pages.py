"""Large pages are asked for, and a user's own choice is left alone."""

from __future__ import annotations

import os

from utils.large_pages import use_large_pages


def test_a_choice_of_the_user_stays(monkeypatch) -> None:
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    use_large_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "1"
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_large_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
