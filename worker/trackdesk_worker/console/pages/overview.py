"""The overview: jobs and money by state, tenants, and what needs attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from trackdesk_producer.contract.record import State
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import address, page
from trackdesk_worker.console.sampler import KEPT
from trackdesk_worker.domain.money import readable_money
from trackdesk_worker.ops.status import StoreStatus, read_status
from trackdesk_worker.ops.timestamps import readable_age
from trackdesk_worker.store.ledger import Money, add_money
from trackdesk_worker.store.snapshot import WORKER_SEEN_S
from trackdesk_worker.store.tenant_record import BlockedTenant

OVERDUE_AFTER_S = 60
"""Due jobs that wait longer are reported: many maintenance periods have passed."""
TENANTS_SHOWN = 50
SHOWN_STATES = (State.READY, State.SCHEDULED, State.IN_FLIGHT, State.DEAD)
BLOCKED_NAMED = 5


@dataclass(frozen=True, slots=True)
class Concern:
    """Something that needs attention."""

    weight: Literal["bad", "warn"]
    sentence: str
    what_to_do: str
    path: str | None
    """The page to do it on."""


def concerns(status: StoreStatus) -> list[Concern]:
    """Return what needs attention, most urgent first."""
    found = []
    book = status.book
    if book.residual_jobs or book.residual_money:
        found.append(
            Concern(
                "bad", "Accepted and stored sales disagree.", "Run `trackdesk audit`: it names each affected job.", None
            )
        )
    if status.admission_closed:
        found.append(
            Concern("bad", "New sales are refused: the store is nearly full.", "Raise the store's maxmemory.", None)
        )
    if not any(age_s <= WORKER_SEEN_S for age_s in status.workers.values()):
        found.append(Concern("bad", "No worker is running.", "Start one: trackdesk worker", None))
    if status.oldest_overdue_s is not None and status.oldest_overdue_s > OVERDUE_AFTER_S:
        late = readable_age(status.oldest_overdue_s)
        found.append(Concern("bad", f"Work is overdue by {late}.", "Check the workers and their logs.", None))
    if dead := book.jobs[State.DEAD]:
        money = readable_money(book.money.get(State.DEAD, {}))
        sentence = f"{dead:,} dead {'letter needs' if dead == 1 else 'letters need'} a decision: {money}."
        found.append(Concern("warn", sentence, "View them by cause, with the fix for each.", "/causes"))
    found += [_blocked(blocked) for blocked in status.blocked[:BLOCKED_NAMED]]
    if (more := len(status.blocked) - BLOCKED_NAMED) > 0:
        found.append(Concern("warn", f"{more:,} more tenants are blocked.", "View all tenants.", "/tenants"))
    if will_be_late := sum(forecast.late for forecast in status.forecasts.values()):
        sentence = f"About {will_be_late:,} jobs will pass their horizon before they are sent."
        found.append(Concern("warn", sentence, "Raise the tenant's budget or horizon.", "/tenants"))
    return found


def _blocked(blocked: BlockedTenant) -> Concern:
    path = address("/tenants", find=blocked.tenant)
    match blocked.kind:
        case "paused":
            sentence = f"{blocked.tenant} is paused by {blocked.by or 'an unknown operator'}: {blocked.reason}"
            return Concern("warn", sentence, "Resume it once the reason no longer applies.", path)
        case "hold":
            sentence = f"{blocked.tenant} is on hold: {blocked.reason.replace('_', ' ')}."
            return Concern("bad", sentence, "Fix its API key or address, then resume it.", path)
        case "breaker":
            return Concern(
                "warn",
                f"{blocked.tenant}: Trackdesk is failing.",
                "Deliveries resume automatically once a probe succeeds.",
                path,
            )
        case _:
            return Concern(
                "warn", f"{blocked.tenant} is frozen after HTTP 429.", "Deliveries resume automatically.", path
            )


def busiest(status: StoreStatus, most: int = TENANTS_SHOWN, find: str = "") -> list[str]:
    """Return at most `most` tenants: blocked ones first, then those with most unfinished jobs."""
    blocked_tenants = {blocked.tenant for blocked in status.blocked}

    def order(tenant: str) -> tuple[bool, int, str]:
        return tenant not in blocked_tenants, -sum(status.books[tenant].jobs[state] for state in SHOWN_STATES), tenant

    return sorted((tenant for tenant in status.books if find in tenant), key=order)[:most]


def state_money(status: StoreStatus, state: State) -> Money:
    """Return the money of a state, including pruned jobs of an ended one."""
    return add_money([status.book.money.get(state, {}), status.book.money.get(f"pruned_{state}", {})])


def blocked_of(status: StoreStatus) -> dict[str, list[BlockedTenant]]:
    """Return the blocks of each blocked tenant."""
    found: dict[str, list[BlockedTenant]] = {}
    for blocked in status.blocked:
        found.setdefault(blocked.tenant, []).append(blocked)
    return found


def _overview(deployment: Deployment, request: RequestContext) -> Response:
    status = read_status(deployment.store, deployment.forecaster)
    states: Sequence[State] = list(State)
    return page(
        request,
        "overview.html",
        status=status,
        concerns=concerns(status),
        states=[(state, status.jobs[state], state_money(status, state)) for state in states],
        series=deployment.sampler.series(),
        span_s=deployment.sampler.span_s,
        slots=KEPT - 1,
        tenants=busiest(status),
        blocked=blocked_of(status),
        running=sum(1 for age_s in status.workers.values() if age_s <= WORKER_SEEN_S),
        now_ms=deployment.store.time_ms(),
    )


PAGES = (Page("GET", "/", Role.VIEWER, _overview),)
