"""A real Prometheus of a test's own."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.promql import PROMETHEUS
from tests.support.tools import tool
from tests.support.waiting import wait_until
from trackdesk_worker.local.embedded import free_port


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    http: httpx.Client

    def instant(self, expr: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return self._ask("query", {"query": expr} | ({} if at_s is None else {"time": at_s}))

    def range(self, expr: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """Return the result of a range query."""
        return self._ask("query_range", {"query": expr, "start": start_s, "end": end_s, "step": step_s})

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        found: list[dict[str, Any]] = self._get("alerts", {})["alerts"]
        return found

    def _ask(self, path: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(path, params)["result"]
        return found

    def _get(self, path: str, params: Mapping[str, Any]) -> Any:
        address = f"/api/v1/{path}"
        said = (self.http.post(address, data=dict(params)) if params else self.http.get(address)).json()
        assert said["status"] == "success", said
        return said["data"]


@contextmanager
def prometheus(
    directory: Path, config: Mapping[str, Any], files: Mapping[str, str | Path] | None = None
) -> Iterator[Prometheus]:
    """Run one over `directory`/data while the block runs; `files` lie beside its configuration."""
    binary = tool("prometheus")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    for name, content in (files or {}).items():
        text = content.read_text("utf-8") if isinstance(content, Path) else content
        (directory / name).write_text(text, "utf-8")
    port = free_port()
    command = [binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=30d"]
    with (directory / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)

    def ready() -> bool:
        assert process.poll() is None, (directory / "prometheus.log").read_text("utf-8")
        try:
            return http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(ready, "Prometheus ready")
        yield Prometheus(http)
    finally:
        http.close()
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def import_openmetrics(file: Path, directory: Path) -> None:
    """Make a Prometheus in `directory` remember what is in `file`."""
    _promtool("tsdb", "create-blocks-from", "openmetrics", str(file), str(directory / "data"))


def import_rules(server: Prometheus, directory: Path, rules: Path, span_s: tuple[float, float]) -> None:
    """Record rules over a time that has passed; the Prometheus in `directory` knows it after its next start."""
    start, end = (str(int(moment)) for moment in span_s)
    made = directory / "recorded"
    _promtool(
        *("tsdb", "create-blocks-from", "rules", f"--start={start}", f"--end={end}", f"--url={server.http.base_url}"),
        *("--eval-interval=30s", f"--output-dir={made}", str(rules)),
    )
    for block in made.iterdir():
        shutil.move(block, directory / "data" / block.name)


def _promtool(*arguments: str) -> None:
    done = subprocess.run([tool("promtool"), *arguments], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def rules_config(*, every_s: float = 1.0, scrape: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return a configuration with our rules, evaluated often."""
    return {
        "global": {"scrape_interval": f"{every_s:g}s", "evaluation_interval": f"{every_s:g}s"},
        "rule_files": ["objectives.yml", "rules.yml"],
        "scrape_configs": list(scrape),
    }


def recording_rules_only() -> str:
    """Return objectives.yml without its alerts: promtool records no alerts of the past."""
    whole = yaml.safe_load((PROMETHEUS / "objectives.yml").read_text("utf-8"))
    for group in whole["groups"]:
        del group["interval"]
        group["rules"] = [rule for rule in group["rules"] if "record" in rule]
    return yaml.safe_dump(whole)
