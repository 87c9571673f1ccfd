"""The committed rules in a hurry: the same expressions with every duration divided by one factor.

So that a drill sees in seconds what production sees in minutes. Divided are `for`, ranges, offsets, subqueries,
thresholds on seconds, and the edge of the objective's bucket (to the nearest one there is); nothing else changes. The
product keeps its own times: a heartbeat counts for 30 s, work is overdue after 60 s, durability is tried every 15 s.
"""

import re
from typing import Any

import yaml

from tests.support.promql import PROMETHEUS, ROOT
from trackdesk_worker.exporter.durability_probe import PERIOD_S
from trackdesk_worker.telemetry.catalogue import END_TO_END_S

LEAST_RANGE_S = 5
"""Shorter ranges would hold too few scrapes, one a second, to say anything."""
LEAST_RANGE_OF_PROBES_S = round(3 * PERIOD_S)

_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_RANGE = re.compile(r"(\w+\{[^}]*\}|\w+\)|\w+|\))\[(\w+)(:\w+)?\]")
_OFFSET = re.compile(r"offset (\w+)")
_SECONDS = re.compile(r"(_seconds(?:\{[^}]*\})?\) > )(\d+)")
_EDGE = re.compile(r'le="([\d.]+)"')


def seconds(duration: str) -> float:
    """Return a Prometheus duration in seconds."""
    return sum(int(number) * _UNITS_S[unit] for number, unit in _DURATION.findall(duration))


def quick(expr: str, factor: float) -> str:
    """Return the expression with its times divided."""

    def shorten(found: re.Match[str]) -> str:
        least = LEAST_RANGE_OF_PROBES_S if "durability" in found[1] else LEAST_RANGE_S
        return f"{found[1]}[{max(least, round(seconds(found[2]) / factor))}s{':1s' if found[3] else ''}]"

    expr = _RANGE.sub(shorten, expr)
    expr = _OFFSET.sub(lambda found: f"offset {max(1, round(seconds(found[1]) / factor))}s", expr)
    expr = _SECONDS.sub(lambda found: f"{found[1]}{int(found[2]) / factor:g}", expr)
    return _EDGE.sub(lambda found: f'le="{_nearest(float(found[1]) / factor)}"', expr)


def _nearest(edge: float) -> float:
    return min(END_TO_END_S, key=lambda known: abs(known - edge))


def quick_rules(file: str, factor: float) -> str:
    """Return a rule file with its times divided."""
    whole = yaml.safe_load((PROMETHEUS / file).read_text("utf-8"))
    for group in whole["groups"]:
        group.pop("interval", None)
        for rule in group["rules"]:
            rule["expr"] = quick(rule["expr"], factor)
            if "for" in rule:
                rule["for"] = f"{round(seconds(rule['for']) / factor * 1000)}ms"
    return yaml.safe_dump(whole, sort_keys=False)


def quick_alertmanager(webhook: str, factor: float) -> str:
    """Return Alertmanager's example with its times divided, both receivers posting to `webhook`."""
    whole = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text("utf-8"))

    def hurry(route: dict[str, Any]) -> None:
        for name in ("group_wait", "group_interval", "repeat_interval"):
            if name in route:
                route[name] = f"{max(500, round(seconds(route[name]) / factor * 1000))}ms"
        for child in route.get("routes", []):
            hurry(child)

    hurry(whole["route"])
    for receiver in whole["receivers"]:
        receiver["webhook_configs"] = [{"url": f"{webhook}/{receiver['name']}", "send_resolved": True}]
    return yaml.safe_dump(whole, sort_keys=False)
