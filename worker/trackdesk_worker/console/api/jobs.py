"""Endpoints for jobs: search, causes, export, one job and the actions on it."""

from typing import Any

from starlette.responses import Response

from trackdesk_producer.contract.record import NO_CURRENCY
from trackdesk_worker.console import actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.api import Call, Endpoint
from trackdesk_worker.console.api import models as m
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.exporting import exported
from trackdesk_worker.domain.money import in_doubt, plain_amount, plain_money
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters import filters
from trackdesk_worker.ops.dead_letters.by_cause import dead_by_cause
from trackdesk_worker.ops.dead_letters.edit import edit_and_redrive, propose
from trackdesk_worker.ops.dead_letters.export import Form
from trackdesk_worker.ops.dead_letters.search import JobRow, search
from trackdesk_worker.ops.job_detail import JobDetail, moments, read_job
from trackdesk_worker.ops.remedies import remedy
from trackdesk_worker.ops.timestamps import iso
from trackdesk_worker.store.dead_letters.query import Search


def search_of(deployment: Deployment, asked: m.Filter) -> Search:
    """Return the search for a filter.

    Raises:
        FilterInvalid: a field cannot be read.
    """
    given: dict[str, Any] = asked.model_dump(exclude_none=True)
    return filters.search_of({name: str(value) for name, value in given.items()}, now_ms=deployment.store.time_ms())


def _search(deployment: Deployment, call: Call) -> m.JobPage:
    found = search(
        deployment.store,
        search_of(deployment, call.body),
        limit=call.body.limit,
        after=call.body.after,
    )
    return m.JobPage(
        jobs=[_row(row) for row in found.rows],
        after=found.cursor,
        examined=found.examined,
        complete=found.complete,
        total=found.total,
    )


def _row(row: JobRow) -> m.JobRow:
    return m.JobRow(
        id=row.id,
        tenant=row.tenant,
        external_id=row.external_id,
        state=row.state,
        conversion_type=row.conversion_type,
        amount=None if row.amount is None else plain_amount(row.amount, row.currency),
        currency=row.currency,
        reason=row.reason,
        http_status=row.http_status,
        at=iso(row.at_ms),
        accepted_at=iso(row.accepted_ms),
        attempts=row.attempts,
        redrives=row.redrives,
        may_have_landed=row.may_have_landed,
        in_doubt=list(row.in_doubt),
    )


def _causes(deployment: Deployment, call: Call) -> m.Causes:
    found = dead_by_cause(deployment.store, search_of(deployment, call.body))
    return m.Causes(
        jobs=found.jobs,
        money=plain_money(found.money),
        complete=found.complete,
        causes=[
            m.Cause(
                tenant=row.tenant,
                reason=row.reason,
                conversion_type=row.conversion_type,
                http_status=row.http_status,
                jobs=row.jobs,
                money=plain_money(row.money),
                first_at=iso(row.first_ms),
                last_at=iso(row.last_ms),
                example=row.example,
                remedy=row.remedy,
            )
            for row in found.rows
        ],
    )


def _export(deployment: Deployment, call: Call) -> Response:
    who = Operator(call.request.principal.name, call.body.reason)
    return exported(deployment, search_of(deployment, call.body.filter), who, Form(call.body.format))


def _job(deployment: Deployment, call: Call) -> m.Job:
    return _detail(read_job(deployment.store, actions.identity_of(call.query.id)))


def _reveal(deployment: Deployment, call: Call) -> m.Job:
    who = Operator(call.request.principal.name, call.body.reason)
    return _detail(read_job(deployment.store, actions.identity_of(call.body.id), reveal_to=who))


