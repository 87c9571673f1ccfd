"""`status`, `cancel`, `pause`, `resume` and `enqueue` as operators and scripts use them."""

import json
import subprocess
import sys

import pytest
import redis

from tests.support.acting import act_now
from tests.support.cli import Cli
from tests.support.reads import read_audit_log
from tests.support.shop import Shop, sale
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.domain.outcome import TenantEffectKind
from trackdesk_worker.local.embedded import EmbeddedServer, free_port

CID = "6f1c0a52-1111-4222-8333-444455556666"
STATES = ["ready", "scheduled", "in_flight", "dead", "delivered", "cancelled", "discarded"]


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    made = Cli(server.url, keys, monkeypatch, capsys)
    made.env(TENANT="acme")
    return made


def test_status_of_an_empty_store(cli: Cli) -> None:
    status = cli("status", "--json").json
    assert status["jobs"] == dict.fromkeys(STATES, 0) or set(status["jobs"]) == set(STATES)
    assert sum(status["jobs"].values()) == 0
    assert (status["money_at_risk"], status["oldest_ready_age_s"], status["oldest_overdue_s"]) == ({}, None, None)
    assert cli("status").code == 0


def test_status_counts_jobs_and_money_by_state(shop: Shop, cli: Cli) -> None:
    shop.deliver("o-1")
    shop.bury("o-2")
    shop.sell("o-3", amount={"value": "0.1"}, currency={"code": "USD"})
    shop.sell("o-4", tenant="bert")
    status = cli("status", "--json").json
    assert {name: n for name, n in status["jobs"].items() if n} == {"ready": 2, "dead": 1, "delivered": 1}
    assert status["money_at_risk"] == {"EUR": "201.00", "USD": "0.10"}
    assert status["money"]["delivered"] == {"EUR": "100.50"}
    assert 0 <= status["oldest_ready_age_s"] < 60
    assert [tenant["tenant"] for tenant in status["tenants"]] == ["acme", "bert"]
    assert status["books_balance"] is True
    assert "201.00 EUR + 0.10 USD" in cli("status").out
    shop.run(shop.jobs.prune(now_ms=9_999_999_999_999))
    assert cli("status", "--json").json["jobs"]["delivered"] == 1


def test_status_tells_what_is_overdue_who_works_and_who_stands_still(shop: Shop, cli: Cli) -> None:
    now = shop.time_ms()
    shop.sell("o-1", "o-2")
    held, *retried = shop.claim()
    shop.settle([held], Verb.RELEASE, "unauthorized", effect=TenantEffectKind.HOLD, effect_ms=60_000)
    shop.settle(retried, Verb.RETRY, "rate_limited", effect=TenantEffectKind.FREEZE, effect_ms=60_000)
    shop.client.hset(shop.keys.tenant("acme"), mapping={"frozen_until": now + 60_000, "frozen_reason": "rate_limited"})
    shop.client.zadd(shop.keys.scheduled, {job.id: now - 5000 for job in retried})
    shop.client.zadd(shop.keys.workers, {"host:1": now, "host:2": now - 60_000})
    shop.run(shop.jobs.pause("acme", operator="ann", reason="sale"))
    result = cli("status", "--json").json
    assert 5 <= result["oldest_overdue_s"] < 60
    assert {worker["worker"]: worker["running"] for worker in result["workers"]} == {"host:1": True, "host:2": False}
    assert [(s["kind"], s["reason"], s["by"]) for s in result["blocked"]] == [
        ("paused", "sale", "ann"),
        ("hold", "unauthorized", None),
        ("frozen", "rate_limited", None),
    ]
    assert "paused: sale" in cli("status").out


def test_work_that_waits_for_its_time_is_not_overdue(shop: Shop, cli: Cli) -> None:
    shop.sell("o-1")
    shop.settle(shop.claim(), Verb.RETRY, "server_error", delay_ms=86_400_000)
    shop.sell("o-2")
    shop.claim()
    assert cli("status", "--json").json["oldest_overdue_s"] is None


