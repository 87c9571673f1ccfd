"""`dead`, `redrive` and `discard` as operators and scripts use them."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.cli import Cli
from tests.support.reads import read_audit_log
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.cli import output
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops import plans

PERSONAL: dict[str, Any] = {"customerId": "jane@example.com", "customParams": {"advS1": "Jane Doe"}}


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server.url, keys, monkeypatch, capsys)


def test_dead_list_prints_an_array_of_objects_for_programs(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", **PERSONAL)
    (dead,) = cli("dead", "list", "--json").json
    assert dead["died_at"].endswith("Z")
    assert {name: dead[name] for name in ("tenant", "external_id", "reason", "attempts", "amount", "currency")} == {
        "tenant": "acme",
        "external_id": "o-1",
        "reason": "type_not_found",
        "attempts": 1,
        "amount": "100.50",
        "currency": "EUR",
    }
    assert cli("dead", "list", "--json", "--reason", "nothing_such").json == []
    assert cli("dead", "list", "--older-than", "1h", "--json").json == []
    assert len(cli("dead", "list", "--newer-than", "1h", "--json").json) == 1


def test_the_default_tenant_narrows_lists_and_acts(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    shop.bury("o-2", tenant="bert")
    assert len(cli("dead", "list", "--json").json) == 2
    cli.env(TENANT="bert")
    assert [dead["external_id"] for dead in cli("dead", "list", "--json").json] == ["o-2"]
    assert cli("redrive", "--all", "--reason", "x", "--yes", "--json").json["redriven"] == 1
    assert [dead["tenant"] for dead in cli("dead", "list", "--tenant", "acme", "--json").json] == ["acme"]


def test_dead_list_pages_by_a_cursor_it_tells_on_stderr(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2", "o-3")
    first = cli("dead", "list", "--limit", "2")
    assert "o-3" in first.out
    assert "o-1" not in first.out
    cursor = first.err.split()[-1]
    assert [dead["external_id"] for dead in cli("dead", "list", "--after", cursor, "--json").json] == ["o-1"]


def test_markup_in_what_comes_from_outside_is_printed_as_it_is(shop: Shop, cli: Cli) -> None:
    shop.bury("[bold]o-1[/bold]")
    assert "[bold]o-1[/bold]" in cli("dead", "list").out
    assert "[bold]o-1[/bold]" in cli("dead", "show", "[bold]o-1[/bold]").out


def test_dead_show_tells_attempts_answers_and_what_to_do_and_masks_personal_data(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", **PERSONAL)
    shown = cli("dead", "show", "o-1")
    assert shown.code == 0
    assert "Create the conversion type in Trackdesk" in shown.out
    assert "400" in shown.out
    for secret in ("jane@example.com", "Jane Doe"):
        assert secret not in shown.out
        assert secret not in cli("show", "o-1", "--json").out
    assert read_audit_log(shop) == []


def test_personal_data_is_revealed_on_record(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", **PERSONAL)
    revealed = cli("show", "o-1", "--reveal", "--json")
    assert revealed.json["conversion"]["customerId"] == "jane@example.com"
    (entry,) = read_audit_log(shop)
    assert (entry["kind"], entry["operator"], entry["jobs"]) == (
        "reveal",
        "ann",
        [{"tenant": "acme", "external_id": "o-1"}],
    )


def test_dead_show_of_a_job_that_is_not_dead_says_so(shop: Shop, cli: Cli) -> None:
    shop.sell("o-1")
    assert (cli("dead", "show", "o-1").code, cli("dead", "show", "o-2").code) == (1, 1)
    assert "never accepted" in cli("dead", "show", "o-2").err


def test_clusters_are_counted_with_their_remedy(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    (cause,) = cli("dead", "causes", "--json").json
    assert (cause["jobs"], cause["money"], cause["reason"]) == (2, {"EUR": "201.00"}, "type_not_found")
    assert "redrive" in cause["remedy"]
    assert "201.00 EUR" in cli("dead", "causes").out


def test_an_export_holds_what_an_import_needs_and_is_on_record(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    shop.bury("o-1", "o-2", **PERSONAL)
    file = tmp_path / "dead.jsonl"
    assert cli("dead", "export", str(file)).code == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["externalId"] for line in lines] == ["o-1", "o-2"]
    assert (lines[0]["tenant"], lines[0]["reason"]) == ("acme", "type_not_found")
    assert file.stat().st_mode & 0o777 == 0o600
    assert cli("dead", "export", str(file)).code == 2
    assert cli("dead", "export", str(file), "--force").code == 0
    assert cli("dead", "export", str(tmp_path / "no" / "such")).code == 1
    assert read_audit_log(shop)[1]["count"] == 2
    # In another deployment the same lines are sales again.
    cli.env(NAMESPACE="elsewhere-" + shop.keys.namespace)
    assert cli("import", str(file), "--json").json["accepted"] == 2


def test_a_dry_run_counts_and_changes_nothing(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    counted = cli("redrive", "--all", "--dry-run", "--json").json
    assert (counted["jobs"], counted["money"], counted["by_reason"]) == (2, {"EUR": "201.00"}, {"type_not_found": 2})
    assert counted["seconds_at_budget"] == 0.4
    assert shop.state("o-1") == "dead"
    assert read_audit_log(shop) == []


def test_redrive_all_needs_a_reason_and_an_answer(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    assert "--reason" in cli("redrive", "--all", "--yes").err
    assert cli("redrive", "--all", "--yes").code == 2
    unasked = cli("redrive", "--all", "--reason", "type created")
    assert unasked.code == 2
    assert "--yes" in unasked.err
    done = cli("redrive", "--all", "--reason", "type created", "--yes", "--json")
    assert (done.code, done.json["redriven"], done.json["verdicts"]) == (0, 2, {"redriven": 2})
    assert cli("redrive", "--all", "--reason", "again", "--yes", "--json").json["redriven"] == 0


def test_redrive_by_name_tells_which_jobs_were_left_alone(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    shop.deliver("o-2")
    cli.env(TENANT="acme")
    done = cli("redrive", "o-1", "o-2", "o-3", "--yes")
    assert done.code == 1
    assert "1 redriven, 100.50 EUR" in done.out
    assert "'o-2' was skipped: it is delivered" in done.err
    assert "'o-3' was skipped: it is unknown" in done.err


def test_redrive_narrows_by_cause_and_limit(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    shop.bury("o-3", reason="server_error")
    options = ("--reason", "fixed", "--yes", "--json")
    assert cli("redrive", "--all", "--cause", "server_error", *options).json["redriven"] == 1
    assert shop.state("o-3") == "ready"
    assert cli("redrive", "--all", "--limit", "1", *options).json["redriven"] == 1
    assert [shop.state("o-1"), shop.state("o-2")] == ["ready", "dead"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive", "--yes"),
        ("redrive", "o-1", "--all", "--reason", "x", "--yes"),
        ("redrive", "o-1", "--cause", "x", "--yes"),
        ("redrive", "--all", "--older-than", "soon", "--dry-run"),
        ("redrive", "--all", "--external-id", "", "--dry-run"),
        ("redrive", "--all", "--min-amount", "ten", "--dry-run"),
        ("redrive", "--all", "--tenant", "Not A Tenant", "--dry-run"),
        ("redrive", "--all", "--reason", "x\ny", "--yes"),
        ("discard", "o-1", "--yes"),
        ("dead", "list", "--limit", "0"),
        ("dead", "list", "--after", "nonsense"),
        ("dead", "show"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    wrong = cli(*arguments)
    assert wrong.code == 2
    assert wrong.out == ""
    assert wrong.err.count("\n") == 1


def test_discard_needs_a_reason_and_the_right_count(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    options = ("discard", "--all", "--reason", "test sales", "--yes", "--json")
    assert cli(*options).code == 2
    wrong = cli(*options, "--count", "3")
    assert (wrong.code, wrong.out) == (1, "")
    assert "nothing was changed" in wrong.err
    assert shop.state("o-1") == "dead"
    done = cli(*options, "--count", "2")
    assert (done.code, done.json["discarded"]) == (0, 2)
    assert shop.state("o-1") == "discarded"


def test_on_a_terminal_discard_wants_the_number_typed(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.bury("o-1", "o-2")
    monkeypatch.setattr(output, "_needs_terminal", lambda flags: None)
    assert cli("discard", "--all", "--reason", "test", stdin="y\n").code == 1
    assert shop.state("o-1") == "dead"
    assert cli("discard", "--all", "--reason", "test", stdin="2\n").code == 0
    assert shop.state("o-1") == "discarded"


def test_dead_list_takes_every_filter_and_sorts(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", amount={"value": "5"}, cid="click-1")
    shop.bury("o-2", amount={"value": "70"}, reason="server_error", **PERSONAL)
    shop.bury("o-3", amount={"value": "20"}, currency={"code": "USD"})

    def names(*options: str) -> list[str]:
        return [dead["external_id"] for dead in cli("dead", "list", "--json", *options).json]

    assert names("--sort", "largest") == ["o-2", "o-3", "o-1"]
    assert names("--min-amount", "20", "--sort", "smallest") == ["o-3", "o-2"]
    assert names("--max-amount", "5") == ["o-1"]
    assert names("--cid", "click-1") == ["o-1"]
    assert names("--customer-id", "jane@example.com") == ["o-2"]
    assert names("--currency", "usd") == ["o-3"]
    assert names("--status", "400", "--external-id", "o-2") == ["o-2"]
    assert names("--status", "503") == []
    assert cli("dead", "causes", "--json", "--min-amount", "20").json[0]["jobs"] == 1
    assert cli("redrive", "--all", "--customer-id", "jane@example.com", "--dry-run", "--json").json["jobs"] == 1
    assert names("--state", "ready") == []
    shop.sell("o-4")
    ready = cli("dead", "list", "--state", "ready", "--json").json
    assert [(sale["external_id"], sale["state"]) for sale in ready] == [("o-4", "ready")]
    assert "o-4" in cli("dead", "list", "--state", "any").out
    assert cli("dead", "list", "--min-amount", "1,5").code == 2
    assert cli("dead", "list", "--state", "ready", "--sort", "largest").code == 2


def test_exports_as_a_table_and_for_trackdesks_own_import(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    shop.bury("=cmd|' /C calc'!A0", amount={"value": "0.50"}, **PERSONAL)
    shop.bury("-7", createdAt="2026-01-31T18:30:00Z")
    table, own = tmp_path / "dead.csv", tmp_path / "own.csv"
    assert cli("dead", "export", str(table), "--format", "csv").code == 0
    assert cli("dead", "export", str(own), "--format", "trackdesk").code == 0
    rows = list(csv.DictReader(table.open(newline="")))
    assert [row["externalId"] for row in rows] == ["'=cmd|' /C calc'!A0", "-7"]
    assert (rows[0]["amount.value"], rows[0]["customParams.advS1"], rows[0]["tenant"]) == ("0.50", "Jane Doe", "acme")
    columns, first, second = csv.reader(own.open(newline=""))
    assert columns == ["externalId", "amount", "currency", "createdAt"]
    assert first[:3] == ["'=cmd|' /C calc'!A0", "0.50", "EUR"]
    assert second == ["-7", "100.50", "EUR", "2026-01-31T18:30:00Z"]
    assert [entry.get("format") for entry in read_audit_log(shop)] == ["csv"] * 2 + ["trackdesk"] * 2
    cli.env(NAMESPACE="table-" + shop.keys.namespace)
    assert cli("import", str(table), "--json").json["accepted"] == 2


def test_dead_edit_shows_the_difference_and_redrives(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1")
    change = ("dead", "edit", "o-1", "--set", "conversionTypeCode=purchase", "--unset", "currency", "--unset", "amount")
    assert cli(*change, "--yes").code == 2, "needs a reason"
    asked = cli(*change, "--reason", "wrong code")
    assert (asked.code, "--yes" in asked.err, shop.state("o-1")) == (2, True, "dead")
    assert "purchase" in asked.out
    done = cli(*change, "--reason", "wrong code", "--yes", "--json").json
    assert {"field": "conversionTypeCode", "before": "sale", "after": "purchase"} in done["changes"]
    assert shop.state("o-1") == "ready"
    assert "edit by ann" in cli("show", "o-1").out
    assert cli(*change, "--reason", "again", "--yes").code == 1
    shop.bury("o-2")
    refused = cli("dead", "edit", "o-2", "--set", "amount=1,5", "--reason", "x", "--yes")
    assert (refused.code, "amount" in refused.err) == (2, True)
    for wrong in (("--set", "amount"), ()):
        assert cli("dead", "edit", "o-2", *wrong, "--reason", "x", "--yes").code == 2


def test_a_plan_is_made_looked_at_started_paused_resumed_and_cancelled(shop: Shop, cli: Cli) -> None:
    cli.env(RATE_LIMIT="1")
    shop.bury(*[f"o-{n:02}" for n in range(60)])
    made = cli("plan", "create", "redrive", "--cause", "type_not_found", "--name", "INC-7", "--reason", "x", "--json")
    plan = made.json["plan"]
    assert (made.json["state"], made.json["jobs"], made.json["name"]) == ("ready", 60, "INC-7")
    assert cli("plan", "start", plan).code == 2, "nobody can be asked"
    assert cli("plan", "start", plan, "--yes", "--json").json["state"] == "running"
    assert cli("plan", "pause", plan).out == f"{plan} is paused: 0 done, 60 left\n"
    followed = cli("plan", "show", plan, "--follow")
    assert (followed.code, "the plan is paused" in followed.err) == (1, True)
    assert cli("plan", "resume", plan, "--json").json["state"] == "running"
    assert cli("plan", "cancel", plan, "--reason", "enough", "--json").json["verdicts"] == {"cancelled": 60}
    assert cli("plan", "cancel", plan).code == 1
    shown = cli("plan", "show", plan, "--jobs", "--limit", "2", "--json").json
    assert [item["verdict"] for item in shown["items"]] == ["cancelled"] * 2
    assert "INC-7" in cli("plan", "show", plan, "--jobs").out
    assert "INC-7" in cli("plan", "list").out
    assert cli("plan", "show", "plan-none").code == 1
    words = [entry["phase"] for entry in cli("log", "--json").json]
    assert words == ["cancelled", "resumed", "paused", "started", "created"]


def test_redrive_detached_leaves_the_plan_to_the_workers(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    left = cli("redrive", "--all", "--reason", "fixed", "--name", "INC-8", "--yes", "--detach", "--json").json
    assert (left["state"], left["jobs"], shop.state("o-1")) == ("running", 2, "dead")
    assert cli("plan", "show", left["plan"], "--follow", "--json").json["redriven"] == 2


def test_ctrl_c_stops_watching_and_not_the_plan(shop: Shop, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.bury("o-1")
    monkeypatch.setattr(plans, "follow", raise_interrupt)
    stopped = cli("redrive", "o-1", "--yes")
    assert (stopped.code, "continues in the workers" in stopped.err) == (1, True)
    assert plans.recent(shop)[0].state == "running"


def raise_interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_operators_log_is_listed_exported_and_verified(shop: Shop, cli: Cli, tmp_path: Path) -> None:
    assert "is empty" in cli("log").out
    shop.bury("o-1")
    cli("redrive", "o-1", "--reason", "fixed", "--yes")
    assert "fixed" in cli("log").out
    newest = cli("log", "--limit", "1")
    assert "finished" in newest.out
    assert "started" in cli("log", "--limit", "1", "--before", newest.err.split()[-1]).out
    file = tmp_path / "log.jsonl"
    assert cli("log", "--export", str(file)).code == 0
    assert len(file.read_text().splitlines()) == 3
    head = cli("log", "--verify", "--json").json["head"]
    assert json.loads(file.read_text().splitlines()[-1])["hash"] == head
    assert cli("log", "--verify", "--head", head).code == 0
    shop.client.lset(shop.keys.audit_log, 1, '{"kind":"redrive"}')
    broken = cli("log", "--verify")
    assert (broken.code, "entry 2" in broken.err) == (1, True)
    assert cli("log", "--head", "x").code == 2


@pytest.mark.parametrize("entry", [b"{no json", b"[" * 100_000, b"7", b'{"kind":"attempt"}', b'{"at_ms":"soon"}'])
def test_a_sale_whose_history_something_else_altered_is_one_sentence_and_exit_1(
    shop: Shop, cli: Cli, entry: bytes
) -> None:
    shop.bury("o-1")
    shop.client.rpush(shop.keys.history("acme/o-1"), entry)
    shown = cli("show", "o-1")
    assert (shown.code, shown.out, shown.err.count("\n")) == (1, "", 1)
    assert "trackdesk audit" in shown.err
