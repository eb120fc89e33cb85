"""Links of the Markdown pages lead somewhere."""

import re

import pytest

from tests.docs.pages import PAGES, ROOT, prose, read

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", read(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in kept}


def broken(page):
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_resolve(page):
    assert list(broken(page)) == []


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        links = (link.partition("#")[0] for link in LINK.findall(prose(page)))
        waiting += [page.parent / link for link in links if link and "://" not in link]
    assert {page for page in PAGES if ROOT / page not in reached} == set()


def test_a_broken_link_would_be_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    (tmp_path / "a.md").write_text(
        "# A b\n[x](#a-b) [y](#c) [z](b.md) [w](https://x) `[v](c.md)`\n"
    )
    assert list(broken("a.md")) == ["#c", "b.md"]