def test_show_finds_a_sale_of_whichever_tenant_has_it(shop: Shop, cli: Cli) -> None:
    cli.env(TENANT="")
    shop.sell("o-1", tenant="bert")
    shop.sell("o-2")
    shop.sell("o-2", tenant="bert")
    shown = cli("show", "o-1", "--json").json
    assert (shown["tenant"], shown["state"], shown["amount"], shown["currency"]) == ("bert", "ready", "100.50", "EUR")
    several = cli("show", "o-2")
    assert several.code == 1
    assert "--tenant with one of acme, bert" in several.err
    assert cli("show", "o-2", "--tenant", "acme").code == 0
    assert cli("show", "o-9").code == 1


@pytest.mark.parametrize("state", STATES)
def test_show_tells_a_sale_in_every_state(shop: Shop, cli: Cli, state: str) -> None:
    shop.sell("o-1", customerId="jane@example.com")
    match state:
        case "in_flight":
            shop.claim()
        case "scheduled":
            shop.settle(shop.claim(), Verb.RETRY, "server_error", delay_ms=86_400_000)
        case "dead" | "discarded":
            shop.settle(shop.claim(), Verb.BURY, "type_not_found")
        case "delivered":
            shop.settle(shop.claim(), Verb.DELIVER, "paired")
    if state == "discarded":
        act_now(shop, "discard", ["acme/o-1"])
    if state == "cancelled":
        shop.producer.cancel("o-1")
    assert cli("show", "o-1", "--json").json["state"] == state
    read = cli("show", "o-1")
    assert read.code == 0
    assert state.replace("_", " ") in read.out
    assert "jane" not in read.out


def test_a_sale_that_was_never_sent_is_cancelled_on_record(shop: Shop, cli: Cli) -> None:
    shop.sell("o-1", "o-2")
    assert cli("cancel", "o-1", "--json").json == {"external_id": "o-1", "status": "cancelled", "state": "cancelled"}
    assert shop.state("o-1") == "cancelled"
    (entry,) = read_audit_log(shop)
    assert (entry["kind"], entry["count"], entry["money"], entry["operator"]) == ("cancel", 1, {"EUR": "100.50"}, "ann")
    shop.claim()
    refused = cli("cancel", "o-2")
    assert (refused.code, refused.out) == (1, "")
    assert "Only a waiting sale that cannot have reached Trackdesk can be cancelled" in refused.err
    assert cli("cancel", "o-2", "--json").code == 1
    assert cli("cancel", "o-9").code == 1


def test_a_tenant_is_paused_and_resumed_on_record(shop: Shop, cli: Cli) -> None:
    shop.sell("o-1")
    assert cli("pause", "acme").code == 2
    assert cli("pause", "acme", "--reason", "wrong prices").out == "acme is paused\n"
    assert shop.claim() == []
    assert cli("pause", "acme", "--reason", "again", "--json").json == {"tenant": "acme", "changed": False}
    assert cli("resume", "acme").out == "acme is resumed\n"
    assert len(shop.claim()) == 1
    assert cli("resume", "acme").out == "acme was not blocked\n"
    assert [e["kind"] for e in read_audit_log(shop)] == ["pause", "resume"]
    assert cli("pause", "acmee", "--reason", "slip").code == 1


def test_enqueue_takes_options(shop: Shop, cli: Cli) -> None:
    options = ("enqueue", "--type", "sale", "--cid", CID, "--amount", "100.50", "--currency", "EUR")
    more = ("--customer-id", "c", "--adv-s1", "x", "--coupon-code", "A", "--coupon-code", "B")
    last = ("--revenue-origin-id", "r", "--qualified", "--external-id", "o-1", "--not-before", "2099-01-01T00:00:00Z")
    receipt = cli(*options, *more, *last, "--json").json
    assert (receipt["status"], receipt["state"], receipt["external_id_created"]) == ("accepted", "scheduled", False)
    shown = cli("show", "o-1", "--json", "--reveal").json["conversion"]
    assert (shown["couponCodes"], shown["qualified"], shown["customParams"]) == (["A", "B"], True, {"advS1": "x"})
    assert cli(*options, *more, *last).out.startswith("duplicate: o-1 of acme")


