"""`import` as shops and their scripts use it."""

import json
import threading
import tracemalloc
from pathlib import Path

import pytest
import redis

from tests.support.cli import Cli
from tests.support.shop import sale
from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port
from trackdesk_worker.ops.importing import importer
from trackdesk_worker.ops.importing.importer import ImportSummary, import_file
from trackdesk_worker.ops.importing.rejects import RejectsFile
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import read_books, total


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a file of a few thousand lines be many batches."""
    monkeypatch.setattr(importer, "BATCH", 500)


@pytest.fixture
def cli(server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    made = Cli(server.url, keys, monkeypatch, capsys)
    made.env(TENANT="acme")
    return made


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def accepted(store: JobStore) -> int:
    return total(read_books(store).values()).jobs["accepted"]


def test_a_clean_file_is_accepted_and_a_repeat_is_all_duplicates(
    cli: Cli, tmp_path: Path, client: redis.Redis, keys: Keys
) -> None:
    file = write(tmp_path / "sales.jsonl", *(sale(f"o-{n}") for n in range(1200)))
    first = cli("import", str(file), "--json")
    assert (first.code, first.err) == (0, "")
    assert {name: first.json[name] for name in ("accepted", "duplicate", "conflict", "rejected")} == {
        "accepted": 1200,
        "duplicate": 0,
        "conflict": 0,
        "rejected": 0,
    }
    again = cli("import", str(file), "--json")
    assert (again.code, again.json["duplicate"]) == (0, 1200)
    assert accepted(JobStore(client, keys)) == 1200
    assert list(tmp_path.iterdir()) == [file]
    assert cli("import", str(file)).out == "0 accepted, 1,200 duplicate, 0 conflict, 0 rejected\n"


def test_rejects_are_named_by_line_and_reason_without_their_data(cli: Cli, tmp_path: Path) -> None:
    file = write(
        tmp_path / "sales.jsonl",
        sale("o-1", customerId="jane@example.com"),
        "{",
        sale("o-2", customerId="jane@example.com", cid=None),
        "",
        sale("o-1", amount={"value": "7"}),
        sale("o-3", tenant="Not A Tenant"),
        sale(None),  # type: ignore[arg-type]
    )
    result = cli("import", str(file), "--json")
    assert result.code == 1
    assert {name: result.json[name] for name in ("accepted", "conflict", "rejected", "lines")} == {
        "accepted": 1,
        "conflict": 1,
        "rejected": 4,
        "lines": 6,
    }
    rejects = Path(result.json["rejects_file"])
    assert rejects == tmp_path / "sales.jsonl.rejects.jsonl"
    assert rejects.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(line["line"], line["kind"], line.get("external_id")) for line in lines] == [
        (2, "rejected", None),
        (3, "rejected", "o-2"),
        (5, "conflict", "o-1"),
        (6, "rejected", "o-3"),
        (7, "rejected", None),
    ]
    assert "cid" in lines[1]["reason"]
    assert "--create-ids" in lines[4]["reason"]
    assert "jane" not in rejects.read_text()
    other = tmp_path / "why.jsonl"
    cli("import", str(file), "--rejects", str(other), "--rejects-with-data")
    assert "jane" in other.read_text()


def test_a_csv_file_is_imported_and_its_bad_rows_reported(cli: Cli, tmp_path: Path) -> None:
    file = write(
        tmp_path / "sales.CSV",
        "conversionTypeCode,cid,amount.value,currency.code,externalId",
        "sale,6f1c0a52-1111-4222-8333-444455556666,100.50,EUR,o-1",
        'sale,6f1c0a52-1111-4222-8333-444455556666,"1,5",EUR,o-2',
        "sale,not-a-uuid,1,EUR,o-3",
    )
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["accepted"], result.json["rejected"]) == (1, 2, 1)
    assert list(result.json["warnings"].values()) == [1]


def test_a_csv_file_that_may_be_cut_off_in_its_last_value_does_not_pay_it(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    whole = "conversionTypeCode,cid,externalId,amount.value\nsale,6f1c,o-1,7.00\nsale,6f1c,o-2,1050.00\n"
    file.write_text(whole[: -len("50.00\n")])
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["accepted"], result.json["rejected"]) == (1, 1, 1)
    (reject,) = (tmp_path / "sales.csv.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject)["line"] == 3
    assert "its last value may be cut off" in reject
    file.write_text(whole)
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["accepted"], result.json["duplicate"]) == (0, 1, 1)


def test_a_file_with_a_sale_that_was_cancelled_before_says_so(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "sales.jsonl", sale("o-1"), sale("o-2"))
    assert cli("import", str(file)).code == 0
    assert cli("cancel", "o-1", "--reason", "returned").code == 0
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["duplicate"], result.json["given_up"]) == (1, 2, 1)
    (reject,) = map(json.loads, (tmp_path / "sales.jsonl.rejects.jsonl").read_text().splitlines())
    assert (reject["line"], reject["external_id"]) == (1, "o-1")
    assert "use a new externalId" in str(reject)


def test_lines_without_external_id_are_taken_on_demand(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "sales.jsonl", sale(None), sale(None))  # type: ignore[arg-type]
    assert cli("import", str(file), "--json").json["rejected"] == 2
    result = cli("import", str(file), "--json", "--create-ids")
    assert (result.code, result.json["accepted"], result.json["ids_created"]) == (0, 2, 2)


def test_lines_without_any_tenant_are_refused_with_what_to_add(cli: Cli, tmp_path: Path) -> None:
    cli.env(TENANT="")
    file = write(tmp_path / "sales.jsonl", sale("o-1"), sale("o-2", tenant="bert"))
    result = cli("import", str(file), "--json")
    assert (result.json["accepted"], result.json["rejected"]) == (1, 1)
    assert "TRACKDESK_TENANT" in (tmp_path / "sales.jsonl.rejects.jsonl").read_text()
    assert cli("import", str(file), "--json", "--tenant", "acme").code == 0


def test_files_that_cannot_be_imported_are_one_sentence_and_exit_2(cli: Cli, tmp_path: Path) -> None:
    utf_16 = tmp_path / "a.csv"
    utf_16.write_bytes("conversionTypeCode".encode("utf-16"))
    for arguments in (
        (str(utf_16),),
        (str(write(tmp_path / "b.csv", "name,mail", "x,y")),),
        (str(write(tmp_path / "c.txt", sale("o-1"))),),
        (str(tmp_path / "missing.csv"),),
        (str(tmp_path),),
        (str(write(tmp_path / "d.jsonl", sale("o-1"))), "--rejects", str(tmp_path / "d.jsonl")),
        (str(tmp_path / "d.jsonl"), "--tenant", "a b"),
    ):
        wrong = cli("import", *arguments, "--json")
        assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1), arguments
    assert (tmp_path / "d.jsonl").read_text()


def test_an_empty_file_is_no_error_but_reported(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sales.jsonl"
    file.touch()
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["lines"]) == (0, 0)
    assert "holds no conversion" in result.err


def test_what_stands_before_a_broken_place_is_imported(cli: Cli, tmp_path: Path) -> None:
    row = "sale,6f1c0a52-1111-4222-8333-444455556666,100.50,EUR,o-{}"
    rows = [row.format(n) for n in range(600)]
    file = write(
        tmp_path / "sales.csv",
        "conversionTypeCode,cid,amount.value,currency.code,externalId",
        *rows,
        '"open',
        *rows * 3,
    )
    result = cli("import", str(file), "--json")
    assert (result.code, result.json["accepted"]) == (1, 600)
    assert "opened in line 602" in result.json["stopped"]


def test_rejects_that_cannot_be_written_are_one_sentence(cli: Cli, tmp_path: Path) -> None:
    file = write(tmp_path / "sales.jsonl", "{")
    wrong = cli("import", str(file), "--rejects", str(tmp_path / "no" / "such"))
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)


def test_a_store_that_stays_away_stops_the_import_and_says_how_far_it_came(cli: Cli, tmp_path: Path) -> None:
    cli.env(REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    file = write(tmp_path / "sales.jsonl", sale("o-1"))
    result = cli("import", str(file), "--json", "--patience", "0.2")
    assert (result.code, result.json["accepted"]) == (1, 0)
    assert "repeating the same command is safe" in result.err


@pytest.mark.usefixtures("small_batches")
def test_a_store_that_comes_back_in_time_gets_every_line_once(
    own_server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    file = write(tmp_path / "sales.jsonl", *(sale(None) for _ in range(2000)))  # type: ignore[arg-type]
    killed = threading.Event()

    def kill_once(_: int, summary: ImportSummary) -> None:
        if not killed.is_set() and summary.accepted >= 500:
            killed.set()
            own_server.kill()

    def come_back(pause_s: float) -> None:
        if own_server.pid is None:
            own_server.start()

    with (
        file.open("rb") as stream,
        Producer(own_server.url, tenant="acme", namespace=keys.namespace, timeout_s=5) as producer,
        RejectsFile(tmp_path / "rejects", with_data=False) as rejects,
        redis.Redis(port=own_server.port) as client,
    ):
        client.config_set("appendfsync", "always")
        summary = import_file(
            stream, "jsonl", producer, rejects, has_tenant=True, create_ids=True, progress=kill_once, pause=come_back
        )
        assert killed.is_set()
        assert summary.clean
        assert summary.accepted + summary.duplicate == 2000
        assert accepted(JobStore(client, keys)) == 2000


@pytest.mark.usefixtures("small_batches")
def test_an_import_that_was_stopped_in_the_middle_goes_on_when_repeated(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: redis.Redis, keys: Keys
) -> None:
    file = write(tmp_path / "sales.jsonl", *(sale(f"o-{n}") for n in range(1500)))
    many, calls = Producer.enqueue_many, 0

    def interrupted(self: Producer, items: list[object]) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return many(self, items)  # type: ignore[arg-type]

    monkeypatch.setattr(Producer, "enqueue_many", interrupted)
    stopped = cli("import", str(file))
    assert stopped.code == 1
    assert "stopped after line 500" in stopped.err
    done = cli("import", str(file), "--json").json
    assert (done["duplicate"], done["accepted"]) == (500, 1000)
    assert accepted(JobStore(client, keys)) == 1500


@pytest.mark.usefixtures("small_batches")
def test_memory_does_not_grow_with_the_file(own_server: EmbeddedServer, keys: Keys, tmp_path: Path) -> None:
    def peak(lines: int) -> int:
        file = write(tmp_path / f"{lines}.jsonl", *("{" for _ in range(lines)))
        with (
            file.open("rb") as stream,
            Producer(own_server.url, tenant="acme", namespace=keys.namespace) as producer,
            RejectsFile(tmp_path / "rejects", with_data=True) as rejects,
        ):
            tracemalloc.start()
            import_file(stream, "jsonl", producer, rejects, has_tenant=True)
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return used

    peak(1000)
    assert peak(20_000) < 1.5 * peak(2000)
