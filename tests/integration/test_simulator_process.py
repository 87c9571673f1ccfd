"""The simulator as a process of its own, and its admin API."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.simulator import SimulatorProcess, sale, simulator_process


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared() -> Iterator[SimulatorProcess]:
    with simulator_process() as running:
        yield running


@pytest.fixture
def trackdesk(shared: SimulatorProcess) -> SimulatorProcess:
    shared.reset()
    shared.configure({"profile": None, "faults": None})
    return shared


def test_the_ledger_is_read_by_page_by_tenant_and_as_ids(client: httpx.Client, trackdesk: SimulatorProcess) -> None:
    for number in range(3):
        client.post(trackdesk.url("acme"), json=sale(f"o-{number}", amount={"value": "0.10"}))
    client.post(trackdesk.url("other"), json=sale("o-0"))
    client.post(trackdesk.url("acme"), json=sale("o-0"))
    ledger = trackdesk.ledger(tenant="acme", offset="1", limit="1")
    assert ledger["count"] == 3
    assert [row["external_id"] for row in ledger["rows"]] == ["o-1"]
    assert [row["revenue_origin_id"] for row in ledger["rows"]] == [""]
    assert ledger["totals"] == {"EUR": "0.30"}
    assert ledger["duplicates_refused"] == 1
    assert trackdesk.ledger(external_id="o-0")["count"] == 2
    assert trackdesk.ids(tenant="acme") == ["o-0", "o-1", "o-2"]
    assert trackdesk.exactly_once(["o-0", "o-9"], tenant="acme").missing == ("o-9",)
    assert trackdesk.exactly_once(["o-0", "o-1"]).doubled == ("o-0",)


def test_settings_are_patched_and_bad_ones_change_nothing(client: httpx.Client, trackdesk: SimulatorProcess) -> None:
    assert trackdesk.configure({"profile": "all-500"})["profile"] == "all-500"
    assert client.post(trackdesk.url("acme"), json=sale("o", cid="unknown-1")).status_code == 500
    for content, sentence in (
        (b'{"profil": 1}', "profil"),
        (b'{"port": 1}', "port cannot change while the simulator runs"),
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
    ):
        response = client.put(f"{trackdesk.origin}/_simulator/config", content=content)
        assert response.status_code == 400
        assert sentence in response.json()["error"]
    now = client.get(f"{trackdesk.origin}/_simulator/config").json()
    assert now["profile"] == "all-500"


def test_stats_count_by_tenant_and_reset_forgets(client: httpx.Client, trackdesk: SimulatorProcess) -> None:
    client.post(trackdesk.url("acme"), json=sale("o-1"))
    client.post(trackdesk.url("acme"), json=sale("o-1"))
    client.get(f"{trackdesk.origin}/login")
    stats = trackdesk.stats(arrivals="1", tenant="acme")
    assert stats["tenants"]["acme"]["answers"] == {"200": 1, "409": 1}
    assert stats["problems"] == {"already_exists": 1}
    assert (stats["requests"], stats["rows"], stats["web_pages"]) == (2, 1, 1)
    assert len(stats["arrivals"]) == 2
    trackdesk.reset()
    stats = trackdesk.stats()
    assert (stats["requests"], stats["rows"], stats["answers"]) == (0, 0, {})
    assert client.post(trackdesk.url("acme"), json=sale("o-1")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "nothing", 404), ("DELETE", "ledger", 405), ("GET", "ledger?offset=-1", 400)],
)
def test_the_admin_api_tells_what_it_cannot_do(
    client: httpx.Client, trackdesk: SimulatorProcess, method: str, path: str, status: int
) -> None:
    response = client.request(method, f"{trackdesk.origin}/_simulator/{path}")
    assert response.status_code == status
    assert response.json()["error"]


def test_a_ledger_file_survives_a_kill_of_the_simulator(client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with simulator_process(ledger_path=path, faults={"commit_then_drop": 1}) as first:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.post(first.url("acme"), json=sale("o-1"))
        first.kill()
    with simulator_process(ledger_path=path) as second:
        assert second.exactly_once(["o-1"]).ok
        assert client.post(second.url("acme"), json=sale("o-1")).status_code == 409
        assert second.stop() == 0


def test_a_base_url_takes_the_tenant(trackdesk: SimulatorProcess) -> None:
    assert trackdesk.base_url.format(tenant="acme") == f"http://127.0.0.1:{trackdesk.port}/acme"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--config", "{"], 2, "--config is not JSON"),
        (["--config", "[]"], 2, "--config is not a JSON object"),
        (["--config", '{"faults":{"hang":3}}'], 2, "faults.hang"),
        (["--config", json.dumps({"ledger_path": "/dev/null/x"})], 1, "cannot start"),
    ],
)
def test_bad_settings_end_it_with_one_sentence(arguments: list[str], status: int, sentence: str) -> None:
    command = [sys.executable, "-m", "trackdesk_simulator", "--port", "0", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == status
    assert sentence in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_taken_port_ends_it_with_one_sentence(trackdesk: SimulatorProcess) -> None:
    command = [sys.executable, "-m", "trackdesk_simulator", "--port", str(trackdesk.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert "cannot start" in ended.stderr
    assert "Traceback" not in ended.stderr
