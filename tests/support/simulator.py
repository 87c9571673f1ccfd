"""Starts the simulated Trackdesk for a test: inside the test's event loop, or as a process of its own."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any

import httpx

from trackdesk_simulator import Clock, ExactlyOnce, RunningSimulator, SimulatorConfig, start_simulator

READY_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0


@asynccontextmanager
async def simulator(*, clock: Clock | None = None, **settings: Any) -> AsyncIterator[RunningSimulator]:
    """Serve in the running event loop: `async with simulator(profile="all-500") as trackdesk`."""
    async with await start_simulator(SimulatorConfig.model_validate(settings), clock=clock) as running:
        yield running


def sale(external_id: str, **changes: Any) -> dict[str, Any]:
    """Return a POST body in the guide's form; a change to None leaves the field out."""
    body: dict[str, Any] = {
        "conversionTypeCode": "sale",
        "cid": "7b0c9f2e-0c4c-4a8e-9a52-4a4a2f5a1c11",
        "amount": {"value": "100.50"},
        "currency": {"code": "EUR"},
        "externalId": external_id,
    } | changes
    return {name: value for name, value in body.items() if value is not None}


@dataclass(frozen=True)
class SimulatorProcess:
    """A simulator in another process, reached over its admin API. All calls block."""

    process: subprocess.Popen[str]
    port: int
    base_url: str

    @property
    def origin(self) -> str:
        """The address without a tenant."""
        return f"http://127.0.0.1:{self.port}"

    def url(self, tenant: str) -> str:
        """Return the conversion endpoint of a tenant."""
        return f"{self.origin}/{tenant}/tracking/conversion/v1"

    def ledger(self, **params: str) -> dict[str, Any]:
        """Return the ledger's rows (a page), count and totals."""
        return self._call("GET", "ledger", params=params)

    def ids(self, *, tenant: str | None = None) -> list[str]:
        """Return every recorded externalId, repeated as often as it was recorded."""
        params = {"format": "ids"} | ({} if tenant is None else {"tenant": tenant})
        return list(self._call("GET", "ledger", params=params)["ids"])

    def exactly_once(self, external_ids: Iterable[str], *, tenant: str | None = None) -> ExactlyOnce:
        """Compare the ledger with what should be in it."""
        return ExactlyOnce.of(self.ids(tenant=tenant), external_ids)

    def stats(self, **params: str) -> dict[str, Any]:
        """Return the counters; `arrivals="1"` adds the arrival times."""
        return self._call("GET", "stats", params=params)

    def configure(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings from the next request on."""
        return self._call("PUT", "config", body=patch)

    def post(self, tenant: str, body: Mapping[str, Any]) -> int:
        """Send one conversion as another system does, a pixel for instance; return the status."""
        return httpx.post(self.url(tenant), json=body, timeout=30, trust_env=False).status_code

    def reset(self) -> None:
        """Empty the ledger, the counters and the limiters."""
        self._call("POST", "reset")

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self.process.kill()
        self.process.wait(STOP_DEADLINE_S)

    def stop(self) -> int:
        """End it politely (SIGTERM) and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_DEADLINE_S)

    def _call(
        self, method: str, name: str, *, params: Mapping[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        response = httpx.request(
            method,
            f"{self.origin}/_simulator/{name}",
            params=dict(params or {}),
            json=body,
            timeout=30,
            trust_env=False,
        )
        if response.status_code != 200:
            raise RuntimeError(f"{method} {name}: {response.status_code} {response.text}")
        answer: dict[str, Any] = response.json()
        return answer


@contextmanager
def simulator_process(*, port: int = 0, **settings: Any) -> Iterator[SimulatorProcess]:
    """Serve in a process of its own, killed at the end: `with simulator_process(seed=7) as trackdesk`."""
    command = [sys.executable, "-m", "trackdesk_simulator", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--config", json.dumps(settings, default=str)], stdout=subprocess.PIPE, text=True
    )
    try:
        ready = json.loads(_first_line(process))
        yield SimulatorProcess(process, ready["port"], ready["base_url"])
    finally:
        process.kill()
        process.wait(STOP_DEADLINE_S)
        if process.stdout is not None:
            process.stdout.close()


def _first_line(process: subprocess.Popen[str]) -> str:
    """Return the ready line, or fail once the deadline has passed or the process has ended."""
    lines: Queue[str] = Queue()
    stdout = process.stdout
    assert stdout is not None
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=READY_DEADLINE_S)
    except Empty:
        raise TimeoutError("the simulator did not get ready") from None
    if not line:
        raise RuntimeError(f"the simulator ended with status {process.wait(STOP_DEADLINE_S)}")
    return line
