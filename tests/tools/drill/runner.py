"""Runs scenarios one after the other and reports what was seen of each alert: fired, resolved, notified."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.support.waiting import comes
from tests.tools.drill.scenarios import PATIENCE_S, SLOW_TO_RESOLVE, Scenario
from tests.tools.drill.stack import About, Stack, Watch


@dataclass(frozen=True)
class Row:
    """What was seen of one alert in one scenario."""

    scenario: str
    alert: str
    fired_s: float | None = None
    resolved_s: float | None = None
    notified: str = ""
    wrong: str = ""


def drill(running: Stack, scenarios: Sequence[Scenario], notify: Callable[[str], None] = print) -> list[Row]:
    """Run scenarios one after the other."""
    rows: list[Row] = []
    waiting: list[tuple[str, str, float, float]] = []
    for scenario in scenarios:
        notify(f"… {scenario.name}")
        found, later = _one(running, scenario)
        for row in found:
            notify(_line(row))
        rows += found
        waiting += later
    for name, alert, broken, repaired in waiting:
        notify(f"… {alert} resolves")
        rows.append(_end(running, name, alert, broken, repaired, within_s=900))
    return rows


def _one(running: Stack, scenario: Scenario) -> tuple[list[Row], list[tuple[str, str, float, float]]]:
    watch = running.watch
    broken = time.monotonic()
    scenario.damage(running)
    for alert in scenario.alerts:
        comes(partial(_has_fired, watch, alert, broken, scenario.about), within_s=PATIENCE_S, poll_s=0.1)
    repaired = time.monotonic()
    scenario.repair(running)
    rows, later = [], []
    for alert in scenario.alerts:
        if watch.fired(alert, broken, scenario.about) is None:
            rows.append(Row(scenario.name, alert, wrong="did not fire"))
        elif alert in SLOW_TO_RESOLVE:
            later.append((scenario.name, alert, broken, repaired))
        else:
            rows.append(
                _end(running, scenario.name, alert, broken, repaired, within_s=PATIENCE_S, about=scenario.about)
            )
    rows += [
        Row(scenario.name, alert, wrong="fired, and should not")
        for alert in scenario.quiet
        if watch.fired(alert, broken) is not None
    ]
    return rows, later


def _has_fired(watch: Watch, alert: str, since: float, about: About) -> bool:
    return watch.fired(alert, since, about) is not None


def _end(
    running: Stack,
    name: str,
    alert: str,
    broken: float,
    repaired: float,
    *,
    within_s: float,
    about: Callable[[dict[str, str]], bool] = lambda _: True,
) -> Row:
    watch = running.watch
    first = watch.fired(alert, broken, about)
    assert first is not None
    if not comes(lambda: not watch.firing(alert, about), within_s=within_s, poll_s=0.1):
        return Row(name, alert, first.fired_at - broken, wrong="did not resolve")
    last = watch.last_end(alert, about)
    # Notifications follow within their group's interval, unless another alert silences this one.
    comes(lambda: watch.notified(alert, "resolved") is not None, within_s=15, poll_s=0.1)
    notified = watch.notified(alert, "firing")
    return Row(name, alert, first.fired_at - broken, last - repaired, notified or "silenced by another alert")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    lines = ["| what was broken | alert | fired after | resolved after | notified |", "|---|---|--:|--:|---|"]
    return "\n".join([*lines, *map(_line, rows)])


def _line(row: Row) -> str:
    fired = "" if row.fired_s is None else f"{row.fired_s:.0f} s"
    resolved = "" if row.resolved_s is None else f"{max(0.0, row.resolved_s):.0f} s"
    return f"| {row.scenario} | {row.alert} | {fired} | {resolved} | {row.wrong or row.notified} |"
