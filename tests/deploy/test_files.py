"""The files in deploy/ are valid by their own tools, and agree with each other and with the code."""

import os
import re
import sys
from pathlib import Path

from tests.conftest import server_binary
from tests.support.tools import run
from trackdesk_worker.config.settings import Settings
from trackdesk_worker.local.embedded import SAFE_CONFIG, EmbeddedServer

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")


def test_compose_accepts_its_file() -> None:
    done = run(Path(sys.executable).with_name("docker-compose"), "config", "-q")
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_has_no_obsolete_version_and_publishes_on_loopback_only() -> None:
    assert not re.search(r"^version:", COMPOSE, re.MULTILINE)
    published = re.findall(r"ports: \[(.*)\]", COMPOSE)
    assert published
    assert all(port.startswith('"127.0.0.1:') for line in published for port in line.split(", "))


def test_every_setting_compose_passes_exists() -> None:
    names = set(re.findall(r"^ +TRACKDESK_([A-Z_]+): ", COMPOSE, re.MULTILINE))
    assert names
    assert {name.removesuffix("_FILE").lower() for name in names} <= Settings.model_fields.keys()


def test_a_container_has_longer_to_stop_than_its_worker_takes() -> None:
    worker = COMPOSE.split("\n  worker:")[1].split("\n  exporter:")[0]
    grace_s = int(re.search(r"stop_grace_period: (\d+)s", worker)[1])
    timeout_s = int(re.search(r'TIMEOUT_S: "(\d+)"', worker)[1])
    assert grace_s > timeout_s + 15


def test_the_image_runs_as_a_numeric_user_and_checks_itself_in_python() -> None:
    dockerfile = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    stages = dockerfile.split("\nFROM ")
    runtime = next(stage for stage in stages if stage.startswith("${BASE_IMAGE} AS runtime"))
    final = runtime + stages[-1]
    assert stages[-1].startswith("runtime\n")
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.search(r'HEALTHCHECK .*\\\n +CMD \["python", ', final)
    assert re.search(r'^ENTRYPOINT \["', final, re.MULTILINE)
    assert "# syntax=" not in dockerfile
    assert re.findall(r"^ARG .*", dockerfile, re.MULTILINE) == ["ARG BASE_IMAGE=python:3.13-slim"]


def test_redis_starts_with_its_file_and_is_safe(tmp_path: Path) -> None:
    lines = (ROOT / "deploy/redis/redis.conf").read_text("utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if line and not line.startswith("#")]
    config = {name: value.strip('"') for name, value in pairs}
    # Of the container alone: its volume and its network.
    here = {name: value for name, value in config.items() if name not in ("dir", "bind")}
    server = EmbeddedServer(tmp_path, binary=server_binary("valkey"), config=here)
    server.start()
    server.stop()
    assert {name: config[name] for name in SAFE_CONFIG} == dict(SAFE_CONFIG)
    assert config["maxmemory"] == "1gb"


def test_the_entry_of_ci_is_valid_bash() -> None:
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert run("bash", "-n", ".ci/run").stderr == ""
