"""Links, commands, targets and files that README and the pages name exist."""

import argparse
import re
from pathlib import Path

import pytest

from kerfctl.main import VERBS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub derives them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    def resolves(target: str, anchor: str) -> bool:
        path = page.parent / target if target else page
        return path.exists() and (not anchor or anchor in anchors(path))

    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", page.read_text())

    assert [link for link in links if not resolves(*link)] == []


@each_page
def test_every_verb_and_target_that_is_named_exists(page: Path) -> None:
    verbs = argparse.ArgumentParser().add_subparsers()
    for module in VERBS:
        module.add_parser(verbs)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"(?:`|^|[&;] )kerf ([a-z]+)\b", page.read_text(), re.MULTILINE)) <= set(verbs.choices)
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)\b", page.read_text(), re.MULTILINE)) <= targets


@each_page
def test_every_path_that_is_named_exists(page: Path) -> None:
    tops = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    named = re.findall(rf"`((?:{tops})(?:/[\w.*-]+)*/?)[` ]", page.read_text())

    assert [path for path in named if not list(ROOT.glob(path.rstrip("/")))] == []


def test_every_decision_has_a_number_of_its_own_and_bears_it_in_its_title() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]

    assert [number for number in numbers if numbers.count(number) > 1] == []
    assert [path.name for path in records if not path.read_text().startswith(f"# {int(path.name[:4])}. ")] == []


@pytest.mark.parametrize("path", sorted((ROOT / "changelog.d").glob("*.md")), ids=lambda path: path.name)
def test_a_change_is_one_sentence(path: Path) -> None:
    assert re.findall(r"[.!?]\s+(?=[A-Z`])", path.read_text()) == []
    assert path.read_text().rstrip().endswith(".")
