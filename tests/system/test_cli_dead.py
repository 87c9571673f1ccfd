"""`dead`, `redrive` and `discard` as operators and scripts use them."""

import json
from pathlib import Path

import pytest
import redis

from tests.support.cli import Cli
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.ops.cli import output
from trackdesk_worker.ops.embedded import EmbeddedServer
from trackdesk_worker.ops.operations_log import read_operations

PERSONAL = {"customerId": "jane@example.com", "customParams": {"advS1": "Jane Doe"}}


@pytest.fixture
def shop(server: EmbeddedServer, client: redis.Redis, keys: Keys) -> Shop:
    return Shop(server, client, keys)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server.url, keys, monkeypatch, capsys)


def test_dead_list_prints_an_array_of_objects_for_programs(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", **PERSONAL)
    (letter,) = cli("dead", "list", "--json").json
    assert letter["died_at"].endswith("Z")
    assert {name: letter[name] for name in ("tenant", "external_id", "reason", "attempts", "amount", "currency")} == {
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
    assert [letter["external_id"] for letter in cli("dead", "list", "--json").json] == ["o-2"]
    assert cli("redrive", "--all", "--reason", "x", "--yes", "--json").json["redriven"] == 1
    assert [letter["tenant"] for letter in cli("dead", "list", "--tenant", "acme", "--json").json] == ["acme"]


def test_dead_list_pages_by_a_cursor_it_tells_on_stderr(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2", "o-3")
    first = cli("dead", "list", "--limit", "2")
    assert "o-3" in first.out
    assert "o-1" not in first.out
    cursor = first.err.split()[-1]
    assert [letter["external_id"] for letter in cli("dead", "list", "--after", cursor, "--json").json] == ["o-1"]


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
    assert read_operations(shop.client, shop.keys) == []


def test_personal_data_is_revealed_on_record(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", **PERSONAL)
    revealed = cli("show", "o-1", "--reveal", "--json")
    assert revealed.json["conversion"]["customerId"] == "jane@example.com"
    (entry,) = read_operations(shop.client, shop.keys)
    assert (entry["kind"], entry["operator"], entry["jobs"]) == (
        "reveal",
        "ann",
        [{"tenant": "acme", "external_id": "o-1"}],
    )


def test_dead_show_of_a_job_that_is_not_dead_says_so(shop: Shop, cli: Cli) -> None:
    shop.sell("o-1")
    assert (cli("dead", "show", "o-1").code, cli("dead", "show", "o-2").code) == (1, 1)
    assert "never came" in cli("dead", "show", "o-2").err


def test_clusters_are_counted_with_their_remedy(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    (cluster,) = cli("dead", "clusters", "--json").json
    assert (cluster["jobs"], cluster["money"], cluster["reason"]) == (2, {"EUR": "201.00"}, "type_not_found")
    assert "redrive" in cluster["remedy"]
    assert "201.00 EUR" in cli("dead", "clusters").out


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
    assert read_operations(shop.client, shop.keys)[1]["count"] == 2
    # In another deployment the same lines are sales again.
    cli.env(NAMESPACE="elsewhere-" + shop.keys.namespace)
    assert cli("import", str(file), "--json").json["accepted"] == 2


def test_a_dry_run_counts_and_changes_nothing(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    counted = cli("redrive", "--all", "--dry-run", "--json").json
    assert (counted["jobs"], counted["money"], counted["by_reason"]) == (2, {"EUR": "201.00"}, {"type_not_found": 2})
    assert counted["seconds_at_budget"] == 0.4
    assert shop.state("o-1") == "dead"
    assert read_operations(shop.client, shop.keys) == []


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
    assert "'o-2' was left alone: it is delivered" in done.err
    assert "'o-3' was left alone: it is unknown" in done.err


def test_redrive_narrows_by_cause_and_limit(shop: Shop, cli: Cli) -> None:
    shop.bury("o-1", "o-2")
    shop.bury("o-3", reason="server_error")
    options = ("--reason", "mended", "--yes", "--json")
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
