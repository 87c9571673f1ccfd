"""deploy/systemd by systemd's own tools: the units are understood, and give away next to nothing."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.tools import ROOT, run, tool
from trackdesk_worker.config.settings import Settings

UNITS = ROOT / "deploy/systemd"
SERVICES = ("trackdesk-worker@.service", "trackdesk-console.service")
SYSTEM = Path("/lib/systemd/system")


def analyze() -> str:
    return tool("systemd-analyze", "Debian: systemd")


def test_systemd_understands_every_unit(tmp_path: Path) -> None:
    command = analyze()
    place = tmp_path / "etc/systemd/system"
    shutil.copytree(UNITS, place, ignore=shutil.ignore_patterns("*.env"))
    # The units that every machine has, and the program they start.
    shutil.copytree(SYSTEM, tmp_path / "usr/lib/systemd/system", symlinks=True)
    program = tmp_path / "opt/trackdesk/bin/trackdesk"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    names = ("trackdesk-worker@9464.service", "trackdesk-console.service", "trackdesk.target")
    done = run(command, "verify", f"--root={tmp_path}", "--man=no", *names)
    said = [line for line in done.stderr.splitlines() if "trackdesk" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_exposes_little(unit: str) -> None:
    done = run(analyze(), "security", "--offline=true", "--no-pager", "--threshold=15", UNITS / unit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Overall exposure level" in done.stdout


def test_a_unit_has_longer_to_stop_than_its_worker_takes() -> None:
    environment = dict(re.findall(r"^TRACKDESK_(\w+)=(.*)$", (UNITS / "trackdesk.env").read_text(), re.MULTILINE))
    stop_s = int(re.search(r"^TimeoutStopSec=(\d+)$", (UNITS / SERVICES[0]).read_text(), re.MULTILINE)[1])
    assert stop_s > float(environment["TIMEOUT_S"]) + 15


def test_every_setting_of_the_units_exists() -> None:
    text = "".join(path.read_text("utf-8") for path in UNITS.iterdir())
    names = {name.removesuffix("_FILE").lower() for name in re.findall(r"TRACKDESK_(\w+)=", text)}
    assert names
    assert names <= Settings.model_fields.keys()


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_gets_its_secrets_as_files(unit: str) -> None:
    text = (UNITS / unit).read_text("utf-8")
    assert "LoadCredential=redis_url:" in text
    assert "TRACKDESK_REDIS_URL_FILE=%d/redis_url" in text
    assert not re.search(r"TRACKDESK_(API_KEY|REDIS_URL)=", text)
