"""``trackdesk import``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from trackdesk_worker.cli import CommandFailed
from trackdesk_worker.cli.options import TENANT, json_option
from trackdesk_worker.cli.output import emit_json, warn
from trackdesk_worker.config.settings import load_settings
from trackdesk_worker.ops.importing.importer import DEFAULT_PATIENCE_S, ImportSummary, import_file
from trackdesk_worker.ops.importing.lines import FileUnreadable
from trackdesk_worker.ops.importing.rejects import RejectsFile
from trackdesk_worker.process import bootstrap

_FORMS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
_SAFE = "repeating the same command is safe: stored lines count as duplicates"


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), help="Default: by the name's ending.")
@click.option("--tenant", type=TENANT, help="Of lines that name none; default: TRACKDESK_TENANT.")
@click.option(
    "--rejects",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the lines that were not stored; default: FILE.rejects.jsonl.",
)
@click.option("--rejects-with-data", is_flag=True, help="Write the whole lines there; they may hold personal data.")
@click.option("--create-ids", is_flag=True, help="Give lines without externalId one; repeating would pay them twice.")
@click.option(
    "--patience",
    type=click.FloatRange(0, 86_400),
    default=DEFAULT_PATIENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a store that is away or full.",
)
@json_option
def command(
    file: Path,
    form: str | None,
    tenant: str | None,
    rejects: Path | None,
    rejects_with_data: bool,
    create_ids: bool,
    patience: float,
    as_json: bool,
) -> int:
    """Enqueue a file of conversions, of any size; safe to interrupt and to repeat.

    JSON lines: the guide's POST body, and optionally tenant and not_before. CSV: the guide's GET names as headers,
    and optionally tenant and not_before. UTF-8. Exit 1 if any line was rejected or conflicts.
    """
    form = form or _FORMS.get(file.suffix.lower())
    if form is None:
        raise click.UsageError("the file's name does not show its format: end it in .jsonl or .csv, or pass --format")
    target = rejects or file.with_name(f"{file.name}.rejects.jsonl")
    if target.exists() and target.samefile(file):
        raise click.UsageError("--rejects names the file that is imported")
    settings = load_settings(tenant=tenant)
    summary = ImportSummary()
    with (
        file.open("rb") as stream,
        bootstrap.open_traced_producer(settings, notify=warn) as producer,
        RejectsFile(target, with_data=rejects_with_data) as written,
        _progress(file.stat().st_size, quiet=as_json) as progress,
    ):
        try:
            import_file(
                stream,
                form,
                producer,
                written,
                has_tenant=settings.tenant is not None,
                create_ids=create_ids,
                patience_s=patience,
                progress=progress,
                summary=summary,
            )
        except FileUnreadable as error:
            raise click.UsageError(f"{file}: {error}") from error
        except KeyboardInterrupt as error:
            raise CommandFailed(f"stopped after line {summary.line} of {file}; {_SAFE}") from error
    _notify(file, summary, written.path if written.written else None, as_json)
    return 0 if summary.clean else 1


def _notify(file: Path, summary: ImportSummary, rejects: Path | None, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "accepted": summary.accepted,
                "duplicate": summary.duplicate,
                "given_up": summary.given_up,
                "conflict": summary.conflict,
                "rejected": summary.rejected,
                "lines": summary.lines,
                "ids_created": summary.ids_created,
                "warnings": dict(summary.warnings.most_common()),
                "rejects_file": None if rejects is None else str(rejects),
                "stopped": summary.stopped,
            }
        )
    else:
        click.echo(
            f"{summary.accepted:,} accepted, {summary.duplicate:,} duplicate, {summary.conflict:,} conflict, "
            f"{summary.rejected:,} rejected"
        )
        for sentence, count in summary.warnings.most_common():
            warn(f"{count:,} lines: {sentence}")
    if rejects is not None:
        warn(f"the lines that will not be delivered are named in {rejects}")
    if summary.stopped is not None:
        warn(f"stopped after line {summary.line} of {file}: {summary.stopped}; {_SAFE}")
    elif not summary.lines:
        warn(f"{file} holds no conversion")


@contextmanager
def _progress(size: int, *, quiet: bool) -> Iterator[Callable[[int, ImportSummary], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty())
    with bar:
        task = bar.add_task("0 lines", total=size)

        def show(done: int, summary: ImportSummary) -> None:
            bar.update(task, completed=done, description=f"{summary.lines:,} lines")

        yield show
