"""Worker processes of a test, and what to wait for."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tests.support.waiting import wait_until as wait_until  # noqa: PLC0414 - for those that know a deployment
from trackdesk_producer import Producer, State
from trackdesk_producer._redis.connections import open_client
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, read_books, total

ROOT = Path(__file__).parents[2]


class Store(Protocol):
    """Anything with an address of its own."""

    @property
    def url(self) -> str:
        """What TRACKDESK_REDIS_URL says."""


class Deployment:
    """One namespace on a server, with worker processes that the test starts, kills and stops."""

    def __init__(
        self, server: Store, keys: Keys, logs: Path, base_url: str, *, tenant: str = "acme", url: str = ""
    ) -> None:
        self.server = server
        self.keys = keys
        self.logs = logs
        self.client: Any = open_client(
            server.url, socket_timeout=5
        )  # redis-py's stubs answer `bytes | str` where these clients answer bytes
        self.store = JobStore(self.client, keys)
        self.producer = Producer(server.url, tenant=tenant, namespace=keys.namespace, timeout_s=10)
        self.environment = {
            "TRACKDESK_REDIS_URL": url or server.url,
            "TRACKDESK_NAMESPACE": keys.namespace,
            "TRACKDESK_TENANT": tenant,
            "TRACKDESK_BASE_URL": base_url,
            "TRACKDESK_RATE_LIMIT": "0",
            "TRACKDESK_METRICS_PORT": "0",
        }
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(
        self,
        variables: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        *,
        planted: str | None = None,
        output: BinaryIO | int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one worker process; its output goes to a file of its own, or to a descriptor.

        `planted` is Python that runs in it first.
        """
        program = ["-m", "trackdesk_worker"]
        if planted is not None:
            program = ["-c", f"{planted}\nimport sys\nfrom trackdesk_worker.cli import run\nsys.exit(run())"]
        return self.start([*program, "worker", *arguments], variables, output=output)

    def start(
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str] | None = None,
        *,
        output: BinaryIO | int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start one Python process of the deployment; its log goes to a file, or to `output`."""
        with (self.logs / f"worker-{len(self.workers)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **self.environment, **(variables or {})},
                stdout=log if output is None else output,
                stderr=log if output is None else output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def worker_seen(self) -> bool:
        """Whether some worker has registered."""
        return bool(self.client.zcard(self.keys.workers))

    def book(self) -> Book:
        """The books of all tenants."""
        return total(read_books(self.store).values())

    def unfinished(self) -> int:
        """Jobs that are still to be sent."""
        jobs = self.book().jobs
        return jobs[State.READY] + jobs[State.SCHEDULED] + jobs[State.IN_FLIGHT]

    def wait_until_finished(self, *, within_s: float = 60) -> Book:
        """Wait until nothing is left to send; return the books."""
        wait_until(lambda: self.unfinished() == 0, "all jobs finished", within_s=within_s, poll_s=0.05)
        return self.book()

    def log_text(self) -> str:
        """What all workers wrote."""
        return "\n".join(path.read_text("utf-8", "replace") for path in sorted(self.logs.glob("worker-*.log")))

    def close(self) -> None:
        """Kill what still runs."""
        for process in self.workers:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
        self.producer.close()
        self.client.close()


@contextmanager
def deployment(
    server: Store, keys: Keys, logs: Path, base_url: str, *, tenant: str = "acme", url: str = ""
) -> Iterator[Deployment]:
    """A deployment whose processes end with the test."""
    running = Deployment(server, keys, logs, base_url, tenant=tenant, url=url)
    try:
        yield running
    finally:
        running.close()
