"""Backup and restore, by the very lines of docs/guides/backup.md: nothing paid twice, no dead letter left over."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import server_binary
from tests.support.cli import Cli
from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import Deployment, deployment
from trackdesk_producer import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer

pytestmark = [pytest.mark.system, pytest.mark.chaos]

GUIDE = Path(__file__).parents[2] / "docs/guides/backup.md"
LEASE = {"TRACKDESK_TIMEOUT_S": "1", "TRACKDESK_LEASE_S": "2.5"}


def lines_of_the_manual() -> list[str]:
    """Return the guide's blocks of commands, in order: back up, put in place, load, go on."""
    text = GUIDE.read_text("utf-8")
    return re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)


BACK_UP, PUT_IN_PLACE, LOAD, GO_ON = range(4)


def shell(lines: str, server: EmbeddedServer, backup: Path) -> None:
    """Run lines of the manual as an operator would."""
    if shutil.which("redis-cli") is None:
        if os.environ.get("CI"):
            pytest.fail("redis-cli is missing: .ci/run has to install it")
        pytest.skip("redis-cli is not installed here; CI runs this")
    names = {"TRACKDESK_REDIS_URL": server.url, "BACKUP": str(backup), "DATA": str(server.directory)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    # A server waits 5 s for more replicas before it sends a snapshot to the first; nobody else asks here.
    config = {"repl-diskless-sync-delay": "0"}
    server = EmbeddedServer(tmp_path / "store", binary=server_binary(request.param), config=config)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cli(
    own_server: EmbeddedServer, keys: Keys, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    made = Cli(own_server.url, keys, monkeypatch, capsys)
    made.env(TENANT="acme")
    return made


def destroy_and_restore(run: Deployment, server: EmbeddedServer, backup: Path) -> None:
    """Lose the store's disk; bring the backup into force, and end with a store that was restarted as usual."""
    worker = run.workers[-1]
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    server.kill()
    shutil.rmtree(server.directory)
    server.directory.mkdir()
    manual = lines_of_the_manual()
    shell(manual[PUT_IN_PLACE], server, backup)
    binary = server._binary
    once = EmbeddedServer(server.directory, port=server.port, binary=binary, config={"appendonly": "no"})
    once.start()
    shell(manual[LOAD], once, backup)
    once.kill()
    server.start()


@pytest.mark.parametrize(
    ("own_server", "said"), [("valkey", "before the workers start"), ("redis", "too late")], indirect=["own_server"]
)
def test_a_store_restored_from_an_old_backup_pays_nothing_twice_and_leaves_nothing_to_a_person(
    own_server: EmbeddedServer, keys: Keys, tmp_path: Path, cli: Cli, said: str
) -> None:
    backup = tmp_path / "backup.rdb"
    ids = [f"order-{number}" for number in range(1000)]
    since = [f"since-{number}" for number in range(50)]
    with (
        simulator_process(latency_s=0.1) as trackdesk,
        deployment(own_server, keys, tmp_path, trackdesk.base_url) as run,
    ):

        def delivered() -> int:
            return run.book().jobs["delivered"]

        run.producer.enqueue_many(sale(external_id) for external_id in ids)
        run.start_worker({**LEASE, "TRACKDESK_RATE_LIMIT": "300", "TRACKDESK_BURST": "50"})
        wait_until(lambda: delivered() >= 300, "a part of them delivered")
        backup_at = datetime.now(UTC).isoformat()
        shell(lines_of_the_manual()[BACK_UP], own_server, backup)
        run.producer.enqueue_many(sale(external_id) for external_id in since)
        at_backup = delivered()
        wait_until(lambda: delivered() >= min(at_backup + 200, len(ids)), "and more, which the backup knows nothing of")
        reached = delivered()

        destroy_and_restore(run, own_server, backup)

        forgotten = reached - delivered()
        assert 0 < forgotten <= reached - 300, "it is the store of the backup"
        assert cli("audit").code == 0
        file = tmp_path / "sales-since-the-backup.jsonl"
        file.write_text("\n".join(json.dumps(sale(external_id)) for external_id in since))
        said_so = ("restored", "--reason", "disk lost", "--yes")
        assert "trackdesk restored --reason" in lines_of_the_manual()[GO_ON]
        if said == "too late":
            run.start_worker(LEASE)
            assert cli("import", str(file)).code == 0
            run.wait_until_finished()
            assert run.book().jobs["dead"] > 0, "without that command every forgotten delivery becomes a dead letter"
            assert cli(*said_so, "--since", backup_at).code == 0
            redrive = ("redrive", "--all", "--cause", "unverified_duplicate", "--reason", "restored", "--yes")
            assert cli(*redrive).code == 0
        else:
            assert cli("import", str(file)).code == 0
            assert cli(*said_so).code == 0
            run.start_worker(LEASE)
        book = run.wait_until_finished()

        assert (book.jobs[State.DEAD], book.jobs[State.DELIVERED]) == (0, len(ids) + len(since))
        restored = book.jobs["delivered_restored_duplicate"]
        assert restored
        assert restored + book.jobs["delivered_confirmed_duplicate"] >= forgotten, "some were in flight in the backup"
        once = trackdesk.exactly_once(ids + since, tenant="acme")
        assert once.ok, once
        assert cli("audit").code == 0
        assert not list(tmp_path.glob("*.rejects.jsonl"))
