"""``trackdesk doctor``."""

import click
from rich.text import Text

from trackdesk_worker.cli.options import json_option
from trackdesk_worker.cli.output import console, emit_json, table
from trackdesk_worker.config.settings import SettingsInvalid, load_settings, secrets_in_clear
from trackdesk_worker.ops.doctor import Check, Checks, Level, diagnose
from trackdesk_worker.process import bootstrap

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Check the settings and the store for what loses money; exit 1 if anything does.

    Each warning and failure comes with the line that fixes it.
    """
    checks = _checks()
    failed = any(check.level is Level.FAIL for check in checks)
    if as_json:
        emit_json(
            {
                "ok": not failed,
                "checks": [
                    {"name": c.name, "level": c.level.value, "finding": c.finding, "remedy": c.remedy} for c in checks
                ],
            }
        )
        return 1 if failed else 0
    rows = table("", "check", "finding")
    for check in checks:
        rows.add_row(Text(check.level.value, style=_STYLES[check.level]), Text(check.name), Text(check.finding))
        if check.remedy is not None and check.level is not Level.OK:
            rows.add_row("", "", Text(f"→ {check.remedy}", style="italic"))
    console().print(rows)
    return 1 if failed else 0


def _checks() -> Checks:
    try:
        settings = load_settings()
    except SettingsInvalid as error:
        return [Check("settings", Level.FAIL, str(error), "correct the variables named")]
    with bootstrap.open_store(settings) as store:
        return diagnose(settings, store, secrets_in_environment=secrets_in_clear())
