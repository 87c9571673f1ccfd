"""What a PromQL expression asks for: its selectors, and whether the product has such metrics with such labels."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml

from trackdesk_worker.telemetry.catalogue import CATALOGUE, MetricKind

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULE_FILES = ("objectives.yml", "rules.yml")
OF_TARGETS = {"job", "instance"}
OF_PROCESSES = {
    *("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"),
    "process_start_time_seconds",
}


@cache
def rules() -> tuple[dict[str, Any], ...]:
    """All rules, in the order of their files."""
    files = [yaml.safe_load((PROMETHEUS / file).read_text("utf-8")) for file in RULE_FILES]
    return tuple(rule for file in files for group in file["groups"] for rule in group["rules"])


def selectors(expression: str) -> list[Any]:
    """Return the vector selectors of an expression; raises ValueError if it is not PromQL."""
    return list(_walk(promql_parser.parse(expression)))


def _walk(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, str):
            yield from _walk(child)
    for child in getattr(node, "args", None) or []:
        yield from _walk(child)


@cache
def exported() -> dict[str, set[str]]:
    """Series the product exports, and those that the rules record: name → labels."""
    found: dict[str, set[str]] = {"up": set(), **{name: set() for name in OF_PROCESSES}}
    for metrics in CATALOGUE.values():
        for metric in metrics:
            labels = set(metric.label_names)
            if metric.kind is MetricKind.HISTOGRAM:
                found |= {metric.name + "_sum": labels, metric.name + "_count": labels}
                found[metric.name + "_bucket"] = labels | {"le"}
            else:
                found[metric.name] = labels
    found |= {rule["record"]: {"class"} for rule in rules() if "record" in rule}
    return found


def strangers(expression: str) -> list[str]:
    """Return selectors that no series of ours can answer: an unknown metric, label, or bucket edge."""
    wrong = []
    for selector in selectors(expression):
        labels = exported().get(selector.name)
        matchers = selector.matchers.matchers
        if labels is None or not {matcher.name for matcher in matchers} <= labels | OF_TARGETS:
            wrong.append(str(selector))
            continue
        edges = [matcher.value for matcher in matchers if matcher.name == "le"]
        wrong += [f"{selector.name} le={edge}" for edge in edges if edge not in _edges(selector.name)]
    return wrong


def _edges(bucket: str) -> set[str]:
    metrics = {metric.name + "_bucket": metric for metrics in CATALOGUE.values() for metric in metrics}
    return {str(float(edge)) for edge in metrics[bucket].buckets} | {"+Inf"}
