"""`audit` as scripts and operators use it."""

import pytest
import redis

from tests.support.cli import Cli
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server.url, keys, monkeypatch, capsys)


def test_a_sound_store_ends_with_exit_0(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    result = cli("audit", "--json")
    assert (result.code, result.json["ok"], result.json["discrepancies"], result.json["records"]) == (0, True, [], 1)
    assert "everything agrees: 1 records, 1 accepted (100.50 EUR)" in cli("audit").out


def test_a_damaged_store_ends_with_exit_1_and_the_damage_by_name(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    shop.client.delete(shop.keys.job("acme/o-1"))
    result = cli("audit", "--json")
    assert result.code == 1
    assert {"kind": "record_missing", "job_id": "acme/o-1"}.items() <= result.json["discrepancies"][0].items()
    read = cli("audit")
    assert read.code == 1
    assert "record missing" in read.out


STRANGE = (
    *(b"{no json", b"[1,2]", b'"\xff"', b"[" * 100_000, b"{}", b'{"at_ms":"soon","jobs":5,"count":null}'),
    *(b'{"at_ms":1e300}', b'{"at_ms":99999999999999999}', b'{"at_ms":-99999999999999999}', b'{"at_ms":true}'),
)


def test_the_log_shows_entries_that_something_else_wrote_and_those_beside_them(shop: Shop, cli: Cli) -> None:
    assert cli("pause", "acme", "--reason", "wrong prices").code == 1, "the tenant is unknown"
    shop.sell("o-1")
    assert cli("pause", "acme", "--reason", "wrong prices").code == 0
    shop.client.rpush(shop.keys.audit_log, *STRANGE)
    shown = cli("log")
    assert (shown.code, shown.err) == (0, "")
    assert "wrong prices" in shown.out
    assert len(cli("log", "--json").json) == len(STRANGE) + 1
    assert cli("log", "--verify").code == 1
    assert cli("audit").code == 1


def test_the_audit_names_a_key_of_things_set_aside_that_holds_something_else(shop: Shop, cli: Cli) -> None:
    shop.client.set(shop.keys.audit_log_unreadable, "no list")
    shop.client.set(shop.keys.plans_unreadable, "no set")
    report = cli("audit", "--json")
    assert report.code == 1
    named = " ".join(found["detail"] for found in report.json["discrepancies"])
    assert shop.keys.audit_log_unreadable in named
    assert shop.keys.plans_unreadable in named


def test_a_plan_that_cannot_be_read_is_one_sentence_that_says_where_it_is(shop: Shop, cli: Cli) -> None:
    shop.client.set(shop.keys.plan("plan-x"), "no hash")
    shop.client.zadd(shop.keys.plans, {"plan-x": 1})
    for command in (("show",), ("show", "--follow"), ("start", "--yes"), ("cancel", "--reason", "x")):
        refused = cli("plan", command[0], "plan-x", *command[1:])
        assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
        assert "trackdesk audit" in refused.err
    assert cli("plan", "list").code == 0
