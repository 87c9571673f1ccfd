"""Streams an export while it is written; memory use does not grow with its size."""

import os
import threading
from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

from trackdesk_worker.console.context import Deployment
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.export import Form, export
from trackdesk_worker.store.dead_letters.query import Search

CHUNK = 64 * 1024
TYPES = {
    Form.JSONL: "application/x-ndjson",
    Form.CSV: "text/csv; charset=utf-8",
    Form.TRACKDESK: "text/csv; charset=utf-8",
}
ENDINGS = {Form.JSONL: "jsonl", Form.CSV: "csv", Form.TRACKDESK: "trackdesk.csv"}


def exported(deployment: Deployment, wanted: Search, who: Operator, form: Form) -> Response:
    """Return the dead letters of a search as a download, audited before its first byte is sent."""
    headers = {"Content-Disposition": f'attachment; filename="dead-letters.{ENDINGS[form]}"'}
    return StreamingResponse(_written(deployment, wanted, who, form), media_type=TYPES[form], headers=headers)


def _written(deployment: Deployment, wanted: Search, who: Operator, form: Form) -> Iterator[bytes]:
    """Yield what a thread writes. A reader that stops closes the pipe, which stops the writer.

    An export that fails midway is truncated and has no `finished` entry in the audit log.
    """
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writing, "wb", CHUNK) as target:
                export(deployment.store, wanted, who, target, form=form)
        except BrokenPipeError:
            pass  # the client disconnected
        except BaseException as error:  # raised again in the reading thread
            failed.append(error)

    thread = threading.Thread(target=write, name="export", daemon=True)
    thread.start()
    with os.fdopen(reading, "rb", 0) as source:
        while chunk := source.read(CHUNK):
            yield chunk
    thread.join()
    if failed:
        raise failed[0]
