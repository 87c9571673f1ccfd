"""Every metric of the product, in one place. docs/reference/metrics.md is generated from this table.

Base units, seconds and bytes; money in the currency's own unit. No label ever carries an externalId, a URL or
the text of an error (`labels.py`).
"""

from dataclasses import dataclass
from enum import StrEnum

from trackdesk_worker.telemetry.labels import (
    BLOCKED_REASON,
    CURRENCY,
    DUTY,
    ENDED_STATE,
    EVENT,
    HOW,
    JOB_CLASS,
    KIND,
    LEVEL,
    OUTCOME,
    PACE,
    QUEUE,
    REASON,
    RESULT,
    SIGNAL,
    STATE,
    STATUS_CLASS,
    TENANT,
    TENANT_STATE,
    VERSION,
    Label,
)


class MetricKind(StrEnum):
    """Prometheus' types, as far as they are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Source(StrEnum):
    """Which process exports a metric."""

    WORKER = "worker"
    EXPORTER = "exporter"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper edges of a histogram; each threshold of an objective is one, so that the share below it is exact."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the labels, in order."""
        return tuple(label.name for label in self.labels)


OBJECTIVE_S = 300.0
"""A sale is to be delivered within this time of its acceptance; deploy/prometheus/objectives.yml counts by it."""
STORE_CALL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ATTEMPT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
DURABILITY_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# The upper end is the horizon (3 d) and what a redrive may add.
END_TO_END_S = (
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, OBJECTIVE_S, 600.0, 1800.0),
    *(3_600.0, 14_400.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0),
)

_C, _G, _H = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

BUILD_INFO = Metric("trackdesk_build_info", _G, "Always 1; the installed version.", (VERSION,))

# Worker processes ------------------------------------------------------------------------------------------

ATTEMPTS = Metric(
    "trackdesk_attempts_total", _C, "Requests to Trackdesk, by how they ended.", (OUTCOME, STATUS_CLASS, REASON)
)
ATTEMPT_DURATION = Metric(
    "trackdesk_attempt_duration_seconds", _H, "Time of one request, connect to last byte.", (OUTCOME,), ATTEMPT_S
)
DELIVERIES = Metric("trackdesk_deliveries_total", _C, "Sales delivered, by what Trackdesk said.", (HOW, JOB_CLASS))
END_TO_END = Metric(
    "trackdesk_end_to_end_seconds",
    _H,
    "Time from acceptance to delivery, waiting and retries included.",
    (JOB_CLASS,),
    END_TO_END_S,
)
REQUESTS_IN_FLIGHT = Metric("trackdesk_requests_in_flight", _G, "Requests this process waits for.")
CLAIMED = Metric("trackdesk_claimed_jobs_total", _C, "Jobs claimed.")
CLAIM_DURATION = Metric("trackdesk_claim_duration_seconds", _H, "Time of one claim at the store.", (), STORE_CALL_S)
SETTLED = Metric("trackdesk_settled_jobs_total", _C, "Claims settled by their holder.")
LEASES_LOST = Metric(
    "trackdesk_leases_lost_total", _C, "Claims that ended before they were settled; another process may have the job."
)
SETTLE_DURATION = Metric(
    "trackdesk_settle_duration_seconds", _H, "Time of one batch of settlements at the store.", (), STORE_CALL_S
)
STORE_ERRORS = Metric("trackdesk_store_errors_total", _C, "Calls to the store that failed and are repeated.")
SLICES = Metric("trackdesk_slices_total", _C, "Slices of the delivery loop that ran.")
MAINTENANCE = Metric(
    "trackdesk_maintenance_total", _C, "Jobs that maintenance moved or pruned, by what it did.", (KIND,)
)
DUTY_FAILURES = Metric(
    "trackdesk_duty_failures_total",
    _C,
    "Runs of a background duty that failed while the store was there; the duty rests a moment, the others go on.",
    (DUTY,),
)
TENANTS_REFUSED = Metric(
    "trackdesk_tenants_file_refused", _G, "1 while a changed tenants file is refused and the settings before it apply."
)
TELEMETRY_DROPPED = Metric(
    "trackdesk_telemetry_dropped_total",
    _C,
    "Log lines, spans and counts given up because they could not be written; deliveries went on.",
    (SIGNAL,),
)
HEARTBEAT = Metric("trackdesk_heartbeat_timestamp_seconds", _G, "Unix time of this process's last heartbeat.")

# Exporter: the store at the moment of the scrape ----------------------------------------------------------

