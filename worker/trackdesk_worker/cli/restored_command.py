"""``trackdesk restored``."""

import click

from trackdesk_worker.cli.options import TENANT, json_option, open_session, operator_of, operator_options, yes_option
from trackdesk_worker.cli.output import confirm, emit_json
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.timestamps import parse_moment


@click.command("restored")
@click.option("--tenant", type=TENANT, help="Of this tenant only; default: all.")
@click.option("--since", metavar="TIME", help="When the store may have forgotten first: the backup's time, RFC 3339.")
@operator_options
@yes_option
@json_option
def command(
    tenant: str | None, since: str | None, operator: str | None, why: str | None, yes: bool, as_json: bool
) -> None:
    """Say that the store may have forgotten deliveries: after a restore, a failover or a power cut.

    Every sale accepted until now then counts as perhaps sent before: where Trackdesk answers that it exists already, it
    is delivered (restored_duplicate) instead of a dead letter for a person to judge. Nothing is sent by this.

    Run it before the workers start. If they ran before, pass the time of the backup or failover as --since, then
    redrive the dead letters of reason unverified_duplicate: refusals before that time stay refusals.
    """
    who = operator_of(operator, why)
    whose = "all tenants" if tenant is None else tenant
    confirm(f"Count every unfinished sale of {whose} as perhaps sent before?", yes=yes)
    with open_session() as session:
        count = tenant_actions.restored(session.client, session.keys, tenant, who, since_ms=_milliseconds(since))
    if as_json:
        emit_json({"tenant": tenant, "tenants": count})
    else:
        click.echo(f"noted for {whose}: sales accepted until now may have been sent before")


def _milliseconds(since: str | None) -> int | None:
    try:
        return None if since is None else round(parse_moment(since).timestamp() * 1000)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from error
