"""What Redis gets as a script: the library files that it uses, then its own code."""

import re
from importlib import resources

import pytest

from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import FORMATS, LIVE_BASE, LIVE_FIELDS, lua_values
from trackdesk_producer.contract.scripts import load_script
from trackdesk_worker.store.jobs import script


def enqueue() -> str:
    return load_script("trackdesk_producer.contract", "enqueue", allow_oom=False).source


def test_a_script_gets_the_library_files_it_uses_and_those_that_they_use() -> None:
    source = script("settle").source
    for name in ("to_terminal", "limbs", "close_books", "queue_turns", "parse_job", "file_dead"):
        assert source.count(f"local function {name}(") == 1


def test_a_library_file_comes_behind_those_that_it_uses() -> None:
    source = script("plan_step").source
    places = [
        source.index(f"local function {name}(") for name in ("key", "tombstone", "parse_job", "to_ready", "redrive")
    ]
    assert places == sorted(places)


def test_enqueue_does_not_carry_the_library_of_the_other_transitions() -> None:
    source = enqueue()
    for name in ("to_dead", "to_terminal", "leave", "expect", "note", "file_dead", "add_doubt"):
        assert f"local function {name}(" not in source


def test_a_script_gets_the_constants_that_it_names_and_no_others() -> None:
    source = script("settle").source
    assert "local CLIMB_MS = 300000\n" in source
    assert "local OUTAGE = 'outage'\n" in source
    assert "CLIMB_MS" not in enqueue()


def test_the_scripts_read_and_write_the_header_words_of_the_record() -> None:
    source = script("claim").source
    for name, (fields, base) in FORMATS.items():
        assert f"format == '{name}'" in source
        assert f"local {', '.join(fields[1:base])}, more, body = string.match(" in source
    assert " .. ' ' .. ".join(f"job.{name}" for name in LIVE_FIELDS[1:LIVE_BASE]) in source
    assert all(f"{name} = '^" in source for name in LIVE_FIELDS[LIVE_BASE:])


@pytest.mark.parametrize("name", ["claim", "settle", "prune", "reclaim", "inspect"])
def test_the_scripts_get_the_names_of_the_keys_and_no_table_of_them(name: str) -> None:
    source = script(name).source
    assert "NAMES" not in source
    assert set(re.findall(r"key\('([^']*)'", source)) <= set(NAMES.values())


def _defined(code: str) -> set[str]:
    """Return the names that a library file offers: its top-level functions and values."""
    names = set(re.findall(r"^local function (\w+)", code, re.MULTILINE))
    for several in re.findall(r"^local (\w+(?:, \w+)*) =", code, re.MULTILINE):
        names |= set(several.split(", "))
    return names


def _named(code: str) -> set[str]:
    """Return the names in `code` that are not its own: neither fields, nor words of a string or comment."""
    code = re.sub(r"@([a-z_]+)@", lambda found: lua_values()[found[1]], code)
    code = re.sub(r"--.*|'[^'\n]*'|\"[^\"\n]*\"", "", code)
    own = set(re.findall(r"\bfunction (\w+)", code))
    for several in re.findall(r"(?:local|for) (\w+(?:, \w+)*)|function \w*\(([\w, ]*)\)", code):
        own |= set("".join(several).split(", "))
    return set(re.findall(r"(?<![.\w])[A-Za-z_]\w*\b(?! = )", code)) - own


_CONTRACT = resources.files("trackdesk_producer.contract") / "lua"
_LIBRARY = {file.name.removesuffix(".lua"): file.read_text("utf-8") for file in (_CONTRACT / "lib").iterdir()}
_SCRIPTS = {
    file.name: file.read_text("utf-8")
    for folder in (_CONTRACT, _CONTRACT / "lib", resources.files("trackdesk_worker.store") / "lua")
    for file in folder.iterdir()
    if file.name.endswith(".lua") and file.name != "base.lua"
}


@pytest.mark.parametrize("file", _SCRIPTS)
def test_the_header_of_a_script_names_the_library_files_that_its_code_uses_and_no_others(file: str) -> None:
    code = _SCRIPTS[file]
    header = re.search(r"^-- uses: (.*)$", code, re.MULTILINE)
    listed = set(header[1].split(", ")) if header else set()
    named = _named(code)
    used = {name for name, library in _LIBRARY.items() if named & _defined(library)}
    assert used - {"base", file.removesuffix(".lua")} == listed