COLLECTOR_SUCCESS = Metric(
    "trackdesk_collector_success",
    _G,
    "1 if the store was read for this scrape; 0: all metrics of the store are left out.",
)
COLLECTOR_DURATION = Metric("trackdesk_collector_duration_seconds", _G, "Time this scrape spent on the store.")
JOBS = Metric("trackdesk_jobs", _G, "Jobs by state, from the books.", (TENANT, STATE))
ACCEPTED = Metric("trackdesk_accepted_total", _C, "Sales ever accepted.", (TENANT,))
ENDED = Metric("trackdesk_ended_total", _C, "Jobs ever ended, by how; pruned ones included.", (TENANT, ENDED_STATE))
DELIVERED = Metric(
    "trackdesk_delivered_total", _C, "Sales ever delivered, by what Trackdesk said, from the books.", (TENANT, HOW)
)
LEDGER_EVENTS = Metric("trackdesk_ledger_events_total", _C, "Events counted in the books.", (EVENT,))
DEAD_JOBS = Metric("trackdesk_dead_jobs", _G, "Dead letters by the reason they are filed under.", (REASON,))
VALUE_AT_RISK = Metric(
    "trackdesk_value_at_risk", _G, "Money accepted and not yet delivered; XXX: without currency.", (STATE, CURRENCY)
)
RESIDUAL_JOBS = Metric(
    "trackdesk_audit_residual_jobs", _G, "Jobs accepted that no column of the books holds (any tenant); must be 0."
)
RESIDUAL_MONEY = Metric(
    "trackdesk_audit_residual_money", _G, "Money accepted that no column of the books holds; must be 0.", (CURRENCY,)
)
INDEX_RESIDUAL = Metric(
    "trackdesk_index_residual_jobs",
    _G,
    "Difference between an index and the books, without jobs that stand aside; must be 0.",
    (STATE,),
)
OLDEST_READY = Metric("trackdesk_oldest_ready_age_seconds", _G, "Wait of the oldest ready job; 0 if none is ready.")
OVERDUE_JOBS = Metric(
    "trackdesk_overdue_jobs",
    _G,
    "Jobs due more than a minute ago, by the state of their tenant and where they wait.",
    (TENANT_STATE, QUEUE),
)
WAITING_LATE = Metric(
    "trackdesk_waiting_late_jobs",
    _G,
    f"Ready jobs that wait longer than the objective of {OBJECTIVE_S:g} s; those of paused tenants left out.",
    (JOB_CLASS,),
)
OLDEST_OVERDUE = Metric(
    "trackdesk_oldest_overdue_age_seconds",
    _G,
    "How long ago the longest overdue job was due; 0 if none is overdue.",
    (TENANT_STATE,),
)
TENANTS = Metric(
    "trackdesk_tenants", _G, "Tenants that ever had a job, by whether theirs may leave now.", (TENANT_STATE,)
)
TENANTS_BLOCKED = Metric(
    "trackdesk_tenants_blocked", _G, "Tenants whose jobs may not leave now, and why.", (TENANT, BLOCKED_REASON)
)
DRAIN = Metric(
    "trackdesk_drain_seconds",
    _G,
    "Until the last waiting job of a tenant is sent at its present pace; absent while paused or without a limit.",
    (TENANT,),
)
LATE_JOBS = Metric(
    "trackdesk_late_jobs", _G, "Jobs that will pass their horizon before they can be sent (estimate).", (TENANT,)
)
BUDGET_SHARE = Metric(
    "trackdesk_budget_ratio",
    _G,
    "Share of its full pace a tenant has: below 1 after a 429, 0 while it is blocked.",
    (TENANT,),
)
BUDGET_RATE = Metric(
    "trackdesk_budget_rate",
    _G,
    "Requests per second a tenant may send at its present pace; 0 while it is blocked, absent without a limit.",
    (TENANT,),
)
FORECAST_RATE = Metric(
    "trackdesk_forecast_rate",
    _G,
    "Requests per second that the forecasts of drain time and late jobs assume: those of the budget, or, where a "
    "tenant used less than 90 % of it lately though jobs waited, those observed; 0 while it is blocked.",
    (TENANT, PACE),
)
BUDGET_SPENT = Metric(
    "trackdesk_budget_spent_total", _C, "Jobs ever claimed, each a request of its tenant's budget.", (TENANT,)
)
WORKERS = Metric("trackdesk_workers", _G, "Worker processes with a heartbeat in the last 15 s.")
WAKEUPS_WAITING = Metric(
    "trackdesk_wakeups_waiting", _G, "Wake-ups in the Celery queue; a few are enough for any load."
)
NEWER = Metric(
    "trackdesk_newer_jobs", _G, "Jobs that stand aside because a newer release than any worker's wrote their records."
)
ADMISSION_CLOSED = Metric("trackdesk_admission_closed", _G, "1 while enqueue refuses because Redis is nearly full.")
REDIS_AOF = Metric("trackdesk_redis_aof_enabled", _G, "1 if Redis writes an append-only file.")
REDIS_AOF_OK = Metric("trackdesk_redis_aof_write_ok", _G, "1 if its last write to the append-only file succeeded.")
REDIS_NOEVICTION = Metric("trackdesk_redis_noeviction", _G, "1 if Redis never evicts keys to make room.")
REDIS_MASTER = Metric("trackdesk_redis_master", _G, "1 if Redis takes writes; 0 on a replica.")
REDIS_MEMORY_USED = Metric("trackdesk_redis_memory_used_bytes", _G, "Memory of Redis in use.")
REDIS_MEMORY_MAX = Metric("trackdesk_redis_memory_max_bytes", _G, "Memory limit of Redis; 0 is none.")
REDIS_AOF_REWRITE_OK = Metric("trackdesk_redis_aof_rewrite_ok", _G, "1 if its last rewrite of that file succeeded.")
REDIS_AOF_DELAYED = Metric(
    "trackdesk_redis_aof_delayed_fsync_total", _C, "Times Redis had to wait for its disk, since it started."
)
REDIS_EVICTED = Metric("trackdesk_redis_evicted_keys_total", _C, "Keys Redis threw away to make room; must stay 0.")
REDIS_REPLICAS = Metric("trackdesk_redis_replicas", _G, "Replicas connected to Redis.")
REDIS_REPLICA_LAG = Metric(
    "trackdesk_redis_replica_lag_seconds", _G, "Since the slowest replica was last heard of; absent without replicas."
)
REDIS_UPTIME = Metric("trackdesk_redis_uptime_seconds", _G, "Time since Redis started.")
DURABILITY_WAIT = Metric(
    "trackdesk_durability_wait_seconds",
    _H,
    "How long an enqueue with this durability has to wait, tried by the exporter every 15 s.",
    (LEVEL,),
    DURABILITY_S,
)
DURABILITY_PROBES = Metric(
    "trackdesk_durability_probes_total", _C, "Such tries: promise met, not met in time, or not tried.", (LEVEL, RESULT)
)

