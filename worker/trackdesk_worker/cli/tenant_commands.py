"""``trackdesk tenants``, ``pause``, ``resume`` and ``restored``."""

import click

from trackdesk_producer.contract.record import State
from trackdesk_worker.cli.options import (
    TENANT,
    forecaster,
    json_option,
    open_session,
    operator_of,
    operator_options,
    yes_option,
)
from trackdesk_worker.cli.output import confirm, console, emit_json
from trackdesk_worker.cli.tenants_view import blocked_json, blocked_table, forecast_json, tenants_table
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.status import read_status
from trackdesk_worker.ops.timestamps import parse_moment


@click.command("tenants")
@json_option
def tenants(as_json: bool) -> None:
    """Show each tenant: its backlog, its pace, when it will be drained, what will be late, and why it is blocked.

    "late" counts jobs that will pass their horizon before they can be sent at this pace, estimated from a sample.
    """
    with open_session() as session:
        status = read_status(session.store, forecaster(session.settings))
    if not as_json:
        to = console()
        to.print(tenants_table(status))
        if status.blocked:
            to.print()
            to.print(blocked_table(status))
        return
    emit_json(
        [
            {
                "tenant": tenant,
                "jobs": {state.value: book.jobs[state] for state in State if not state.terminal},
                "money_at_risk": plain_money(book.at_risk),
                **forecast_json(status.forecasts[tenant]),
                "blocked": [blocked_json(s) for s in status.blocked if s.tenant == tenant],
            }
            for tenant, book in status.books.items()
        ]
    )


@click.command("pause")
@click.argument("tenant", type=TENANT)
@operator_options
@json_option
def pause(tenant: str, operator: str | None, why: str | None, as_json: bool) -> None:
    """Stop deliveries of one tenant until `trackdesk resume`. Sales are still accepted; requests in flight end."""
    who = operator_of(operator, why)
    with open_session() as session:
        changed = tenant_actions.pause(session.store, tenant, who)
    _report(tenant, changed, as_json, "is paused" if changed else "was paused already")


@click.command("resume")
@click.argument("tenant", type=TENANT)
@operator_options
@json_option
def resume(tenant: str, operator: str | None, why: str | None, as_json: bool) -> None:
    """Resume deliveries of a tenant that is paused, frozen or on hold. After a hold, one request is tried first."""
    who = operator_of(operator, why, default_reason="resumed")
    with open_session() as session:
        changed = tenant_actions.resume(session.store, tenant, who)
    _report(tenant, changed, as_json, "is resumed" if changed else "was not blocked")


def _report(tenant: str, changed: bool, as_json: bool, result: str) -> None:
    if as_json:
        emit_json({"tenant": tenant, "changed": changed})
    else:
        click.echo(f"{tenant} {result}")


@click.command("restored")
@click.option("--tenant", type=TENANT, help="Only this tenant; default: all.")
@click.option("--since", metavar="TIME", help="Start of the lost period: the time of the backup or failover, RFC 3339.")
@operator_options
@yes_option
@json_option
def restored(
    tenant: str | None, since: str | None, operator: str | None, why: str | None, yes: bool, as_json: bool
) -> None:
    """Report that the store may have lost deliveries: after a restore, a failover or a power cut.

    Every unfinished sale accepted until now then counts as possibly sent. If Trackdesk answers that it exists already,
    the sale is delivered (restored_duplicate) instead of a dead letter for a person to judge. Nothing is sent by this.

    Run it before the workers start. If they ran before, pass the time of the backup or failover as --since, then
    redrive the dead letters of reason unverified_duplicate: refusals before that time stay refusals.
    """
    who = operator_of(operator, why)
    whose = "all tenants" if tenant is None else tenant
    confirm(f"Count every unfinished sale of {whose} as possibly sent?", yes=yes)
    with open_session() as session:
        count = tenant_actions.restored(session.store, tenant, who, since_ms=_milliseconds(since))
    if as_json:
        emit_json({"tenant": tenant, "tenants": count})
    else:
        click.echo(f"recorded for {whose}: sales accepted until now may have been sent")


def _milliseconds(since: str | None) -> int | None:
    try:
        return None if since is None else round(parse_moment(since).timestamp() * 1000)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from error
