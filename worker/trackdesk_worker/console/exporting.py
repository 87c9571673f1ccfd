"""Sending an export while it is written: flat memory, however many letters there are."""

import os
import threading
from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from trackdesk_worker.console.context import Deployment
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.export import Form, export
from trackdesk_worker.ops.dead_letters.search import Search

CHUNK = 64 * 1024
TYPES = {
    Form.JSONL: "application/x-ndjson",
    Form.CSV: "text/csv; charset=utf-8",
    Form.TRACKDESK: "text/csv; charset=utf-8",
}
ENDINGS = {Form.JSONL: "jsonl", Form.CSV: "csv", Form.TRACKDESK: "trackdesk.csv"}


def exported(deployment: Deployment, wanted: Search, who: Operator, form: Form) -> Response:
    """Return the dead letters of a search as a file to keep; on record before the first of them leaves."""
    headers = {"Content-Disposition": f'attachment; filename="dead-letters.{ENDINGS[form]}"'}
    return StreamingResponse(_written(deployment, wanted, who, form), media_type=TYPES[form], headers=headers)


def _written(deployment: Deployment, wanted: Search, who: Operator, form: Form) -> Iterator[bytes]:
    """Yield what a thread writes. Whoever stops reading stops the writer, by closing the pipe under it.

    An export that fails midway ends short of its last line, and of the second entry on record.
    """
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb", CHUNK) as target:
                export(deployment.client, deployment.keys, wanted, who, target, form=form)
        except BrokenPipeError:
            pass  # the reader left
        except BaseException as error:  # handed over to whoever reads
            failed.append(error)

    thread = threading.Thread(target=write, name="export", daemon=True)
    thread.start()
    with os.fdopen(reading, "rb", 0) as source:
        while chunk := source.read(CHUNK):
            yield chunk
    thread.join()
    if failed:
        raise failed[0]