def _detail(detail: JobDetail) -> m.Job:
    record = detail.record
    currency = None if record.currency == NO_CURRENCY else record.currency
    return m.Job(
        id=record.id,
        tenant=record.tenant,
        external_id=record.external_id,
        state=record.state,
        reason=record.reason,
        amount=None if record.amount is None else plain_amount(record.amount, currency),
        currency=currency,
        moments={name: iso(at_ms) for name, at_ms in moments(record).items()},
        attempts=record.attempts_total,
        redrives=record.redrives,
        may_have_landed=record.ambiguous,
        in_doubt=list(in_doubt(record)),
        conversion=None if detail.conversion is None else dict(detail.conversion),
        history=[dict(entry) for entry in detail.history],
        remedy=remedy(record.reason or "") if detail.dead else None,
    )


def _redrive(deployment: Deployment, call: Call) -> m.Changed:
    actions.redrive(
        deployment, actions.identity_of(call.body.id), Operator(call.request.principal.name, call.body.reason)
    )
    return m.Changed(changed=True)


def _cancel(deployment: Deployment, call: Call) -> m.Changed:
    actions.cancel(
        deployment, actions.identity_of(call.body.id), Operator(call.request.principal.name, call.body.reason)
    )
    return m.Changed(changed=True)


def _discard(deployment: Deployment, call: Call) -> m.Changed:
    who = Operator(call.request.principal.name, call.body.reason)
    actions.discard(deployment, actions.identity_of(call.body.id), who, confirmed=call.body.confirm)
    return m.Changed(changed=True)


def _propose(deployment: Deployment, call: Call) -> m.EditProposal:
    found = propose(deployment.store, actions.identity_of(call.body.id), call.body.changes)
    return m.EditProposal(
        shown=found.shown,
        diff=[m.Change(field=one.field, before=one.before, after=one.after) for one in found.diff],
        errors=list(found.errors),
        warnings=list(found.warnings),
    )


def _edit(deployment: Deployment, call: Call) -> m.Changed:
    asked, identity = call.body, actions.identity_of(call.body.id)
    who = Operator(call.request.principal.name, asked.reason)
    edit_and_redrive(deployment.store, identity, asked.changes, who, expect=asked.expect)
    return m.Changed(changed=True)


ENDPOINTS = (
    Endpoint(
        "POST", "/jobs/search", Role.VIEWER, "Search jobs, by default dead letters; paginated",
        _search, m.JobPage, body=m.JobsSearch,
    ),
    Endpoint(
        "POST", "/causes", Role.VIEWER, "Dead letters by cause, with the fix for each",
        _causes, m.Causes, body=m.Filter,
    ),
    Endpoint(
        "POST", "/dead/export", Role.ADMIN, "Export the dead letters of a filter, including personal data; audited",
        _export, None, body=m.ExportRequest,
    ),
    Endpoint("GET", "/job", Role.VIEWER, "One job, with its history", _job, m.Job, query=m.JobQuery, refusals=(404,)),
    Endpoint(
        "POST", "/job/reveal", Role.OPERATOR, "One job including personal data; audited",
        _reveal, m.Job, body=m.JobAction, refusals=(404,),
    ),
    Endpoint(
        "POST", "/job/redrive", Role.OPERATOR, "Redrive a dead letter with a new set of attempts",
        _redrive, m.Changed, body=m.JobAction, refusals=(404, 409),
    ),
    Endpoint(
        "POST", "/job/edit-preview", Role.OPERATOR, "Preview a correction of a dead letter",
        _propose, m.EditProposal, body=m.EditPreview, refusals=(404,),
    ),
    Endpoint(
        "POST", "/job/edit", Role.OPERATOR, "Correct a dead letter as previewed and redrive it",
        _edit, m.Changed, body=m.EditRequest, refusals=(404,),
    ),
    Endpoint(
        "POST", "/job/cancel", Role.OPERATOR, "Cancel a job that is waiting and has not reached Trackdesk",
        _cancel, m.Changed, body=m.JobAction, refusals=(404, 409),
    ),
    Endpoint(
        "POST", "/job/discard", Role.ADMIN, "Discard a dead letter: it will never be sent",
        _discard, m.Changed, body=m.JobDiscard, refusals=(404, 409),
    ),
)  # fmt: skip
