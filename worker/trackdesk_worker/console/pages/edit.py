"""Correct a dead letter and redrive it: the form, the preview and the action."""

from starlette.responses import Response

from trackdesk_worker.console import actions
from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import Refused, RequestContext
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.edit_form import changes_of, edit_fields
from trackdesk_worker.console.pages import Page
from trackdesk_worker.console.rendering import go_to, page
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import Edit, edit_and_redrive, propose
from trackdesk_worker.ops.job_detail import JobDetail, read_job


def _form(deployment: Deployment, request: RequestContext) -> Response:
    return _show(request, _dead(deployment, request.query.get("id")), None)


def _propose(deployment: Deployment, request: RequestContext) -> Response:
    detail = _dead(deployment, request.form.get("id"))
    identity = detail.record.id
    changes = changes_of(edit_fields(identity, detail.conversion or {}, {}), request.form)
    return _show(request, detail, propose(deployment.store, identity, changes))


def _redrive(deployment: Deployment, request: RequestContext) -> Response:
    detail = _dead(deployment, request.form.get("id"))
    identity = detail.record.id
    changes = changes_of(edit_fields(identity, detail.conversion or {}, {}), request.form)
    who = Operator(request.principal.name, request.form.get("reason", ""))
    edit_and_redrive(deployment.store, identity, changes, who, expect=request.form.get("expect", ""))
    return go_to("/job", id=identity, done="edited")


def _show(request: RequestContext, detail: JobDetail, edit: Edit | None) -> Response:
    fields = edit_fields(detail.record.id, detail.conversion or {}, request.form)
    given = {name: value for name, value in request.form.items() if name.startswith(("field.", "take."))}
    return page(request, "edit.html", job=detail.record, fields=fields, edit=edit, given=given)


def _dead(deployment: Deployment, identity: str | None) -> JobDetail:
    detail = read_job(deployment.store, actions.identity_of(identity))
    if not detail.dead:
        raise Refused(
            409, f"only a dead letter can be corrected; this sale is {detail.record.state.value.replace('_', ' ')}"
        )
    return detail


PAGES = (
    Page("GET", "/job/edit", Role.OPERATOR, _form),
    Page("POST", "/job/edit", Role.OPERATOR, _propose),
    Page("POST", "/job/edit/redrive", Role.OPERATOR, _redrive),
)