WORKER_METRICS = (
    *(BUILD_INFO, ATTEMPTS, ATTEMPT_DURATION, DELIVERIES, END_TO_END, REQUESTS_IN_FLIGHT, CLAIMED, CLAIM_DURATION),
    *(SETTLED, LEASES_LOST, SETTLE_DURATION, STORE_ERRORS, SLICES, MAINTENANCE, HEARTBEAT),
    *(DUTY_FAILURES, TENANTS_REFUSED, TELEMETRY_DROPPED),
)
EXPORTER_METRICS = (
    *(BUILD_INFO, COLLECTOR_SUCCESS, COLLECTOR_DURATION, JOBS, ACCEPTED, ENDED, DELIVERED, LEDGER_EVENTS, DEAD_JOBS),
    *(VALUE_AT_RISK, RESIDUAL_JOBS, RESIDUAL_MONEY, INDEX_RESIDUAL, OLDEST_READY, OVERDUE_JOBS, OLDEST_OVERDUE),
    *(WAITING_LATE, TENANTS, TENANTS_BLOCKED, DRAIN, LATE_JOBS, BUDGET_SHARE, BUDGET_RATE, FORECAST_RATE),
    *(BUDGET_SPENT, WORKERS, WAKEUPS_WAITING, NEWER, ADMISSION_CLOSED),
    *(REDIS_AOF, REDIS_AOF_OK, REDIS_AOF_REWRITE_OK, REDIS_AOF_DELAYED),
    *(REDIS_NOEVICTION, REDIS_EVICTED, REDIS_MASTER, REDIS_REPLICAS, REDIS_REPLICA_LAG, REDIS_MEMORY_USED),
    *(REDIS_MEMORY_MAX, REDIS_UPTIME, DURABILITY_WAIT, DURABILITY_PROBES),
)
CATALOGUE = {Source.WORKER: WORKER_METRICS, Source.EXPORTER: EXPORTER_METRICS}
"""Who exports what, in the order of the reference."""
