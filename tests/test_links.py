"""Every relative link of a page leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("autotune", "bench", "kernels", "model", "reports", "tests")
FOUND = (*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")))
PAGES = sorted(path.relative_to(ROOT) for path in FOUND if "templates" not in path.parts)


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """What its headings are called in links, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> Iterator[str]:
    """Links of a page that lead nowhere in the repository."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        to = page.parent / path if path else page
        if not to.exists() or (anchor and anchor not in anchors(to.read_text(encoding="utf-8"))):
            yield link


def test_every_guide_is_read():
    guides = ("README.md", "autotune/README.md", "model/README.md", "bench/README.md", "reports/results/README.md")
    assert {Path(name) for name in guides} <= {*PAGES}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    assert list(broken(ROOT / page)) == []


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "there.md").write_text("# Is it fast?\n```\n# not a heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](there.md#is-it-fast) [b](https://example.org) [c](gone.md) [d](there.md#is-it-slow)\n"
        "[e](there.md#not-a-heading)\n```\n[f](gone.md)\n```\n"
    )
    assert list(broken(page)) == ["gone.md", "there.md#is-it-slow", "there.md#not-a-heading"]