def test_enqueue_takes_json_on_stdin(shop: Shop, cli: Cli) -> None:
    body = json.dumps(sale("o-1", tenant="bert"))
    assert cli("enqueue", "-", "--json", stdin=body).json["tenant"] == "bert"
    assert cli("enqueue", "--json", stdin=body).json["status"] == "duplicate"
    conflict = cli("enqueue", stdin=json.dumps(sale("o-1", tenant="bert", amount={"value": "7"})))
    assert conflict.code == 1
    assert "not stored" in conflict.err


def test_enqueue_says_what_is_odd_on_stderr_and_keeps_stdout_for_programs(cli: Cli) -> None:
    result = cli("enqueue", "--type", "sale", "--cid", "abc", "--amount", "0", "--json")
    assert result.code == 0
    assert result.json["external_id_created"] is True
    assert "warning: amount.value is zero" in result.err


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("enqueue",), ""),
        (("enqueue",), "{"),
        (("enqueue",), "[]"),
        (("enqueue",), "x" * 70_000),
        (("enqueue",), '{"cid": "\\ud800", "conversionTypeCode": "sale"}'),
        (("enqueue", "-", "--type", "sale"), "{}"),
        (("enqueue", "--type", "sale"), None),
        (("enqueue", "--type", "sale", "--cid", CID, "--amount", "1,50"), None),
        (("enqueue", "--type", "sale", "--cid", CID, "--not-before", "soon"), None),
        (("enqueue", "--type", "sale", "--cid", CID, "--tenant", "a/b"), None),
        (("enqueue", "--type", "sale", "--cid", "{cid}"), None),
        (("show",), None),
        (("no-such-command",), None),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_2(cli: Cli, arguments: tuple[str, ...], stdin: str | None) -> None:
    wrong = cli(*arguments, stdin=stdin)
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)


COMMANDS = [
    ("status",),
    ("show", "o-1"),
    ("cancel", "o-1"),
    ("dead", "list"),
    ("dead", "causes"),
    ("dead", "export", "-"),
    ("redrive", "--all", "--reason", "x", "--yes"),
    ("discard", "--all", "--reason", "x", "--yes", "--count", "1"),
    ("pause", "acme", "--reason", "x"),
    ("resume", "acme"),
    ("restored", "--reason", "x", "--yes"),
    ("audit",),
    ("enqueue", "--type", "sale", "--cid", CID),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_is_away_is_one_sentence_and_exit_1(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    cli = Cli(f"redis://:secret@127.0.0.1:{free_port()}/0", keys, monkeypatch, capsys)
    cli.env(TENANT="acme")
    away = cli(*command)
    assert (away.code, away.out, away.err.count("\n")) == (1, "", 1)
    assert "secret" not in away.err


@pytest.mark.parametrize(
    "url", ["redis://:pass/word@host/0", "redis://host:port/0", "http://host", "redis://h:99999/0"]
)
def test_an_address_that_is_none_is_one_sentence_without_its_password(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    cli = Cli(url, keys, monkeypatch, capsys)
    for command in (("status",), ("enqueue", "--type", "sale", "--cid", CID, "--tenant", "acme")):
        wrong = cli(*command)
        assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
        assert "TRACKDESK_REDIS_URL" in wrong.err
        assert "word" not in wrong.err.replace("password", "")


@pytest.mark.system
def test_the_installed_command_pipes_json_and_exit_codes(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    listed = subprocess.run(
        [sys.executable, "-m", "trackdesk_worker", "dead", "list", "--json"],
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert json.loads(listed.stdout)[0]["external_id"] == "o-1"
    shop.client.zadd(shop.keys.dead, {"acme/ghost": 1})
    audited = subprocess.run(
        [sys.executable, "-m", "trackdesk_worker", "audit", "--json"], capture_output=True, check=False, timeout=30
    )
    assert (audited.returncode, audited.stderr) == (1, b"")
    assert json.loads(audited.stdout)["ok"] is False
