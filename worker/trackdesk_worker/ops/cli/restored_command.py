"""``trackdesk restored``."""

import click

from trackdesk_worker.ops import tenants
from trackdesk_worker.ops.cli.options import (
    TENANT,
    json_option,
    open_desk,
    operator_of,
    operator_options,
    yes_option,
)
from trackdesk_worker.ops.cli.output import confirm, emit_json


@click.command("restored")
@click.option("--tenant", type=TENANT, help="Of this tenant only; default: all.")
@operator_options
@yes_option
@json_option
def command(tenant: str | None, operator: str | None, why: str | None, yes: bool, as_json: bool) -> None:
    """Say that the store may have forgotten deliveries: after a restore, a failover or a power cut.

    Every sale accepted until now then counts as perhaps sent before: where Trackdesk answers that it exists already, it
    is delivered (confirmed_duplicate) instead of a dead letter for a person to judge. May be said before or after the
    workers start; dead letters that came of it (unverified_duplicate) are redriven then. Nothing is sent by this.
    """
    who = operator_of(operator, why)
    whose = "all tenants" if tenant is None else tenant
    confirm(f"Count every unfinished sale of {whose} as perhaps sent before?", yes=yes)
    with open_desk() as desk:
        count = tenants.restored(desk.client, desk.keys, tenant, who)
    if as_json:
        emit_json({"tenant": tenant, "tenants": count})
    else:
        click.echo(f"noted for {whose}: sales accepted until now may have been sent before")
