"""Shared by the commands: the session, and options with one meaning everywhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from trackdesk_producer import ConversionInvalid
from trackdesk_producer.conversion.rules import check_tenant
from trackdesk_worker.config.settings import Settings, load_settings
from trackdesk_worker.config.tenants import Tenants
from trackdesk_worker.ops.audit_log import Operator, OperatorInvalid
from trackdesk_worker.ops.backlog_forecast import Forecaster
from trackdesk_worker.ops.dead_letters import filters
from trackdesk_worker.process import bootstrap
from trackdesk_worker.store.dead_letters.query import Search
from trackdesk_worker.store.job_store import JobStore

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Session:
    """The settings and the store of a command."""

    settings: Settings
    store: JobStore


def forecaster(settings: Settings) -> Forecaster:
    """Return the backlog forecaster, with each tenant's settings."""
    return Forecaster(Tenants(settings), settings.shares)


@contextmanager
def open_session() -> Iterator[Session]:
    """Read the settings and open the store they name."""
    settings = load_settings()
    with bootstrap.open_store(settings) as store:
        yield Session(settings, store)


class _Tenant(click.ParamType[str]):
    name = "tenant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_tenant(value)
        except ConversionInvalid as error:
            self.fail(str(error), param, ctx)


TENANT = _Tenant()


def json_option(command: F) -> F:
    """``--json``: one JSON document on stdout and nothing else."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def tenant_option(command: F) -> F:
    """``--tenant``: by default TRACKDESK_TENANT."""
    return click.option("--tenant", type=TENANT, help="Only this tenant; default: TRACKDESK_TENANT, else any.")(command)


def type_option(command: F) -> F:
    """``--type``: the conversion type."""
    return click.option("--type", "conversion_type", metavar="CODE", help="Of this conversion type.")(command)


def reveal_option(command: F) -> F:
    """``--reveal``: personal data too."""
    return click.option("--reveal", is_flag=True, help="Show personal data too; recorded in the audit log.")(command)


def yes_option(command: F) -> F:
    """``--yes``: for scripts."""
    return click.option("--yes", is_flag=True, help="Do not ask; for scripts.")(command)


def plan_name_option(command: F) -> F:
    """``--name``: the name of a plan."""
    return click.option("--name", metavar="TEXT", help="Name of the plan: its incident. Default: the reason.")(command)


def detach_option(command: F) -> F:
    """``--detach``: start and do not wait."""
    return click.option("--detach", is_flag=True, help="Do not wait: the workers run the plan.")(command)


def operator_options(command: F) -> F:
    """``--operator`` and ``--reason``, recorded in the audit log."""
    command = click.option("--reason", "why", metavar="TEXT", help="Why; recorded in the audit log.")(command)
    return click.option(
        "--operator",
        metavar="NAME",
        envvar=["USER", "LOGNAME"],
        help="Who acts; recorded in the audit log. Default: $USER.",
    )(command)


def operator_of(operator: str | None, why: str | None, *, default_reason: str = "") -> Operator:
    """Return who acts and why, or a usage error."""
    try:
        return Operator(operator or "", why if why is not None else default_reason)
    except OperatorInvalid as error:
        raise click.UsageError(str(error)) from error


def filter_options(*cause_flags: str) -> Callable[[F], F]:
    """Return the options that make a `Search`; `cause_flags` name the one for the reason a sale died."""

    def add(command: F) -> F:
        options = (
            click.option(
                *cause_flags, "reason", metavar="REASON", help="Died for this reason, as `dead causes` names it."
            ),
            click.option("--status", type=click.IntRange(100, 599), help="With this HTTP status at the last attempt."),
            click.option("--external-id", metavar="ID", help="Of the sale with this externalId."),
            click.option("--cid", metavar="ID", help="Of this click."),
            click.option("--customer-id", metavar="ID", help="Of this customer."),
            click.option("--currency", metavar="CODE", help="In this currency: EUR."),
            click.option("--min-amount", "min", metavar="AMOUNT", help="Of this amount or more: 100.50."),
            click.option("--max-amount", "max", metavar="AMOUNT", help="Of this amount or less."),
            click.option("--older-than", "until", metavar="AGE", help="Died longer ago than this: 30m, 2h, 7d."),
            click.option("--newer-than", "since", metavar="AGE", help="Died within this time: 30m, 2h, 7d."),
        )
        for option in reversed(options):
            command = option(command)
        return type_option(tenant_option(command))

    return add


_OPTION_OF = {"min": "--min-amount", "max": "--max-amount", "until": "--older-than", "since": "--newer-than"}


def search_of(session: Session, *, tenant: str | None, conversion_type: str | None, **chosen: Any) -> Search:
    """Return the search for the values of `filter_options`; ages count from the store's clock."""
    given = {"tenant": tenant or session.settings.tenant, "type": conversion_type, **chosen}
    fields = {name: str(value) for name, value in given.items() if value is not None}
    try:
        for name, value in fields.items():
            if not value.strip():
                raise filters.FilterInvalid(name, "is empty; leave the option out to match all")
        return filters.search_of(fields, now_ms=session.store.time_ms())
    except filters.FilterInvalid as error:
        option = _OPTION_OF.get(error.field, f"--{error.field.replace('_', '-')}")
        raise click.UsageError(f"{option}: {error.problem}") from error
