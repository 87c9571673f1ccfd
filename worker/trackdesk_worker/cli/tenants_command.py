"""``trackdesk tenants``."""

import click

from trackdesk_producer.contract.record import State
from trackdesk_worker.cli.options import forecaster, json_option, open_session
from trackdesk_worker.cli.output import console, emit_json
from trackdesk_worker.cli.tenants_view import blocked_json, blocked_table, forecast_json, tenants_table
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.ops.status import read_status


@click.command("tenants")
@json_option
def command(as_json: bool) -> None:
    """Show each tenant: what waits, its pace, when it will be drained, what will be too late, and why it stands.

    "late" counts jobs that will pass their horizon before they can be sent at this pace, estimated from a sample.
    """
    with open_session() as session:
        status = read_status(session.client, session.keys, forecaster(session.settings))
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
