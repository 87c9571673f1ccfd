"""What is ahead of a tenant: its pace, its drain time, and what will be too late. For status, commands and metrics."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from trackdesk_producer.contract.record import JobClass, State
from trackdesk_worker.config.settings import SettingsInvalid
from trackdesk_worker.config.tenants import Tenants, TenantSettings
from trackdesk_worker.domain.forecast import CLIMB_S, Line, Pace, late_jobs, seconds_to_send
from trackdesk_worker.domain.limits import Limits, Shares
from trackdesk_worker.store.tenant_snapshot import TenantSnapshot


@dataclass(frozen=True, slots=True)
class BacklogForecast:
    """What is ahead of one tenant."""

    waiting: int
    """Jobs ready or in flight."""
    scheduled: int
    """Jobs that wait for their time; not in `drain_s`."""
    pace: Pace
    drain_s: float | None
    """Until the last waiting job is sent; None while paused, or without a limit to reckon with."""
    late: int
    """Jobs that will pass their horizon before they can be sent; estimated from a sample."""


def forecast_of(
    tenant_snapshot: TenantSnapshot, own: TenantSettings, shares: Shares, *, now_ms: int
) -> BacklogForecast:
    """Look ahead, from a snapshot that sampled the queues."""
    jobs = tenant_snapshot.book.jobs
    waiting = jobs[State.READY] + jobs[State.IN_FLIGHT]
    pace = pace_of(tenant_snapshot.state, own.limits, now_ms=now_ms)
    share_of = {JobClass.LIVE: shares.live, JobClass.RETRY: shares.retry, JobClass.REDRIVE: shares.redrive}
    lines = [Line(queue.size, share_of[name], queue.sample) for name, queue in tenant_snapshot.queues.items()]
    late = late_jobs(lines, pace, horizon_s=own.policy.horizon_s, now_ms=now_ms)
    return BacklogForecast(waiting, jobs[State.SCHEDULED], pace, seconds_to_send(waiting, pace), late)


def pace_of(state: Mapping[str, str], default: Limits, *, now_ms: int) -> Pace:
    """Read the pace from a tenant's operational state; `default` holds where it has no limits of its own."""
    rate_us = int(state.get("rate_us", default.rate_us))
    frozen_until = int(state.get("frozen_until", 0))
    starts_ms = max(frozen_until, int(state.get("probe_at", 0)) if "hold" in state else 0)
    factor = float(state.get("factor", 1))
    factor = min(1.0, factor + max(0, now_ms - frozen_until) / 1000 / CLIMB_S)
    return Pace(
        rate_per_s=1_000_000 / rate_us if rate_us else None,
        starts_in_s=max(0.0, (starts_ms - now_ms) / 1000),
        factor=factor,
        paused="paused" in state,
    )


class Forecaster:
    """Looks ahead for tenant after tenant, with the settings each has."""

    def __init__(self, tenants: Tenants, shares: Shares) -> None:
        self._tenants = tenants
        self._shares = shares

    def __call__(self, tenant_snapshot: TenantSnapshot, now_ms: int) -> BacklogForecast:
        """Return what is ahead of the tenant, by the settings as they are now."""
        with contextlib.suppress(SettingsInvalid):  # those before stay in force; the workers say what is wrong
            self._tenants.refresh()
        return forecast_of(tenant_snapshot, self._tenants.get(tenant_snapshot.tenant), self._shares, now_ms=now_ms)
