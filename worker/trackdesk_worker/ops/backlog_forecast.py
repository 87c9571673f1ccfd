"""The backlog forecast of a tenant: its pace, its drain time, and the jobs that will be too late."""

import contextlib
from dataclasses import dataclass

from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.config.settings import SettingsInvalid
from trackdesk_worker.config.tenants import Tenants, TenantSettings
from trackdesk_worker.domain.budget_use import AT_BUDGET
from trackdesk_worker.domain.forecast import CLIMB_S, Line, Pace, late_jobs, seconds_to_send
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.store.tenant_snapshot import TenantSnapshot


@dataclass(frozen=True, slots=True)
class BacklogForecast:
    """The forecast of one tenant."""

    waiting: int
    """Jobs ready or in flight."""
    scheduled: int
    """Jobs that wait for their time; not in `drain_s`."""
    pace: Pace
    drain_s: float | None
    """Until the last waiting job is sent; None while paused, or without a rate limit."""
    late: int
    """Jobs that will pass their horizon before they can be sent; estimated from a sample."""


def forecast_of(
    tenant_snapshot: TenantSnapshot, own: TenantSettings, shares: Shares, *, now_ms: int
) -> BacklogForecast:
    """Return the forecast, from a snapshot that sampled the queues."""
    jobs = tenant_snapshot.book.jobs
    waiting = jobs[State.READY] + jobs[State.IN_FLIGHT]
    pace = pace_of(tenant_snapshot, own.limits, now_ms=now_ms)
    share_of = {JobClass.LIVE: shares.live, JobClass.RETRY: shares.retry, JobClass.REDRIVE: shares.redrive}
    lines = [Line(queue.size, share_of[name], queue.sample) for name, queue in tenant_snapshot.queues.items()]
    late = late_jobs(lines, pace, horizon_s=own.policy.horizon_s, now_ms=now_ms)
    return BacklogForecast(waiting, jobs[State.SCHEDULED], pace, seconds_to_send(waiting, pace), late)


def pace_of(tenant_snapshot: TenantSnapshot, default: Limits, *, now_ms: int) -> Pace:
    """Return the pace of a tenant; `default` applies where the tenant has no limits."""
    tenant = tenant_snapshot.record
    rate_us = default.rate_us if tenant.rate_us is None else tenant.rate_us
    starts_ms = max(tenant.frozen_until_ms, tenant.hold.probe_at_ms if tenant.hold else 0)
    factor = min(1.0, tenant.pace_factor + max(0, now_ms - tenant.frozen_until_ms) / 1000 / CLIMB_S)
    return Pace(
        rate_per_s=1_000_000 / rate_us if rate_us else None,
        starts_in_s=max(0.0, (starts_ms - now_ms) / 1000),
        factor=factor,
        paused=tenant.pause is not None,
        used=_used(tenant_snapshot, now_ms),
    )


def _used(tenant_snapshot: TenantSnapshot, now_ms: int) -> float:
    """Return the part of the budget to count on: all, unless the tenant may send and used less lately."""
    used = tenant_snapshot.budget_used(now_ms)
    return 1.0 if used >= AT_BUDGET or tenant_snapshot.record.blocked_state(now_ms) else used


class Forecaster:
    """Forecasts tenants one at a time, with the settings of each."""

    def __init__(self, tenants: Tenants, shares: Shares) -> None:
        self._tenants = tenants
        self._shares = shares

    def __call__(self, tenant_snapshot: TenantSnapshot, now_ms: int) -> BacklogForecast:
        """Return the forecast of the tenant, by its present settings."""
        with contextlib.suppress(SettingsInvalid):  # the settings before stay in force; the workers log the error
            self._tenants.refresh()
        return forecast_of(tenant_snapshot, self._tenants.get(tenant_snapshot.tenant), self._shares, now_ms=now_ms)
