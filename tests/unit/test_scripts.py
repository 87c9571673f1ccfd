"""What Redis gets as a script: the shared prelude, as far as the script uses it."""

from trackdesk_producer.contract.scripts import load_script
from trackdesk_worker.store.jobs import script


def test_a_script_gets_what_it_uses_and_what_that_uses() -> None:
    source = script("settle").source
    needed = ("to_terminal", "limbs", "close_books", "queue_turns", "WAKEUPS_WANTED", "NOW_US", "parse_job")
    for name in needed:
        assert source.count(name) >= 2, f"{name} is used, so it must be defined"


def test_and_nothing_else() -> None:
    source = load_script("trackdesk_producer.contract", "enqueue", allow_oom=False).source
    for name in ("to_dead", "to_terminal", "leave", "expect", "note", "HISTORY_KEPT", "in_flight", "--"):
        assert f"{name}(" not in source
        assert f"local {name}" not in source
        assert f"{name} = '" not in source


def test_no_script_builds_a_table_of_the_keys_names() -> None:
    for name in ("claim", "settle", "prune", "reclaim"):
        source = script(name).source
        assert "NAMES" not in source
        assert "key('job:', id)" in source
