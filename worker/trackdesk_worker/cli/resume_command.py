"""``trackdesk resume``."""

import click

from trackdesk_worker.cli.options import TENANT, json_option, open_session, operator_of, operator_options
from trackdesk_worker.cli.output import emit_json
from trackdesk_worker.ops import tenant_actions


@click.command("resume")
@click.argument("tenant", type=TENANT)
@operator_options
@json_option
def command(tenant: str, operator: str | None, why: str | None, as_json: bool) -> None:
    """Go on with a tenant that is paused, frozen or on hold; a held one is tried with one request first."""
    who = operator_of(operator, why, default_reason="resumed")
    with open_session() as session:
        changed = tenant_actions.resume(session.client, session.keys, tenant, who)
    if as_json:
        emit_json({"tenant": tenant, "changed": changed})
    else:
        click.echo(f"{tenant} {'goes on' if changed else 'did not stand still'}")
