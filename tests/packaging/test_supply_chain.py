"""What the product is made of is known and allowed, and what CI runs on GitHub is pinned."""

import json
import re
from pathlib import Path

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support.tools import ROOT, run, tool
from tests.tools.supply_chain import is_allowed, locked, refused, sbom

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_every_locked_package_has_an_allowed_licence() -> None:
    assert refused() == []


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [("MIT", True), ("Apache-2.0 AND MIT", True), ("MIT AND GPL-3.0-only", False), ("GPL-3.0-only OR MIT", True)],
)
def test_a_licence_is_allowed_if_all_of_one_choice_are(expression: str, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


def test_the_bill_of_materials_is_valid_and_whole() -> None:
    text = sbom()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {(one["name"], one["version"]): one for one in json.loads(text)["components"]}
    entries = list(locked())
    assert len(components) == len(entries) > 40
    for entry in entries:
        assert len(components[entry.name, entry.version]["hashes"]) == len(entry.hashes) > 0
    assert "://" not in text.replace('"$schema": "http://cyclonedx.org', "")


def test_the_workflows_are_what_github_understands() -> None:
    checker = tool("check-jsonschema", "PyPI: check-jsonschema")
    done = run(checker, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    assert done.returncode == 0, done.stdout
    done = run(checker, "--builtin-schema", "vendor.dependabot", ROOT / ".github/dependabot.yml")
    assert done.returncode == 0, done.stdout


def test_the_workflows_have_no_known_weakness() -> None:
    done = run(tool("zizmor", "PyPI: zizmor"), "--offline", "--no-progress", ".github")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_and_nothing_is_permitted_by_default(file: Path) -> None:
    text = file.read_text("utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v?\d+\.\d+\.\d+", comment), action
    assert yaml.safe_load(text)["permissions"] == {}


def test_every_make_target_of_a_workflow_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    called = {name for file in WORKFLOWS for line in re.findall(r"run: make (.*)", file.read_text("utf-8"))
              for name in line.split()}  # fmt: skip
    assert called
    assert called <= targets
