"""The project's Markdown pages, and what the tests read in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page.relative_to(ROOT)
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md")]
)


def read(page: Path | str) -> str:
    return (ROOT / page).read_text()


def code_blocks(page: Path | str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def prose(page: Path | str) -> str:
    """Return the text without its fenced blocks and inline code."""
    text = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def tables(page: Path | str) -> list[list[list[str]]]:
    """Return each table as rows of cells, its header first and without the line below it."""
    found = re.findall(r"(?:^\|.*\|\n)+", read(page), re.MULTILINE)
    return [[_cells(line) for line in table.splitlines() if "|---" not in line] for table in found]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]
