"""What production has, as processes of one machine, with alerts in a hurry: what a drill breaks and repairs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from tests.support.frozen import resume
from tests.support.prometheus import Prometheus, prometheus, rules_config
from tests.support.simulator import sale, simulator_process
from tests.support.tools import tool
from tests.support.waiting import wait_until
from tests.support.workers import Deployment, deployment
from tests.tools.drill.quick_rules import quick_alertmanager, quick_rules
from trackdesk_producer import Producer, ProducerError
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port, valkey_binary

TENANT = "acme"
LOOK_S = 0.25


About = Callable[[dict[str, str]], bool]


def _any(_: dict[str, str]) -> bool:
    return True


@dataclass
class Alert:
    """One alert with its labels, as Prometheus and Alertmanager report it."""

    name: str
    labels: dict[str, str]
    fired_at: float
    resolved_at: float | None = None


@dataclass
class Watch:
    """Looks at Prometheus' alerts, and takes what Alertmanager posts."""

    alerts: list[Alert] = field(default_factory=list)
    posts: list[tuple[str, str, str]] = field(default_factory=list)
    """Receiver, alert, firing or resolved."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, firing: list[dict[str, str]]) -> None:
        """Take note of the alerts that fire now."""
        with self.lock:
            now = time.monotonic()
            for alert in self.alerts:
                if alert.resolved_at is None and alert.labels not in firing:
                    alert.resolved_at = now
            open_now = [alert.labels for alert in self.alerts if alert.resolved_at is None]
            self.alerts += [Alert(labels["alertname"], labels, now) for labels in firing if labels not in open_now]

    def post(self, receiver: str, body: dict[str, Any]) -> None:
        """Take one notification."""
        with self.lock:
            self.posts += [(receiver, alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"]]

    def firing(self, name: str, about: About = _any) -> bool:
        """Whether the alert fires now."""
        with self.lock:
            return any(a.name == name and about(a.labels) and a.resolved_at is None for a in self.alerts)

    def fired(self, name: str, since: float, about: About = _any) -> Alert | None:
        """The first time it fired after `since`."""
        with self.lock:
            return next((a for a in self.alerts if a.name == name and about(a.labels) and a.fired_at >= since), None)

    def last_end(self, name: str, about: About = _any) -> float:
        """When it resolved for the last time."""
        with self.lock:
            return max(a.resolved_at or 0.0 for a in self.alerts if a.name == name and about(a.labels))

    def notified(self, name: str, status: str) -> str | None:
        """The receiver that was notified, if any was."""
        with self.lock:
            return next((to for to, alert, said in self.posts if (alert, said) == (name, status)), None)


class Stack:
    """The processes, and how to break them."""

    def __init__(self, directory: Path, factor: float, exits: ExitStack) -> None:
        self.directory, self.factor, self._exits = directory, factor, exits
        self.watch = Watch()
        self.metrics_port, self.console_port, self.simulator_port = free_port(), free_port(), free_port()
        self.tenants_file = directory / "tenants.toml"
        self.tenants_file.write_text("", "utf-8")
        # A disk that is full, later on, must be an error to the server and not its death.
        starter = directory / "server.sh"
        starter.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {valkey_binary()} \"$@\"\n", "utf-8")
        starter.chmod(0o755)
        self.server = EmbeddedServer(directory / "store", binary=starter)
        self.server.start()
        exits.callback(self.server.kill)
        exits.callback(resume, self.server)
        self.replica = EmbeddedServer(directory / "replica", config={"replicaof": f"127.0.0.1 {self.server.port}"})
        exits.callback(self.replica.kill)
        self.trackdesk = exits.enter_context(ExitStack())
        self.start_simulator()
        logs = directory / "logs"
        logs.mkdir()
        base_url = f"http://127.0.0.1:{self.simulator_port}/{{tenant}}"
        self.running: Deployment = exits.enter_context(
            deployment(self.server, Keys("trackdesk"), logs, base_url, tenant=TENANT)
        )
        self.running.environment |= {
            "TRACKDESK_RATE_LIMIT": "50",
            "TRACKDESK_BURST": "10",
            "TRACKDESK_CONFIG": str(self.tenants_file),
            "TRACKDESK_BREAKER_PROBE_S": "1",
            "TRACKDESK_BREAKER_PROBE_CAP_S": "2",
            "TRACKDESK_TIMEOUT_S": "2",
        }
        self.client = self.running.client
        self.worker = self.start_worker(self.metrics_port)
        self.console = self.start_console()
        wait_until(self.running.worker_seen, "a worker")
        self.extra: subprocess.Popen[bytes] = self.worker
        self.seller = _Seller(self)

    def start_simulator(self) -> None:
        """Start the simulated Trackdesk, or start it again on its port."""
        self.simulator = self.trackdesk.enter_context(simulator_process(port=self.simulator_port, latency_s=0.02))

    def start_worker(self, metrics_port: int, *, output: BinaryIO | None = None) -> subprocess.Popen[bytes]:
        """Start one more worker process; its log goes to a file, or to `output`."""
        return self.running.start_worker({"TRACKDESK_METRICS_PORT": str(metrics_port)}, output=output)

    def start_console(self) -> subprocess.Popen[bytes]:
        """Start the exporter."""
        return self.running.start(["-m", "trackdesk_worker", "console", "--port", str(self.console_port)])

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one of them."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def trackdesk_command(self, *arguments: str) -> str:
        """Run a command as an operator would."""
        done = subprocess.run(
            [sys.executable, "-m", "trackdesk_worker", *arguments],
            check=False,
            env={**os.environ, **self.running.environment, "USER": "drill"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def scrape_configs(self) -> list[dict[str, Any]]:
        """Where Prometheus finds the processes."""
        ports = {"trackdesk-worker": self.metrics_port, "trackdesk-exporter": self.console_port}
        return [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in ports.items()
        ]


class _Seller:
    """A shop: some sales a second, whatever happens."""

    def __init__(self, stack: Stack, per_s: float = 5) -> None:
        self.changes: dict[str, Any] = {}
        self.number = 0
        self._per_s = per_s
        self._stop = threading.Event()
        self._producer = Producer(stack.server.url, tenant=TENANT)
        self._thread = threading.Thread(target=self._sell, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.close()

    def _sell(self) -> None:
        while not self._stop.wait(1 / self._per_s):
            self.number += 1
            with suppress(ProducerError):  # a shop keeps what was refused; this one forgets
                self._producer.enqueue(sale(f"shop-{self.number}", **self.changes))


@contextmanager
def stack(directory: Path, *, factor: float) -> Iterator[tuple[Stack, Prometheus]]:
    """Run all of it while the block runs."""
    with ExitStack() as exits:
        running = Stack(directory, factor, exits)
        exits.callback(running.seller.stop)
        webhook = exits.enter_context(_webhook(running.watch))
        alertmanager = exits.enter_context(
            _alertmanager(directory / "alertmanager", quick_alertmanager(webhook, factor))
        )
        config = rules_config(scrape=running.scrape_configs())
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
        rules = {name: quick_rules(name, factor) for name in ("objectives.yml", "rules.yml")}
        server = exits.enter_context(prometheus(directory / "prometheus", config, rules))
        exits.enter_context(_looking(server, running.watch))
        wait_until(lambda: len(server.instant("up == 1")) == 2, "both targets scraped", poll_s=LOOK_S)
        yield running, server


@contextmanager
def _looking(server: Prometheus, watch: Watch) -> Iterator[None]:
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_S):
            watch.look([alert["labels"] for alert in server.alerts() if alert["state"] == "firing"])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _webhook(watch: Watch) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            watch.post(self.path.strip("/"), json.loads(body))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _alertmanager(directory: Path, config: str) -> Iterator[str]:
    directory.mkdir()
    (directory / "alertmanager.yml").write_text(config, "utf-8")
    address = f"127.0.0.1:{free_port()}"
    command: Sequence[str] = (
        *(tool("prometheus-alertmanager"), "--config.file=alertmanager.yml", "--storage.path=data"),
        *(f"--web.listen-address={address}", "--cluster.listen-address=", "--log.level=warn"),
    )
    with (directory / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ready() -> bool:
        assert process.poll() is None, (directory / "alertmanager.log").read_text("utf-8")
        try:
            return httpx.get(f"http://{address}/-/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(ready, "Alertmanager ready")
        yield address
    finally:
        process.terminate()
        process.wait(10)
