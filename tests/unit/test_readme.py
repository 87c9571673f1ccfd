"""What the README says is what the code does."""

import re
from pathlib import Path

import pytest

from tests.support.settings_table import README, page
from trackdesk_worker.ops.cli import COMMANDS

ROOT = README.parent
PAGES = [ROOT / "README.md", ROOT / "producer/README.md", ROOT / "worker/README.md", *ROOT.glob("deploy/*.md")]


def test_the_table_of_settings_is_the_code_s() -> None:
    assert README.read_text("utf-8") == page(), "run python -m tests.support.settings_table"


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_a_page_names_exists(document: Path) -> None:
    text = document.read_text("utf-8")
    linked = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing = [link for link in linked if not (document.parent / link).exists()]
    named = re.findall(r"`(tests/[\w/.]+\.py)`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("document", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_a_page_shows_exists(document: Path) -> None:
    shown = set(re.findall(r"^\s*(?:\$ )?trackdesk ([a-z]+)", document.read_text("utf-8"), re.MULTILINE))
    assert shown <= set(COMMANDS), shown - set(COMMANDS)
