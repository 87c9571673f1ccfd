"""``trackdesk show`` and ``trackdesk cancel``: one sale."""

from typing import Any

import click

from trackdesk_producer import CancelStatus
from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.job_view import print_job
from trackdesk_worker.cli.options import (
    json_option,
    open_session,
    operator_of,
    operator_options,
    reveal_option,
    tenant_option,
    type_option,
)
from trackdesk_worker.cli.output import emit_json
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.lookup import find_job
from trackdesk_worker.process import bootstrap


@click.command("show")
@click.argument("external_id")
@tenant_option
@type_option
@reveal_option
@operator_options
@json_option
def show(external_id: str, operator: str | None, why: str | None, reveal: bool, **chosen: Any) -> None:
    """Show everything about one sale: state, times, money, attempts and answers.

    Personal data (cid, customerId, custom parameters) is masked unless --reveal is passed.
    """
    who = operator_of(operator, why, default_reason="show --reveal") if reveal else None
    print_job(external_id, reveal_to=who, **chosen)


@click.command("cancel")
@click.argument("external_id")
@tenant_option
@type_option
@operator_options
@json_option
def cancel(
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
            session.store,
            external_id,
            tenant=tenant or session.settings.tenant,
            conversion_type=conversion_type,
        )
        result = tenant_actions.cancel(session.store, producer, identity, who)
    state = None if result.state is None else result.state.value
    cancelled = result.status is CancelStatus.CANCELLED
    if as_json:
        emit_json({"external_id": external_id, "status": result.status.value, "state": state})
    elif cancelled:
        click.echo(f"{external_id} is cancelled")
    else:
        where = (
            "is unknown" if state is None else f"is {state.replace('_', ' ')}, or an attempt may have reached Trackdesk"
        )
        raise CommandFailed(
            f"{external_id!r} {where}. Only a waiting sale that cannot have reached Trackdesk can be cancelled"
        )
    return 0 if cancelled else 1
