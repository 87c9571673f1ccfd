"""What a worker process counts, and that its label sets stay bounded."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from trackdesk_worker.domain.outcome import Reason
from trackdesk_worker.telemetry.catalogue import ATTEMPT_S, END_TO_END_S, WORKER_METRICS, MetricKind
from trackdesk_worker.telemetry.labels import TenantNames, status_class
from trackdesk_worker.telemetry.metrics import WorkerMetrics


@pytest.fixture
def metrics() -> WorkerMetrics:
    return WorkerMetrics(clock=lambda: 1234.5)


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_an_attempt_is_counted_by_outcome_status_class_and_reason(metrics: WorkerMetrics) -> None:
    metrics.attempt(outcome="retryable", status=503, reason=Reason.SERVER_ERROR, duration_s=0.3)
    metrics.attempt(outcome="ambiguous", status=None, reason=Reason.TIMEOUT, duration_s=10)

    counted = "trackdesk_attempts_total"
    assert value(metrics, counted, outcome="retryable", status_class="5xx", reason="server_error") == 1
    assert value(metrics, counted, outcome="ambiguous", status_class="none", reason="timeout") == 1
    assert value(metrics, "trackdesk_attempt_duration_seconds_sum", outcome="retryable") == 0.3


def test_values_from_outside_never_make_new_series(metrics: WorkerMetrics) -> None:
    for n in range(100):
        metrics.attempt(outcome=f"o{n}", status=1000 + n, reason=f"https://x/{n}", duration_s=1)
        metrics.delivered(how=f"h{n}", end_to_end_s=1, job_class=f"c{n}")
        metrics.maintenance(f"k{n}", 1)

    other = {"outcome": "other", "status_class": "other", "reason": "other"}
    assert value(metrics, "trackdesk_attempts_total", **other) == 100
    assert value(metrics, "trackdesk_deliveries_total", how="other", **{"class": "other"}) == 100
    assert value(metrics, "trackdesk_maintenance_total", kind="other") == 100


def test_a_delivery_is_counted_and_timed_from_acceptance(metrics: WorkerMetrics) -> None:
    metrics.delivered(how="paired", end_to_end_s=299, job_class="live")
    metrics.delivered(how="paired", end_to_end_s=301, job_class="live")
    metrics.delivered(how="unpaired", end_to_end_s=-0.02, job_class="retry")  # a clock that is behind

    within = "trackdesk_end_to_end_seconds_bucket"
    assert value(metrics, within, le="300.0", **{"class": "live"}) == 1
    assert value(metrics, within, le="600.0", **{"class": "live"}) == 2
    assert value(metrics, within, le="0.1", **{"class": "retry"}) == 1
    assert value(metrics, "trackdesk_deliveries_total", how="paired", **{"class": "live"}) == 2


def test_a_lost_lease_is_not_counted_as_settled(metrics: WorkerMetrics) -> None:
    metrics.settled(5, 2, 0.01)

    assert value(metrics, "trackdesk_settled_jobs_total") == 3
    assert value(metrics, "trackdesk_leases_lost_total") == 2


def test_claims_slices_errors_requests_and_heartbeats_are_counted(metrics: WorkerMetrics) -> None:
    metrics.claimed(7, 0.002)
    metrics.in_flight(4)
    metrics.slice()
    metrics.store_error()
    metrics.maintenance("promoted", 3)
    metrics.heartbeat()

    assert value(metrics, "trackdesk_claimed_jobs_total") == 7
    assert value(metrics, "trackdesk_claim_duration_seconds_count") == 1
    assert value(metrics, "trackdesk_requests_in_flight") == 4
    assert value(metrics, "trackdesk_slices_total") == 1
    assert value(metrics, "trackdesk_store_errors_total") == 1
    assert value(metrics, "trackdesk_maintenance_total", kind="promoted") == 3
    assert value(metrics, "trackdesk_heartbeat_timestamp_seconds") == 1234.5


def test_the_registry_holds_exactly_what_the_catalogue_says(metrics: WorkerMetrics) -> None:
    families = {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        if family.name.startswith("trackdesk_")
    }
    promised = {m.name.removesuffix("_total") if m.kind is MetricKind.COUNTER else m.name: m for m in WORKER_METRICS}

    assert families.keys() == promised.keys()
    for name, metric in promised.items():
        assert families[name].type == metric.kind
        assert families[name].documentation == metric.help


def test_buckets_have_an_edge_at_each_objective_and_span_what_can_happen() -> None:
    assert {0.05, 60.0} == {ATTEMPT_S[0], ATTEMPT_S[-1]}
    assert END_TO_END_S[0] == 0.1
    assert 300.0 in END_TO_END_S
    assert END_TO_END_S[-1] == 7 * 86_400
    assert list(END_TO_END_S) == sorted(END_TO_END_S)


@pytest.mark.parametrize(
    ("status", "expected"), [(200, "2xx"), (429, "4xx"), (503, "5xx"), (None, "none"), (999, "other")]
)
def test_a_status_has_one_of_a_few_classes(status: int | None, expected: str) -> None:
    assert status_class(status) == expected


def test_the_largest_tenants_have_names_and_keep_them() -> None:
    names = TenantNames(2)
    names.admit({"small": 1, "large": 100, "middle": 10})
    names.admit({"small": 1, "large": 100, "middle": 10, "huge": 10_000})

    assert [names.of(t) for t in ("large", "middle", "small", "huge")] == ["large", "middle", "other", "other"]


def test_a_tenant_asked_for_has_a_name_whatever_its_size() -> None:
    names = TenantNames(1, always=["tiny"])
    names.admit({"tiny": 1, "large": 100})

    assert (names.of("tiny"), names.of("large")) == ("tiny", "other")
