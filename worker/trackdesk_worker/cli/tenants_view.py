"""Tenants as `status` and `tenants` show them."""

from typing import Any

from rich.table import Table

from trackdesk_producer.contract.record import State
from trackdesk_worker.cli.output import add_row, table
from trackdesk_worker.domain.forecast import PaceBasis
from trackdesk_worker.domain.money import readable_money
from trackdesk_worker.ops.backlog_forecast import BacklogForecast
from trackdesk_worker.ops.status import StoreStatus
from trackdesk_worker.ops.timestamps import iso, readable_age, readable_moment
from trackdesk_worker.store.tenant_record import BlockedTenant

_STATES = (State.READY, State.SCHEDULED, State.IN_FLIGHT, State.DEAD)


def tenants_table(status: StoreStatus) -> Table:
    """Return a row per tenant: backlog, pace and drain time."""
    numbers = ("ready", "scheduled", "in flight", "dead", "at risk", "pace", "drained in", "late")
    rows = table("tenant", *numbers, right=numbers)
    for tenant, book in status.books.items():
        forecast = status.forecasts[tenant]
        counts = [f"{book.jobs[state]:,}" for state in _STATES]
        drain = "-" if forecast.drain_s is None else readable_age(forecast.drain_s) if forecast.waiting else "now"
        add_row(rows, tenant, *counts, readable_money(book.at_risk), _pace(forecast), drain, f"{forecast.late:,}")
    return rows


def blocked_table(status: StoreStatus) -> Table:
    """Return a row per blocked tenant."""
    rows = table("blocked tenant", "why", "by", "since (UTC)", "until (UTC)")
    for blocked in status.blocked:
        since, until = (None if at is None else readable_moment(at) for at in (blocked.since_ms, blocked.until_ms))
        add_row(rows, blocked.tenant, f"{blocked.kind}: {blocked.reason}", blocked.by, since, until)
    return rows


def forecast_json(forecast: BacklogForecast) -> dict[str, Any]:
    """Return the forecast, for programs."""
    return {
        "rate_per_s": forecast.pace.rate_per_s,
        "budget_ratio": round(forecast.pace.factor, 3),
        "pace": forecast.pace.basis.value,
        "budget_used_ratio": round(forecast.pace.used, 5),
        "starts_in_s": round(forecast.pace.starts_in_s, 3),
        "drain_s": None if forecast.drain_s is None else round(forecast.drain_s, 1),
        "late_jobs": forecast.late,
    }


def blocked_json(blocked: BlockedTenant) -> dict[str, Any]:
    """Return one block, for programs."""
    return {
        "tenant": blocked.tenant,
        "kind": blocked.kind,
        "reason": blocked.reason,
        "by": blocked.by,
        "since": None if blocked.since_ms is None else iso(blocked.since_ms),
        "until": None if blocked.until_ms is None else iso(blocked.until_ms),
    }


def _pace(forecast: BacklogForecast) -> str:
    if forecast.pace.rate_per_s is None:
        return "no limit"
    full = f"{forecast.pace.rate_per_s:g}/s"
    now = (forecast.pace.sent_per_s or 0) * forecast.pace.factor
    if forecast.pace.basis is PaceBasis.OBSERVED:
        return f"{now:.2g} observed of {full}"
    return full if forecast.pace.factor == 1 else f"{now:.1f} of {full}"
