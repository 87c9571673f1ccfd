"""Whether a tag may be released: ``python -m tests.tools.release v1.2.3`` prints its part of the changelog.

Exits 1 with one sentence when the tag, the distributions and the changelog do not have one version.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


class NotReleasable(Exception):
    """The tag does not fit the tree."""


def notes(tag: str, *, root: Path = ROOT) -> str:
    """Return the changelog's section of a tag.

    Raises:
        NotReleasable: versions differ, or the changelog has no entry.
    """
    files = (root / folder / "pyproject.toml" for folder in ("producer", "worker", "worker/trackdesk_simulator"))
    projects = [tomllib.loads(file.read_text("utf-8"))["project"] for file in files if file.exists()]
    version = tag.removeprefix("v")
    for project in projects:
        if project["version"] != version:
            raise NotReleasable(f"{project['name']} has version {project['version']}, the tag is {tag}")
        extras = project.get("optional-dependencies", {}).values()
        for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
            if line.startswith("trackdesk-") and not line.endswith(f"=={version}"):
                raise NotReleasable(f"{project['name']} requires {line}, the tag is {tag}")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    entry = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if entry is None:
        raise NotReleasable(f"CHANGELOG.md has no section [{version}] with a date")
    return entry[1].strip() + "\n"


def main(arguments: list[str]) -> int:
    """Print the notes, or say why there is nothing to release."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tests.tools.release TAG\n")
        return 2
    try:
        sys.stdout.write(notes(arguments[0]))
    except NotReleasable as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
