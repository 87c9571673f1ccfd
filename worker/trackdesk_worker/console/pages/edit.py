"""Correcting a dead letter and sending it again: the form, the difference, and the act."""

from starlette.responses import Response

from trackdesk_worker.console import actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, Visit
from trackdesk_worker.console.context import Context
from trackdesk_worker.console.edit_form import changes_of, edit_fields
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import Edit, edit_and_redrive, propose
from trackdesk_worker.ops.job_detail import JobDetail, read_job


def _form(context: Context, visit: Visit) -> Response:
    return _show(visit, _dead(context, visit.query.get("id")), None)


def _propose(context: Context, visit: Visit) -> Response:
    detail = _dead(context, visit.form.get("id"))
    identity = detail.record.id
    changes = changes_of(edit_fields(identity, detail.conversion or {}, {}), visit.form)
    return _show(visit, detail, propose(context.client, context.keys, identity, changes))


def _redrive(context: Context, visit: Visit) -> Response:
    detail = _dead(context, visit.form.get("id"))
    identity = detail.record.id
    changes = changes_of(edit_fields(identity, detail.conversion or {}, {}), visit.form)
    who = Operator(visit.who.name, visit.form.get("reason", ""))
    edit_and_redrive(context.client, context.keys, identity, changes, who, expect=visit.form.get("expect", ""))
    return go_to("/job", id=identity, done="edited")


def _show(visit: Visit, detail: JobDetail, edit: Edit | None) -> Response:
    fields = edit_fields(detail.record.id, detail.conversion or {}, visit.form)
    given = {name: value for name, value in visit.form.items() if name.startswith(("field.", "take."))}
    return page(visit, "edit.html", job=detail.record, fields=fields, edit=edit, given=given)


def _dead(context: Context, identity: str | None) -> JobDetail:
    detail = read_job(context.client, context.keys, actions.identity_of(identity))
    if not detail.dead:
        raise Refused(409, "only a dead letter can be corrected, and this sale is none (any more)")
    return detail


PAGES = (
    Page("GET", "/job/edit", Role.OPERATOR, _form),
    Page("POST", "/job/edit", Role.OPERATOR, _propose),
    Page("POST", "/job/edit/redrive", Role.OPERATOR, _redrive),
)
