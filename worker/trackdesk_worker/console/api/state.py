"""Endpoints for status, tenants and the audit log."""

from starlette.responses import Response, StreamingResponse

from trackdesk_producer.contract.record import State
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.api import Call, Endpoint
from trackdesk_worker.console.api import models as m
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages.overview import SHOWN_STATES, blocked_of, busiest, state_money
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.audit_log import Operator, read_page, walk_entries
from trackdesk_worker.ops.status import StoreStatus, read_status
from trackdesk_worker.ops.timestamps import iso
from trackdesk_worker.store.snapshot import WORKER_SEEN_S
from trackdesk_worker.store.tenant_record import BlockedTenant


def _status(deployment: Deployment, _: Call) -> m.Status:
    status = read_status(deployment.store, deployment.forecaster)
    book = status.book
    return m.Status(
        jobs=status.jobs,
        accepted=book.jobs["accepted"],
        money={state.value: plain_money(state_money(status, state)) for state in State},
        money_at_risk=plain_money(status.at_risk),
        oldest_ready_age_s=status.oldest_ready_age_s,
        oldest_overdue_s=status.oldest_overdue_s,
        books_balance=not book.residual_jobs and not book.residual_money,
        admission_closed=status.admission_closed,
        workers=[
            m.WorkerSeen(worker=name, seen_s_ago=round(age_s, 3), running=age_s <= WORKER_SEEN_S)
            for name, age_s in status.workers.items()
        ],
    )


def _tenants(deployment: Deployment, call: Call) -> m.Tenants:
    status = read_status(deployment.store, deployment.forecaster)
    find = call.query.find or ""
    blocked = blocked_of(status)
    return m.Tenants(
        tenants=[_tenant(status, name, blocked.get(name, [])) for name in busiest(status, call.query.limit, find)],
        found=sum(1 for name in status.books if find in name),
    )


def _tenant(status: StoreStatus, name: str, blocked: list[BlockedTenant]) -> m.Tenant:
    book, forecast = status.books[name], status.forecasts[name]
    return m.Tenant(
        tenant=name,
        jobs={state.value: book.jobs[state] for state in SHOWN_STATES},
        money_at_risk=plain_money(book.at_risk),
        rate_per_s=forecast.pace.rate_per_s,
        budget_ratio=round(forecast.pace.factor, 3),
        pace=forecast.pace.basis,
        budget_used_ratio=round(forecast.pace.used, 5),
        drain_s=None if forecast.drain_s is None else round(forecast.drain_s, 1),
        late_jobs=forecast.late,
        blocked=[
            m.Blocked(
                kind=blocked.kind,
                reason=blocked.reason,
                by=blocked.by,
                since=None if blocked.since_ms is None else iso(blocked.since_ms),
                until=None if blocked.until_ms is None else iso(blocked.until_ms),
            )
            for blocked in blocked
        ],
    )


def _pause(deployment: Deployment, call: Call) -> m.Changed:
    who = Operator(call.request.principal.name, call.body.reason)
    return m.Changed(changed=tenant_actions.pause(deployment.store, call.path["tenant"], who))


def _resume(deployment: Deployment, call: Call) -> m.Changed:
    who = Operator(call.request.principal.name, call.body.reason)
    return m.Changed(changed=tenant_actions.resume(deployment.store, call.path["tenant"], who))


def _log(deployment: Deployment, call: Call) -> m.Log:
    found = read_page(deployment.store, before=call.query.before, limit=call.query.limit)
    entries = [m.LogEntry(number=entry.number, entry=dict(entry.fields)) for entry in found.entries]
    return m.Log(entries=entries, before=found.before)


def _export(deployment: Deployment, _: Call) -> Response:
    lines = (raw + b"\n" for raw in walk_entries(deployment.store))
    return StreamingResponse(lines, media_type="application/x-ndjson")


ENDPOINTS = (
    Endpoint("GET", "/status", Role.VIEWER, "Jobs and money by state, oldest waiting job, workers", _status, m.Status),
    Endpoint(
        "GET", "/tenants", Role.VIEWER, "Budget, drain time and blocks of tenants", _tenants, m.Tenants,
        query=m.TenantsQuery,
    ),
    Endpoint(
        "POST", "/tenants/{tenant}/pause", Role.OPERATOR, "Pause deliveries of a tenant", _pause, m.Changed,
        body=m.TenantAction, refusals=(404,),
    ),
    Endpoint(
        "POST", "/tenants/{tenant}/resume", Role.OPERATOR, "Resume deliveries of a tenant", _resume, m.Changed,
        body=m.TenantAction, refusals=(404,),
    ),
    Endpoint(
        "GET", "/log", Role.VIEWER, "The audit log, newest first", _log, m.Log, query=m.LogQuery,
    ),
    Endpoint("GET", "/log/export", Role.OPERATOR, "The whole audit log, oldest first", _export, None),
)  # fmt: skip
