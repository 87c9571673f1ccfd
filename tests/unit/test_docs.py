"""What the documents say is what the code does. `make docs` checks their links."""

import re
from pathlib import Path

import pytest

import trackdesk_producer
from docs.generate import PAGES as GENERATED
from docs.generate import REFERENCE, outdated
from trackdesk_worker.cli import COMMANDS

ROOT = Path(__file__).parents[2]
OUTSIDE = [*ROOT.glob("*.md"), ROOT / "producer/README.md", ROOT / "worker/README.md"]
PAGES = [*OUTSIDE, *(page for page in sorted((ROOT / "docs").rglob("*.md")))]
HISTORY = ROOT / "CHANGELOG.md"
"""Names what is gone, rightly."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_generated_pages_are_current() -> None:
    assert outdated() == [], "run make reference"


def test_no_generated_page_is_left_over() -> None:
    written_by_hand = {"python-api.md"}
    assert {page.name for page in REFERENCE.iterdir()} == GENERATED.keys() | written_by_hand


def test_the_python_api_has_everything_that_is_exported() -> None:
    text = (REFERENCE / "python-api.md").read_text("utf-8")
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(trackdesk_producer.__all__)


@each_page
def test_every_file_a_page_names_exists(page: Path) -> None:
    text = prose(page)
    if page in OUTSIDE:  # the others' links are for Sphinx, which knows anchors too
        linked = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
        assert [link for link in linked if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:producer|worker|tests|deploy|docs)/[\w./-]+)`", text)
    assert page == HISTORY or [name for name in named if not (ROOT / name).exists()] == []


@each_page
def test_a_page_has_no_mark_of_an_unfinished_merge(page: Path) -> None:
    assert not re.search(r"^(<<<<<<<|>>>>>>>) ", page.read_text("utf-8"), re.MULTILINE)


@each_page
def test_every_command_a_page_shows_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    shown = set(re.findall(r"(?:^|`)\s*(?:\$ )?trackdesk ([a-z]+)", text, re.MULTILINE))
    assert page == HISTORY or shown <= set(COMMANDS), shown - set(COMMANDS)


@each_page
def test_every_make_target_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE))
    assert page == HISTORY or named <= targets, named - targets


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert re.search(r"^make demo\b", text, re.MULTILINE)
    assert re.search(r"^make test\b", text, re.MULTILINE)
