"""One job's whole life, and what can be done with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from trackdesk_producer import CancelStatus
from trackdesk_producer.contract.checks import check_tenant
from trackdesk_producer.contract.job import JobRecord, State, external_id_of, tenant_of
from trackdesk_producer.errors import ConversionInvalid
from trackdesk_worker.ops import dead_letter_service as service
from trackdesk_worker.ops import tenants
from trackdesk_worker.ops.console.access import Role
from trackdesk_worker.ops.console.context import Context
from trackdesk_worker.ops.console.gate import Refused, Visit
from trackdesk_worker.ops.console.pages import Page
from trackdesk_worker.ops.console.rendering import go_to, page
from trackdesk_worker.ops.lookup import SaleUnknown, find_job
from trackdesk_worker.ops.operations_log import Operator, now_ms
from trackdesk_worker.ops.remedies import remedy
from trackdesk_worker.ops.show import JobDetail, read_job

MAX_IDENTITY = 2048


def identity_of(text: str | None) -> str:
    """Return the job's id that a request names.

    Raises:
        Refused: there is none, or it cannot be one.
    """
    identity = text or ""
    try:
        check_tenant(tenant_of(identity))
    except ConversionInvalid as error:
        raise Refused(404, "no job is named: an id is a tenant, a slash and the externalId") from error
    if not external_id_of(identity) or len(identity) > MAX_IDENTITY:
        raise Refused(404, "no job is named: an id is a tenant, a slash and the externalId")
    return identity


def moments(record: JobRecord) -> list[tuple[str, int]]:
    """Return the times a record knows, by name, in ms."""
    accepted = ("Accepted", record.accepted_ms)
    match record.state:
        case State.READY:
            return [accepted, ("Ready since", record.at // 1000)]
        case State.SCHEDULED:
            return [accepted, ("Due", record.at)]
        case State.IN_FLIGHT:
            return [accepted, ("Lease ends", record.at)]
        case State.DEAD:
            return [accepted, ("Died", record.at)]
        case State.DELIVERED | State.CANCELLED | State.DISCARDED:
            return [accepted, ("Ended", record.at)]


def flat(conversion: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the body by the guide's dotted names."""
    found = []
    for name, value in conversion.items():
        if isinstance(value, Mapping):
            found += [(f"{name}.{inner}", str(text)) for inner, text in value.items()]
        else:
            found.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of a job's history as the page shows it: an attempt, or what somebody did."""

    at_ms: int | None
    attempt: str | None
    outcome: str
    may_have_landed: bool
    status: str
    code: str
    duration_ms: str
    excerpt: str
    act: str
    operator: str
    reason: str
    operation: str


def happening(entry: Mapping[str, Any]) -> Happening:
    """Read one entry of a history."""

    def word(name: str) -> str:
        value = entry.get(name)
        return "–" if value is None else str(value)

    at_ms, attempt = entry.get("at_ms"), entry.get("kind") == "attempt"
    return Happening(
        at_ms=at_ms if isinstance(at_ms, int) else None,
        attempt=word("attempt") if attempt else None,
        outcome=word("outcome"),
        may_have_landed=bool(entry.get("ambiguous")),
        status=word("status"),
        code=word("code"),
        duration_ms=word("duration_ms"),
        excerpt=str(entry.get("excerpt") or ""),
        act=word("kind"),
        operator=word("operator"),
        reason=word("reason"),
        operation=str(entry.get("operation") or ""),
    )


def _find(context: Context, visit: Visit) -> Response:
    wanted = visit.query.get("q", "").strip()
    if not wanted:
        raise Refused(400, "type the externalId of a sale")
    if len(wanted) > MAX_IDENTITY:
        raise Refused(400, "that is too long for an externalId")
    tenant = visit.query.get("tenant")
    try:
        identity = find_job(context.client, context.keys, wanted, tenant=tenant, conversion_type=None)
    except SaleUnknown:
        return go_to("/dead", external_id=wanted, tenant=tenant, state="any")
    return go_to("/job", id=identity)


def _job(context: Context, visit: Visit) -> Response:
    return _show(context, visit, read_job(context.client, context.keys, identity_of(visit.query.get("id"))))


def _reveal(context: Context, visit: Visit) -> Response:
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    detail = read_job(context.client, context.keys, identity_of(visit.form.get("id")), reveal_to=who)
    return _show(context, visit, detail, revealed=True)


def _show(context: Context, visit: Visit, detail: JobDetail, *, revealed: bool = False) -> Response:
    record = detail.record
    return page(
        visit,
        "job.html",
        job=record,
        moments=moments(record),
        conversion=None if detail.conversion is None else flat(detail.conversion),
        history=[happening(entry) for entry in detail.history],
        remedy=remedy(record.reason or "") if detail.dead else None,
        revealed=revealed,
        may_act=visit.who.role.covers(Role.OPERATOR),
        may_discard=visit.who.role.covers(Role.ADMIN),
        may_cancel=record.state in (State.READY, State.SCHEDULED) and record.attempts_total == 0,
        now_ms=now_ms(context.client),
    )


def _redrive(context: Context, visit: Visit) -> Response:
    identity = identity_of(visit.form.get("id"))
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    plan = service.plan_named(context.client, context.keys, [identity])
    _moved(service.redrive(context.client, context.keys, plan, who))
    return go_to("/job", id=identity, done="redriven")


def _discard(context: Context, visit: Visit) -> Response:
    identity = identity_of(visit.form.get("id"))
    if visit.form.get("confirm", "") != external_id_of(identity):
        raise Refused(400, "type the externalId of the sale to discard it; nothing was changed")
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    plan = service.plan_named(context.client, context.keys, [identity])
    window_s = context.settings.dedupe_window_s
    _moved(service.discard(context.client, context.keys, plan, who, dedupe_window_s=window_s))
    return go_to("/job", id=identity, done="discarded")


def _cancel(context: Context, visit: Visit) -> Response:
    identity = identity_of(visit.form.get("id"))
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    result = tenants.cancel(context.client, context.keys, context.producer, identity, who)
    if result.status is not CancelStatus.CANCELLED:
        raise Refused(409, "only a sale that was never sent can be cancelled, and this one was, or it has ended")
    return go_to("/job", id=identity, done="cancelled")


def _moved(verdicts: service.Verdicts) -> None:
    """Check that the one job moved.

    Raises:
        Refused: somebody was faster, or it is no dead letter.
    """
    if not verdicts.done:
        state = next(iter(verdicts.counts), "unknown").rpartition(":")[2].replace("_", " ")
        raise Refused(409, f"nothing was changed: this sale is no dead letter any more, it is {state}")


PAGES = (
    Page("GET", "/find", Role.VIEWER, _find),
    Page("GET", "/job", Role.VIEWER, _job),
    Page("POST", "/job/reveal", Role.OPERATOR, _reveal),
    Page("POST", "/job/redrive", Role.OPERATOR, _redrive),
    Page("POST", "/job/cancel", Role.OPERATOR, _cancel),
    Page("POST", "/job/discard", Role.ADMIN, _discard),
)
