"""What can be done with one job, from a page or over the API."""

from trackdesk_producer import CancelStatus
from trackdesk_producer.contract.record import external_id_of, tenant_of
from trackdesk_producer.conversion.rules import check_tenant
from trackdesk_producer.errors import ConversionInvalid
from trackdesk_worker.console.auth import Refused
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.ops import plans, tenant_actions
from trackdesk_worker.ops.audit_log import Act, Operator

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


def redrive(deployment: Deployment, identity: str, who: Operator) -> None:
    """Give a dead letter a fresh attempt budget.

    Raises:
        Refused: it is none any more.
    """
    _moved(plans.act_on_one(deployment.client, deployment.keys, identity, act=Act.REDRIVE, operator=who))


def discard(deployment: Deployment, identity: str, who: Operator, *, confirmed: str) -> None:
    """Give a dead letter up for good.

    Raises:
        Refused: it is none any more, or `confirmed` is not its externalId.
    """
    if confirmed != external_id_of(identity):
        raise Refused(400, "type the externalId of the sale to discard it; nothing was changed")
    window_s = deployment.settings.dedupe_window_s
    _moved(
        plans.act_on_one(
            deployment.client, deployment.keys, identity, act=Act.DISCARD, operator=who, dedupe_window_s=window_s
        )
    )


def cancel(deployment: Deployment, identity: str, who: Operator) -> None:
    """Cancel a job that waits and cannot have reached Trackdesk.

    Raises:
        Refused: it was, or it has ended.
    """
    result = tenant_actions.cancel(deployment.client, deployment.keys, deployment.producer, identity, who)
    if result.status is not CancelStatus.CANCELLED:
        raise Refused(409, "this sale is in flight, has ended, or may have reached Trackdesk: it cannot be cancelled")


def _moved(plan: plans.Plan) -> None:
    if not plan.done:
        state = next(iter(plan.verdicts), "unknown").rpartition(":")[2].replace("_", " ")
        raise Refused(409, f"nothing was changed: this sale is no dead letter any more, it is {state}")
