"""TLS and least privilege: worker, producers and commands do all their work with the users that deploy/redis names."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from redis.exceptions import NoPermissionError

from tests.support.cli import Cli
from tests.support.producers import KINDS, AnyProducer
from tests.support.secure_server import SecureServer, secure_server
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer import QueueUnavailable
from trackdesk_producer._redis.connections import open_client
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import free_port
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import edit_and_redrive, propose
from trackdesk_worker.store.job_store import JobStore

pytestmark = pytest.mark.system

FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def secure(tmp_path: Path, keys: Keys) -> Iterator[SecureServer]:
    with secure_server(tmp_path / "store", keys.namespace) as running:
        yield running


def test_everything_works_over_tls_with_the_least_privilege(
    secure: SecureServer,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        simulator_process() as trackdesk,
        deployment(secure, keys, tmp_path, trackdesk.base_url) as run,
    ):
        worker = run.start_worker()
        for kind in KINDS:
            producer = secure.url_for("trackdesk-producer")
            with AnyProducer(
                kind, producer, tenant="acme", namespace=keys.namespace, connect_timeout_s=5, timeout_s=5
            ) as shop:
                assert shop.enqueue(sale(f"{kind}-1")).ok
                assert all(receipt.ok for receipt in shop.enqueue_many(sale(f"{kind}-{n}") for n in range(2, 5)))
                assert shop.enqueue(sale(f"{kind}-late"), not_before=FAR).ok
                assert shop.cancel(f"{kind}-late").status == "cancelled"
                assert shop.get(f"{kind}-1") is not None
        book = run.wait_until_finished()
        assert book.jobs["delivered"] == 8, run.log_text()
        wait_until(lambda: " ready." in run.log_text(), "Celery listens")

        for number in range(4):
            run.producer.enqueue(sale(f"dead-{number}", conversionTypeCode="no-such-type"))
        run.wait_until_finished()
        cli = Cli(secure.url, keys, monkeypatch, capsys)
        cli.env(TENANT="acme")
        for arguments in (
            ["status"],
            ["show", "asyncio-1"],
            ["dead", "list"],
            ["dead", "causes"],
            ["dead", "show", "dead-0"],
            ["dead", "export", str(tmp_path / "dead.jsonl"), "--reason", "test"],
            ["discard", "dead-2", "--reason", "test", "--yes", "--count", "1"],
            ["redrive", "dead-1", "--reason", "test", "--yes"],
            ["redrive", "--all", "--reason", "test", "--yes"],
            ["restored", "--reason", "test", "--yes"],
            ["pause", "acme", "--reason", "test"],
            ["resume", "acme", "--reason", "test"],
            ["tenants"],
            ["audit"],
            ["doctor"],
        ):
            result = cli(*arguments)
            assert result.code in (0, 1), result
            assert "cannot be used" not in result.err, result
            assert "NOPERM" not in result.err + result.out, result
        run.wait_until_finished()
        proposed = propose(run.store, "acme/dead-3", {"amount.value": "99.90"})
        with open_client(secure.url, socket_timeout=5) as client:
            edit_and_redrive(
                JobStore(client, keys),
                "acme/dead-3",
                {"amount.value": "99.90"},
                Operator("ann", "test"),
                expect=proposed.shown,
            )
        port = free_port()
        run.start(["-m", "trackdesk_worker", "console", "--metrics-only", "--port", str(port)])
        address = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: "trackdesk_collector_success 1.0" in _text(address), "the exporter reads the store")
        assert worker.poll() is None, run.log_text()
        assert secure.denied() == []


def _text(url: str) -> str:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5, trust_env=False).text
    return ""


def test_a_user_may_not_do_what_its_part_does_not_need(secure: SecureServer) -> None:
    for user, commands in {
        "trackdesk-producer": (["FLUSHALL"], ["KEYS", "*"], ["CONFIG", "GET", "*"], ["GET", "other"], ["INFO"]),
        "trackdesk-worker": (
            ["FLUSHALL"],
            ["CONFIG", "SET", "save", ""],
            ["GET", "other"],
            ["SHUTDOWN"],
            ["ACL", "LIST"],
        ),
    }.items():
        with open_client(secure.url_for(user)) as client:
            assert client.ping()
            for command in commands:
                with pytest.raises(NoPermissionError):
                    client.execute_command(*command)


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_with_a_foreign_certificate_or_a_wrong_password_gets_no_sale(
    kind: str, secure: SecureServer, keys: Keys
) -> None:
    for url, said in (
        (secure.url_for("trackdesk-producer", ca=False), "certificate"),
        (secure.url_for("trackdesk-producer", password="wrong"), "refused the login"),
    ):
        with (
            AnyProducer(kind, url, tenant="acme", namespace=keys.namespace, connect_timeout_s=5, timeout_s=5) as shop,
            pytest.raises(QueueUnavailable, match=said),
        ):
            shop.enqueue(sale("order-1"))
