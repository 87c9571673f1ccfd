"""docker-compose.yml for real: started, sold through, restarted, killed, its Redis taken away, watched, and audited."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.containers.conftest import IMAGE
from tests.deploy.containers.engine import ROOT, Engine
from tests.support.waiting import wait_until
from trackdesk_worker.local.embedded import free_port

PROJECT = "trackdesk-demo"  # what deploy/demo/compose.env says
SERVICES = ("redis", "worker", "exporter", "console", "simulator", "alertmanager", "prometheus")
ACCESS = ("console", "token", "ann", "--role", "operator")
KEY = "a-key-the-simulator-does-not-check"


class Stack:
    """The composition, as an operator sees it."""

    def __init__(self, docker: Engine) -> None:
        self.docker = docker
        self.ports = {name: free_port() for name in ("EXPORTER", "CONSOLE", "SIMULATOR", "PROMETHEUS", "ALERTMANAGER")}
        self.variables = {f"TRACKDESK_{name}_PORT": str(port) for name, port in self.ports.items()}
        self.variables |= {"TRACKDESK_VERSION": "test"}
        self.token = ""
        """Of the console; made before it starts, as docs/guides/deploy.md says."""

    def compose(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """Run Compose with the demo's settings; return what it prints."""
        files = ("--env-file", "deploy/demo/compose.env", "--profile", "*")
        done = self.docker.compose(*files, *arguments, variables=self.variables, check=check, stdin=stdin)
        return done.stdout

    def up(self) -> None:
        """Bring everything up that has an image here, and wait until it is healthy: all but Grafana."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", "180", "--pull", "never", "--no-build", *SERVICES)

    def trackdesk(self, *arguments: str, check: bool = True) -> str:
        """Run a command of the product where docs/guides/deploy.md says: in a worker's container."""
        return self.compose("exec", "-T", "worker", "trackdesk", *arguments, check=check)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return self.compose("ps", "--quiet", service).split()

    def inspect(self, container: str, what: str) -> str:
        """Return one fact about a container."""
        return self.docker.out("inspect", "--format", f"{{{{{what}}}}}", container)

    def kill_as_a_crash(self, container: str) -> None:
        """End its first process with SIGKILL from outside, which counts as a crash: `docker kill` would not."""
        os.kill(int(self.inspect(container, ".State.Pid")), signal.SIGKILL)

    def healthy(self, service: str, count: int) -> bool:
        """Return whether so many containers of a service say they are well."""
        states = [self.inspect(one, ".State.Health.Status") for one in self.containers(service)]
        return states.count("healthy") == count

    def get(self, name: str, path: str) -> Any:
        """Return the JSON, or else the text, of a published port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=10) as answer:
            text = answer.read().decode()
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text

    def metric(self, line: str) -> float | None:
        """Return the value of one series of the exporter."""
        for text in self.get("EXPORTER", "/metrics").splitlines():
            if text.startswith(line + " "):
                return float(text.split()[-1])
        return None

    @contextlib.contextmanager
    def selling(self) -> Iterator[Callable[[], dict[str, Any]]]:
        """Sell from a container of a shop's own; the yielded function ends it and returns what was accepted."""
        command = [
            *("docker", "run", "--rm", "--interactive", "--network", f"{PROJECT}_store"),
            *("--volume", f"{Path(__file__).with_name('shop.py')}:/shop.py:ro", "--entrypoint", "python"),
            *(IMAGE, "/shop.py", "demo"),
        ]
        with subprocess.Popen(
            command, env=self.docker.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:

            def close() -> dict[str, Any]:
                said, _ = process.communicate(timeout=60)
                sold: dict[str, Any] = json.loads(said)
                return sold

            try:
                yield close
            finally:
                process.kill()


@pytest.fixture(scope="module")
def stack(docker: Engine) -> Iterator[Stack]:
    running = Stack(docker)
    began = time.monotonic()
    try:
        running.token = running.compose("run", "--rm", "--no-deps", "console", *ACCESS).strip()
        running.up()
        print(f"up and healthy after {time.monotonic() - began:.1f} s")
        yield running
    except BaseException:
        sys.stdout.write(running.compose("logs", "--tail", "40", check=False))
        raise
    finally:
        running.compose("down", "--volumes", "--timeout", "30", check=False)


def test_two_workers_run_hardened_and_get_their_key_from_a_file(stack: Stack) -> None:
    workers = stack.containers("worker")
    assert len(workers) == 2
    for one in [*workers, *stack.containers("exporter"), *stack.containers("redis"), *stack.containers("prometheus")]:
        assert stack.inspect(one, ".HostConfig.ReadonlyRootfs") == "true"
        assert stack.inspect(one, ".HostConfig.CapDrop") == "[ALL]"
        assert stack.inspect(one, ".HostConfig.Privileged") == "false"
        assert stack.inspect(one, ".HostConfig.Memory") != "0"
        assert KEY not in stack.docker.out("inspect", one)
    assert KEY in stack.compose("exec", "-T", "worker", "cat", "/run/secrets/api_key")
    published = stack.docker.out("ps", "--format", "{{.Ports}}")
    assert "0.0.0.0:" not in published
    assert "127.0.0.1:" in published


def test_the_console_lets_in_who_has_a_token_and_nobody_else(stack: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        stack.get("CONSOLE", "/api/v1/status")
    address = f"http://127.0.0.1:{stack.ports['CONSOLE']}/api/v1/status"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {stack.token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_doctor_finds_nothing_that_loses_money(stack: Stack) -> None:
    checks = json.loads(stack.trackdesk("doctor", "--json", check=False))["checks"]
    assert len(checks) > 5
    # The demo's Trackdesk is plain http on another machine, and doctor says so.
    assert [check["name"] for check in checks if check["level"] == "fail"] == ["base url"]


def test_the_lines_of_the_guide_sell_something_and_tell_what_became_of_it(stack: Stack) -> None:
    text = (ROOT / "docs/guides/deploy.md").read_text("utf-8")
    begins = "docker compose --env-file deploy/demo/compose.env exec worker"
    lines = [line.partition(begins)[2] for line in text.replace("\\\n", "").splitlines() if line.startswith(begins)]
    enqueue, show = [shlex.split(line)[1:] for line in lines]
    assert "accepted" in stack.trackdesk(*enqueue)
    wait_until(lambda: "delivered" in stack.trackdesk(*show), "it is delivered", within_s=60, poll_s=1)


def test_sales_survive_restarts_kills_and_an_absent_redis(stack: Stack) -> None:
    with stack.selling() as close:
        wait_until(lambda: (stack.metric("trackdesk_workers") or 0) == 2, "both workers are seen")

        stack.compose("restart", "worker")
        wait_until(lambda: stack.healthy("worker", 2), "restarted workers are well", within_s=60)

        stack.kill_as_a_crash(stack.containers("worker")[0])
        stack.docker.docker("kill", stack.containers("worker")[1])
        stack.up()  # an engine starts what crashed; what was killed by hand stays down until it is started

        stack.compose("stop", "redis")
        before = [stack.inspect(one, ".State.StartedAt") for one in stack.containers("worker")]
        wait_until(lambda: stack.get("EXPORTER", "/livez") is not None, "the exporter lives on")
        wait_until(lambda: stack.metric("trackdesk_collector_success") == 0, "the exporter says it reads nothing")
        stack.compose("start", "redis")
        wait_until(lambda: stack.metric("trackdesk_collector_success") == 1, "the store is read again", within_s=60)
        assert [stack.inspect(one, ".State.StartedAt") for one in stack.containers("worker")] == before

        stack.kill_as_a_crash(stack.containers("redis")[0])
        wait_until(lambda: stack.healthy("redis", 1), "Redis is back by itself", within_s=60)
        sold = close()
    # Whatever was in flight with a killed worker waits for its lease: 30 s.
    waiting = [f'trackdesk_jobs{{state="{state}",tenant="demo-shop"}}' for state in ("ready", "scheduled", "in_flight")]
    wait_until(lambda: sum(stack.metric(one) or 0 for one in waiting) == 0, "all is delivered", within_s=120, poll_s=1)

    recorded = Counter(stack.get("SIMULATOR", "/_simulator/ledger?format=ids&limit=1000000")["ids"])
    print(f"{len(sold['accepted'])} sales accepted, {sold['repeated']} calls repeated by the shop")
    assert len(sold["accepted"]) > 200
    assert sold["repeated"] > 0, "Redis was away: some calls must have failed"
    assert [sale for sale in sold["accepted"] if recorded[sale] != 1] == []
    audit = json.loads(stack.trackdesk("audit", "--json"))
    assert audit["discrepancies"] == []


def test_a_worker_that_is_stopped_gives_back_what_it_holds_in_time(stack: Stack) -> None:
    began = time.monotonic()
    stack.compose("stop", "worker")
    took_s = time.monotonic() - began
    print(f"two workers stopped in {took_s:.1f} s")
    assert took_s < 20
    assert {stack.inspect(one, ".State.ExitCode") for one in stack.compose("ps", "-aq", "worker").split()} == {"0"}
    stack.up()


def test_more_workers_are_one_variable(stack: Stack) -> None:
    stack.variables["TRACKDESK_WORKERS"] = "3"
    stack.up()
    wait_until(lambda: stack.metric("trackdesk_workers") == 3, "the third is seen", within_s=60)
    del stack.variables["TRACKDESK_WORKERS"]
    stack.up()
    assert len(stack.containers("worker")) == 2


def test_prometheus_sees_every_part_and_has_every_rule(stack: Stack) -> None:
    def targets() -> Counter[tuple[str, str]]:
        found = stack.get("PROMETHEUS", "/api/v1/targets")["data"]["activeTargets"]
        return Counter((one["labels"]["job"], one["health"]) for one in found)

    expected = Counter({("trackdesk-exporter", "up"): 1, ("trackdesk-worker", "up"): 2})
    wait_until(lambda: targets() == expected, "every target is up", within_s=90, poll_s=1)
    groups = stack.get("PROMETHEUS", "/api/v1/rules")["data"]["groups"]
    rules = {rule["name"] for group in groups for rule in group["rules"]}
    written = "".join(path.read_text("utf-8") for path in (ROOT / "deploy/prometheus").glob("*.yml"))
    assert {line.split(": ")[1] for line in written.splitlines() if line.strip().startswith("- alert: ")} <= rules
    # The first evaluation comes within a minute of the start.
    wait_until(
        lambda: {rule["health"] for group in stack.get("PROMETHEUS", "/api/v1/rules")["data"]["groups"]
                 for rule in group["rules"]} == {"ok"},
        "every rule was evaluated without an error", within_s=90, poll_s=2,
    )  # fmt: skip
    managers = stack.get("PROMETHEUS", "/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
    assert [one["url"] for one in managers] == ["http://alertmanager:9093/api/v2/alerts"]
    print(f"{len(rules)} rules in {len(groups)} groups, targets: {dict(targets())}")


def test_everything_taken_down_and_up_again_keeps_the_jobs(stack: Stack) -> None:
    accepted = stack.metric('trackdesk_accepted_total{tenant="demo-shop"}')
    stack.compose("down", "--timeout", "30")
    stack.up()
    assert stack.metric('trackdesk_accepted_total{tenant="demo-shop"}') == accepted
    assert json.loads(stack.trackdesk("audit", "--json"))["discrepancies"] == []
