"""The catalogue keeps its own rules."""

import re

import pytest

from trackdesk_worker.telemetry.catalogue import CATALOGUE, Metric, MetricKind

METRICS = sorted({m for metrics in CATALOGUE.values() for m in metrics}, key=lambda metric: metric.name)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_the_conventions(metric: Metric) -> None:
    assert re.fullmatch(r"trackdesk_[a-z_]+[a-z]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
    assert not re.search(r"_(ms|millis|milliseconds|kb|mb|percent)(_|$)", metric.name)
    assert metric.help.endswith(".")


def test_no_label_could_carry_an_id_an_address_or_an_error() -> None:
    unbounded = {label.name for metric in METRICS for label in metric.labels if not label.values}
    assert unbounded == {"tenant", "version"}  # capped by TenantNames; the one installed version
