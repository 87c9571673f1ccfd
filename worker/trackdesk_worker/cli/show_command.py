"""``trackdesk show``."""

from typing import Any

import click

from trackdesk_worker.cli.job_view import print_job
from trackdesk_worker.cli.options import json_option, operator_of, operator_options, tenant_option, type_option


@click.command("show")
@click.argument("external_id")
@tenant_option
@type_option
@click.option("--reveal", is_flag=True, help="Show personal data too; put on record.")
@operator_options
@json_option
def command(external_id: str, operator: str | None, why: str | None, reveal: bool, **chosen: Any) -> None:
    """Show everything about one sale: state, times, money, attempts and answers.

    Personal data (cid, customerId, custom parameters) is masked unless --reveal is passed.
    """
    who = operator_of(operator, why, default_reason="show --reveal") if reveal else None
    print_job(external_id, reveal_to=who, **chosen)
