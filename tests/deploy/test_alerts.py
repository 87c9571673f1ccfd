"""Rules, alerts, their runbook and their links: valid by their own tools, and true to what the product exports."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promql import PROMETHEUS, ROOT, exported, rules, strangers
from tests.support.tools import tool

RULE_TESTS = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text("utf-8"))["tests"]
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"
RUNBOOK = (ROOT / "docs/runbook.md").read_text("utf-8")
DASHBOARDS = {
    board["uid"]: {panel["id"] for panel in board["panels"]}
    for board in (json.loads(file.read_text("utf-8")) for file in (ROOT / "deploy/grafana/dashboards").glob("*.json"))
}
BASES = {"runbook_base": "https://wiki.example/trackdesk", "grafana_base": "https://grafana.example"}


def run(name: str, *arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run([tool(name), *arguments], check=False, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_accepts_its_configuration_and_rules() -> None:
    run("promtool", "check", "config", "prometheus.yml", cwd=PROMETHEUS)


def test_each_alert_fires_and_stays_quiet_when_it_should() -> None:
    run("promtool", "test", "rules", "rules_test.yml", cwd=PROMETHEUS)


def test_alertmanager_accepts_its_configuration_and_sends_pages_to_the_pager() -> None:
    run("amtool", "check-config", str(ALERTMANAGER))
    for severity, receiver in (("page", "pager"), ("ticket", "tickets")):
        route = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}")
        assert route.split() == [receiver]


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    inhibitions = yaml.safe_load(ALERTMANAGER.read_text("utf-8"))["inhibit_rules"]
    matchers = [text for rule in inhibitions for side in ("source", "target") for text in rule[f"{side}_matchers"]]
    for matcher in matchers:
        pattern = re.fullmatch(r'alertname=~?"(.+)"', matcher)[1]
        for name in pattern.split("|"):
            assert any(re.fullmatch(name, alert) for alert in ALERTS), name


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_quiet_with_links_that_can_be_set(alert: str) -> None:
    cases = [case for test in RULE_TESTS for case in test["alert_rule_test"] if case["alertname"] == alert]
    assert any(case["exp_alerts"] for case in cases)
    assert any(not case["exp_alerts"] for case in cases)
    with_bases = [test for test in RULE_TESTS if test.get("external_labels") == BASES]
    annotated = [
        expected["exp_annotations"]
        for test in with_bases
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
        for expected in case["exp_alerts"]
    ]
    assert annotated
    for annotations in annotated:
        assert annotations["runbook_url"] == f"{BASES['runbook_base']}#{alert.lower()}"
        assert annotations["dashboard_url"].startswith(f"{BASES['grafana_base']}/d/")


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_leads_to_its_runbook_entry_and_its_panel(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url", "dashboard_url"} == rule["annotations"].keys()
    assert rule["annotations"]["runbook_url"].endswith(f"#{alert.lower()}")
    board, panel = re.search(r"/d/([a-z-]+)\?viewPanel=(\d+)$", rule["annotations"]["dashboard_url"]).groups()
    assert int(panel) in DASHBOARDS[board]

    entry = RUNBOOK.partition(f"\n### {alert}\n")[2].split("\n### ")[0]
    parts = [entry.find(f"**{part}") for part in ("Means.", "Look.", "Do.", "Worked when")]
    assert -1 not in parts
    assert parts == sorted(parts)


def test_no_runbook_entry_is_about_an_alert_that_is_gone() -> None:
    assert sorted(re.findall(r"^### (Trackdesk\w+)$", RUNBOOK, re.MULTILINE)) == sorted(ALERTS)


def test_the_runbook_s_index_has_every_alert_with_its_anchor_and_its_urgency() -> None:
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| (page|ticket) \| ", RUNBOOK, re.MULTILINE)
    assert sorted(rows) == sorted((name, name.lower(), rule["labels"]["severity"]) for name, rule in ALERTS.items())


def test_links_lead_to_the_runbook_unless_a_base_is_set() -> None:
    default = re.escape('{{ or $externalLabels.runbook_base "docs/runbook.md" }}#')
    assert all(re.match(default, rule["annotations"]["runbook_url"]) for rule in ALERTS.values())


def test_a_panel_named_in_the_runbook_exists() -> None:
    boards = [json.loads(file.read_text("utf-8")) for file in (ROOT / "deploy/grafana/dashboards").glob("*.json")]
    titles = {
        f"{board['title'].removeprefix('Trackdesk: ')} / {panel['title']}"
        for board in boards
        for panel in board["panels"]
    }
    named = {" ".join(name.split()) for name in re.findall(r"\*([a-z ]+ /[^*]+)\*", RUNBOOK)}
    assert named
    assert named <= titles


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_only_for_what_is_exported(rule: dict[str, Any]) -> None:
    assert strangers(rule["expr"]) == []


NOT_METRICS = {"trackdesk_store", "trackdesk_producer", "trackdesk_worker", "trackdesk_simulator"}
"""A network of compose, and packages."""
PAGES = [PROMETHEUS / "rules_test.yml", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("file", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_metric_named_is_exported(file: Path) -> None:
    text = file.read_text("utf-8")
    named = set(re.findall(r"\btrackdesk[_:][a-z0-9_:]*[a-z0-9]\b", text)) - NOT_METRICS
    assert named <= exported().keys() | {name.removesuffix("_bucket") for name in exported()}
