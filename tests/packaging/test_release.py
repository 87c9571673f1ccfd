"""A tag is released only if it, the distributions and the changelog have one version."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tests.tools.release import ROOT, NotReleasable, notes

VERSION = tomllib.loads((ROOT / "producer/pyproject.toml").read_text("utf-8"))["project"]["version"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("CHANGELOG.md", "producer/pyproject.toml", "worker/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_present_version_has_its_section_in_the_changelog(tree: Path) -> None:
    assert "### Added" in notes(f"v{VERSION}", root=tree)


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        (
            "producer/pyproject.toml",
            f'version = "{VERSION}"',
            'version = "9.9.9"',
            "trackdesk-producer has version 9.9.9",
        ),
        ("worker/pyproject.toml", f'version = "{VERSION}"', 'version = "9.9.9"', "trackdesk-worker has version 9.9.9"),
        (
            "worker/pyproject.toml",
            f"trackdesk-producer=={VERSION}",
            "trackdesk-producer>=0",
            "requires trackdesk-producer>=0",
        ),
        ("CHANGELOG.md", f"## [{VERSION}]", "## [next]", "no section"),
    ],
)
def test_a_tag_that_does_not_fit_is_refused(tree: Path, file: str, old: str, new: str, why: str) -> None:
    text = (tree / file).read_text("utf-8")
    assert old in text
    (tree / file).write_text(text.replace(old, new), "utf-8")
    with pytest.raises(NotReleasable, match=why):
        notes(f"v{VERSION}", root=tree)
