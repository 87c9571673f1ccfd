"""A share of the firing drill: real Prometheus and Alertmanager, the product's processes. All of it: `make drill`."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.promql import rules
from tests.tools.drill.runner import drill, table
from tests.tools.drill.scenarios import SCENARIOS, Act, Scenario
from tests.tools.drill.stack import stack

pytestmark = [pytest.mark.chaos, pytest.mark.system]
AT_ONCE = ("it may evict", "a column of the books is changed", "the key is refused (401)")


def named(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def test_alerts_fire_when_something_breaks_reach_their_receiver_and_resolve_when_it_is_repaired(tmp_path: Path) -> None:
    several = [named(name) for name in AT_ONCE]

    def all_of(acts: Sequence[Act]) -> Act:
        return lambda running: [act(running) for act in acts]

    at_once = Scenario(
        "several things at once",
        [alert for scenario in several for alert in scenario.alerts],
        all_of([scenario.damage for scenario in several]),
        all_of([scenario.repair for scenario in several]),
        quiet=["TrackdeskNoWorkers", "TrackdeskAdmissionClosed"],
    )
    with stack(tmp_path, factor=300) as (running, _):
        rows = drill(running, [at_once, named("the exporter is killed")], lambda _: None)
    assert not [row for row in rows if row.wrong or row.notified != "pager"], table(rows)


def test_there_is_a_scenario_for_every_alert() -> None:
    assert {rule["alert"] for rule in rules() if "alert" in rule} == {
        alert for scenario in SCENARIOS for alert in scenario.alerts
    }
