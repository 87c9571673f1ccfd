"""What a scenario runs on: a server, stubs and product processes of its own, all ended with it."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.benchmarks.measure.sales import TENANT, Store
from tests.benchmarks.measure.stub import ARRIVALS_PATH, COUNT_PATH
from trackdesk_producer import Durability, Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import State
from trackdesk_worker.config.settings import PREFIX
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit
from trackdesk_worker.ops.audit.books import check_books, take_snapshot
from trackdesk_worker.ops.audit.discrepancies import Findings
from trackdesk_worker.ops.audit.sums import Tally
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, read_books, total

STOP_S = 30.0
POLL_S = 0.02
STILL_REWRITE = {"auto-aof-rewrite-percentage": "0"}
"""For servers that are filled to be measured: a rewrite in the background would be measured too."""


class BenchFailed(OpsError):
    """A measurement cannot be taken, or what was measured was not right."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much a scenario does."""

    quick: bool
    """For seeing that it works: its figures mean little."""
    soak_jobs: int
    short: bool = False
    """Full sizes in little time: fewer runs of what takes long, and no walk over the records of the largest stores."""

    def of(self, full: int, quick: int) -> int:
        """Return the size for this scale."""
        return quick if self.quick else full


class StubProcess:
    """A stub in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    @property
    def group(self) -> int:
        """Its process group, to see what it used."""
        return self._process.pid

    def count(self) -> int:
        """Requests it got so far."""
        return int(self._get(COUNT_PATH))

    def arrivals(self) -> list[tuple[str, float]]:
        """Requests since the last call: externalId and the machine's monotonic seconds."""
        return [(name, at) for name, at in json.loads(self._get(ARRIVALS_PATH))]

    def wait_for(self, count: int, *, within_s: float) -> int:
        """Wait until it got `count` requests; return how many it has."""
        deadline = time.monotonic() + within_s
        while (seen := self.count()) < count:
            if time.monotonic() > deadline:
                raise BenchFailed(f"the stub got {seen} of {count} requests within {within_s:g} s")
            time.sleep(POLL_S)
        return seen

    def _get(self, path: str) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=10) as answer:
            body: bytes = answer.read()
            return body


class Deployment:
    """One namespace on a server of the rig, and the product's processes on it."""

    def __init__(self, rig: "Rig", server: EmbeddedServer, namespace: str) -> None:
        self.server = server
        self.keys = Keys(namespace)
        self.client = redis.Redis(port=server.port, socket_timeout=120)
        self.job_store = JobStore(self.client, self.keys)
        self._rig = rig

    def store(self, *, tenants: Sequence[str] = (TENANT,)) -> Store:
        """Return the namespace, to be filled and moved by scripts."""
        return Store(self.client, self.keys, tenants=tenants)

    def producer(self, durability: Durability = Durability.MEMORY) -> Producer:
        """Return a producer with an operator's patience."""
        return Producer(
            self.server.url, tenant=TENANT, namespace=self.keys.namespace, durability=durability, timeout_s=30
        )

    @contextlib.contextmanager
    def process(self, *arguments: str, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
        """Run ``trackdesk`` with these arguments until the end of the block; its process group is its pid."""
        environment = {
            "REDIS_URL": self.server.url,
            "NAMESPACE": self.keys.namespace,
            "TENANT": TENANT,
            "METRICS_PORT": "0",
            **variables,
        }
        with self._rig.log() as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "trackdesk_worker", *arguments],
                env={**_clean_environment(), **{PREFIX + name: value for name, value in environment.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def worker(
        self, stub: StubProcess, *, concurrency: int = 256
    ) -> contextlib.AbstractContextManager["subprocess.Popen[bytes]"]:
        """Run one worker process, everything on, without a rate limit."""
        return self.process("worker", CONCURRENCY=str(concurrency), RATE_LIMIT="0", BASE_URL=stub.url)

    def book(self) -> Book:
        """Return the books."""
        return total(read_books(self.job_store).values())

    def wait_for_delivered(self, count: int, *, within_s: float) -> None:
        """Wait until so many jobs are delivered."""
        deadline = time.monotonic() + within_s
        while (done := self.book().jobs[State.DELIVERED]) < count:
            if time.monotonic() > deadline:
                raise BenchFailed(f"{done} of {count} jobs were delivered within {within_s:g} s")
            time.sleep(POLL_S)

    def check(self, *, large: bool = False) -> None:
        """Audit the namespace: a figure counts only if the books agree afterwards.

        Args:
            large: whether a walk over all records takes minutes; in short, only books and indexes are compared then.
        """
        if large and self._rig.scale.short:
            findings = Findings()
            check_books(take_snapshot(self.job_store, Tally()), findings)
            if findings.count:
                raise BenchFailed(f"books and indexes disagree after the run: {findings.named()[0]}")
            return
        report = audit(self.job_store)
        if not report.ok:
            first = report.discrepancies[0]
            raise BenchFailed(f"the audit found {report.found} discrepancies after the run; the first: {first}")
        self._rig.audited += 1


class Rig:
    """Makes what a scenario needs, in one directory. `notify` gets a line of progress now and then."""

    def __init__(self, directory: Path, scale: Scale, notify: Callable[[str], None]) -> None:
        self.directory = directory
        self.scale = scale
        self.notify = notify
        self.audited = 0
        """Audits that found everything in order."""
        self._made = 0

    @contextlib.contextmanager
    def server(self, config: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
        """Run a server with the embedded server's safe settings and `config` over them."""
        server = EmbeddedServer(self.directory / self._name("server"), config=config)
        server.start()
        try:
            yield server
        finally:
            server.kill()  # its data is of no use to anyone

    @contextlib.contextmanager
    def deployment(self, server: EmbeddedServer) -> Iterator[Deployment]:
        """Use a namespace of its own on `server`; it stays there afterwards."""
        made = Deployment(self, server, self._name("bench"))
        try:
            yield made
        finally:
            made.client.close()

    @contextlib.contextmanager
    def alone(self, config: Mapping[str, str] | None = None) -> Iterator[Deployment]:
        """Use a namespace on a server of its own."""
        with self.server(config) as server, self.deployment(server) as made:
            yield made

    @contextlib.contextmanager
    def stub(self, *, delay_ms: float = 100, record: bool = False) -> Iterator[StubProcess]:
        """Run a stub of Trackdesk."""
        command = [sys.executable, "-m", "tests.benchmarks.measure.stub", "--delay-ms", str(delay_ms)]
        process = subprocess.Popen(
            [*command, *(["--record"] if record else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        try:
            first = process.stdout.readline() if process.stdout else ""
            if not first.strip().isdigit():
                raise BenchFailed("the stub did not start")
            yield StubProcess(process, int(first))
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def log(self) -> Iterator[Any]:
        """Open a new log file for a process."""
        with (self.directory / f"{self._name('process')}.log").open("wb") as output:
            yield output

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made}"


def _clean_environment() -> dict[str, str]:
    """Return our environment without the settings of some other deployment."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
