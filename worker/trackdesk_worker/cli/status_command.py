"""``trackdesk status``."""

from typing import Any

import click
from rich.console import Console

from trackdesk_producer.contract.record import State
from trackdesk_worker.cli.options import forecaster, json_option, open_session
from trackdesk_worker.cli.output import add_row, console, emit_json, facts, table, warn
from trackdesk_worker.cli.tenants_view import blocked_json, blocked_table, forecast_json, tenants_table
from trackdesk_worker.domain.money import plain_money, readable_money
from trackdesk_worker.ops.status import StoreStatus, read_status
from trackdesk_worker.ops.timestamps import readable_age
from trackdesk_worker.store.ledger import Money, add_money
from trackdesk_worker.store.snapshot import WORKER_SEEN_S


@click.command("status")
@json_option
def command(as_json: bool) -> None:
    """Show jobs and money by state, the oldest work, and blocked tenants."""
    with open_session() as session:
        status = read_status(session.store, forecaster(session.settings))
    if as_json:
        emit_json(_as_json(status))
    else:
        _print(console(), status)


def _as_json(status: StoreStatus) -> dict[str, Any]:
    book = status.book
    return {
        "jobs": status.jobs,
        "accepted": book.jobs["accepted"],
        "money_at_risk": plain_money(status.at_risk),
        "money": {state.value: plain_money(_money(status, state)) for state in State},
        "oldest_ready_age_s": status.oldest_ready_age_s,
        "oldest_overdue_s": status.oldest_overdue_s,
        "books_balance": not book.residual_jobs and not book.residual_money,
        "admission_closed": status.admission_closed,
        "jobs_of_newer_release": status.newer,
        "tenants": [
            {
                "tenant": tenant,
                "jobs": {state.value: one.jobs[state] for state in State if not state.terminal},
                "money_at_risk": plain_money(one.at_risk),
                **forecast_json(status.forecasts[tenant]),
            }
            for tenant, one in status.books.items()
        ],
        "blocked": [blocked_json(blocked) for blocked in status.blocked],
        "workers": [
            {"worker": name, "seen_s_ago": round(age_s, 3), "running": age_s <= WORKER_SEEN_S}
            for name, age_s in status.workers.items()
        ],
    }


def _print(to: Console, status: StoreStatus) -> None:
    rows = table("state", "jobs", "money", right=("jobs", "money"))
    for state in State:
        add_row(rows, state.value.replace("_", " "), f"{status.jobs[state]:,}", readable_money(_money(status, state)))
    to.print(rows)
    to.print()
    running = sum(1 for age_s in status.workers.values() if age_s <= WORKER_SEEN_S)
    book = status.book
    to.print(
        facts(
            {
                "at risk": readable_money(status.at_risk),
                "oldest ready": _age(status.oldest_ready_age_s),
                "overdue": _age(status.oldest_overdue_s),
                "workers": running or "none is running: start `trackdesk worker`",
                "enqueue": "refused: the store is nearly full" if status.admission_closed else None,
                "books": "do not balance: run `trackdesk audit`" if book.residual_jobs or book.residual_money else None,
            }
        )
    )
    if status.newer:
        warn(f"{status.newer:,} jobs wait for workers of the newer release that wrote their records; start those again")
    late = sum(forecast.late for forecast in status.forecasts.values())
    if late:
        warn(f"about {late:,} jobs will pass their horizon before they can be sent; see `trackdesk tenants`")
    if len(status.books) > 1:
        to.print()
        to.print(tenants_table(status))
    if status.blocked:
        to.print()
        to.print(blocked_table(status))


def _money(status: StoreStatus, state: State) -> Money:
    money = status.book.money
    return add_money([money.get(state, {}), money.get(f"pruned_{state}", {})])


def _age(seconds: float | None) -> str:
    return "none" if seconds is None else readable_age(seconds)
