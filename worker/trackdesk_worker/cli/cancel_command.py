"""``trackdesk cancel``."""

import click

from trackdesk_producer import CancelStatus
from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.options import json_option, open_session, operator_of, operator_options, tenant_option
from trackdesk_worker.cli.output import emit_json
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.lookup import find_job
from trackdesk_worker.process import bootstrap


@click.command("cancel")
@click.argument("external_id")
@tenant_option
@click.option(
    "--type", "conversion_type", metavar="CODE", help="Its conversion type, where that is part of its identity."
)
@operator_options
@json_option
def command(
    external_id: str,
    tenant: str | None,
    conversion_type: str | None,
    operator: str | None,
    why: str | None,
    as_json: bool,
) -> int:
    """Cancel a sale that waits, unless an attempt may have reached Trackdesk."""
    who = operator_of(operator, why, default_reason="cancelled by name")
    with open_session() as session, bootstrap.open_producer(session.settings) as producer:
        identity = find_job(
            session.client,
            session.keys,
            external_id,
            tenant=tenant or session.settings.tenant,
            conversion_type=conversion_type,
        )
        result = tenant_actions.cancel(session.client, session.keys, producer, identity, who)
    state = None if result.state is None else result.state.value
    if as_json:
        emit_json({"external_id": external_id, "status": result.status.value, "state": state})
        return 0 if result.status is CancelStatus.CANCELLED else 1
    if result.status is not CancelStatus.CANCELLED:
        where = (
            "is unknown" if state is None else f"is {state.replace('_', ' ')}, or an attempt may have reached Trackdesk"
        )
        raise CommandFailed(f"{external_id!r} {where}: only a waiting sale that cannot be there can be cancelled")
    click.echo(f"{external_id} is cancelled")
    return 0
