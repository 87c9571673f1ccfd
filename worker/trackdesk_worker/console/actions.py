"""Actions on one job, shared by the pages and the API."""

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
    """Return the job id of a request.

    Raises:
        Refused: it is missing or invalid.
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
    """Redrive a dead letter: it becomes ready, with a new set of attempts.

    Raises:
        Refused: it is no longer a dead letter.
    """
    _moved(plans.act_on_one(deployment.store, identity, act=Act.REDRIVE, operator=who))


def discard(deployment: Deployment, identity: str, who: Operator, *, confirmed: str) -> None:
    """Discard a dead letter: it will never be sent.

    Raises:
        Refused: it is no longer a dead letter, or `confirmed` is not its externalId.
    """
    if confirmed != external_id_of(identity):
        raise Refused(
            400,
            "nothing was changed: the confirmation is not the externalId; type the externalId to discard",
        )
    window_s = deployment.settings.dedupe_window_s
    _moved(plans.act_on_one(deployment.store, identity, act=Act.DISCARD, operator=who, dedupe_window_s=window_s))


def cancel(deployment: Deployment, identity: str, who: Operator) -> None:
    """Cancel a job that is waiting and has not reached Trackdesk.

    Raises:
        Refused: it is in flight, has ended, or may have reached Trackdesk.
    """
    result = tenant_actions.cancel(deployment.store, deployment.producer, identity, who)
    if result.status is not CancelStatus.CANCELLED:
        raise Refused(409, "this sale cannot be cancelled: it is in flight, has ended, or may have reached Trackdesk")


def _moved(plan: plans.Plan) -> None:
    if not plan.done:
        state = next(iter(plan.verdicts), "unknown").rpartition(":")[2].replace("_", " ")
        raise Refused(409, f"nothing was changed: this sale is no longer a dead letter, it is {state}")
