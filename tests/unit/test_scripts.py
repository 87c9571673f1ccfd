"""What Redis gets as a script: the library files that it uses, then its own code."""

import re

import pytest

from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import FORMATS, LIVE_BASE, LIVE_FIELDS
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
