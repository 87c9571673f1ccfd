"""``trackdesk pause``."""

import click

from trackdesk_worker.cli.options import TENANT, json_option, open_session, operator_of, operator_options
from trackdesk_worker.cli.output import emit_json
from trackdesk_worker.ops import tenant_actions


@click.command("pause")
@click.argument("tenant", type=TENANT)
@operator_options
@json_option
def command(tenant: str, operator: str | None, why: str | None, as_json: bool) -> None:
    """Stop deliveries of one tenant until `trackdesk resume`; sales are still accepted, requests in flight end."""
    who = operator_of(operator, why)
    with open_session() as session:
        changed = tenant_actions.pause(session.client, session.keys, tenant, who)
    if as_json:
        emit_json({"tenant": tenant, "changed": changed})
    else:
        click.echo(f"{tenant} {'is paused' if changed else 'is paused already'}")
