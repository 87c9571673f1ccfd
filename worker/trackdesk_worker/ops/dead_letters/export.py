"""Exports dead letters: JSON lines to enqueue elsewhere, CSV with every field, or the columns of Trackdesk's import."""

import csv
import io
import json
import re
from collections.abc import Callable
from enum import StrEnum
from typing import Any, BinaryIO

from trackdesk_worker.domain.money import plain_amount
from trackdesk_worker.ops.audit_log import Act, Operator, record
from trackdesk_worker.ops.job_detail import flat_text
from trackdesk_worker.ops.timestamps import iso
from trackdesk_worker.store.dead_letters.index_query import walk
from trackdesk_worker.store.dead_letters.query import Hit, Search
from trackdesk_worker.store.job_store import JobStore

ABOUT = frozenset({"reason", "died_at", "accepted_at", "attempts", "may_have_landed"})
"""Keys of a line that do not belong to the conversion; import ignores them."""
FIELDS = (
    "tenant", "externalId", "conversionTypeCode", "amount.value", "currency.code", "cid", "externalCid",
    "externalClientId", "customerId", "status", "createdAt", "couponCodes", "revenueOriginId", "qualified",
    *(f"customParams.advS{number}" for number in range(1, 6)),
    "reason", "died_at", "accepted_at", "attempts", "may_have_landed",
)  # fmt: skip
TRACKDESK_COLUMNS = ("externalId", "amount", "currency", "createdAt")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Form(StrEnum):
    """The format of an export."""

    JSONL = "jsonl"
    CSV = "csv"
    TRACKDESK = "trackdesk"


def export(
    store: JobStore,
    wanted: Search,
    operator: Operator,
    target: BinaryIO,
    *,
    form: Form = Form.JSONL,
) -> int:
    """Write the dead letters of a search, the oldest first; return how many. Flat memory; audited before it starts.

    They stay dead letters. A JSON line is the guide's POST body and ``tenant``, ``reason``, ``died_at``.
    """
    about: dict[str, Any] = {"filter": str(wanted), "format": form.value}
    record(store, Act.EXPORT, operator, count=store.client.zcard(store.keys.dead), phase="started", **about)
    line = _lines(form, target)
    count = 0
    for hit in walk(store, wanted):
        line(hit)
        count += 1
    record(store, Act.EXPORT, operator, count=count, phase="finished", **about)
    return count


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet reads as a formula; numbers are unchanged."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _lines(form: Form, target: BinaryIO) -> Callable[[Hit], None]:
    if form is Form.JSONL:
        return lambda hit: _write(target, _json_line(hit))
    columns, cells = (FIELDS, _cells) if form is Form.CSV else (TRACKDESK_COLUMNS, _trackdesk_cells)
    _write(target, _csv_line(columns))
    return lambda hit: _write(target, _csv_line(cells(hit)))


def _write(target: BinaryIO, line: str) -> None:
    target.write(line.encode())


def _json_line(hit: Hit) -> str:
    about = {"tenant": hit.record.tenant, "reason": hit.reason, "died_at": iso(hit.at_ms)}
    return json.dumps({**hit.conversion, **about}, ensure_ascii=False, separators=(",", ":")) + "\n"


def _csv_line(cells: tuple[str, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow([safe_cell(cell) for cell in cells])
    return line.getvalue()


def _cells(hit: Hit) -> tuple[str, ...]:
    record = hit.record
    known: dict[str, Any] = {
        **flat_text(hit.conversion, ","),
        "tenant": record.tenant,
        "reason": hit.reason,
        "died_at": iso(hit.at_ms),
        "accepted_at": iso(record.accepted_ms),
        "attempts": record.attempts_total,
        "may_have_landed": "true" if record.ambiguous else "false",
    }
    return tuple(str(known.get(name, "")) for name in FIELDS)


def _trackdesk_cells(hit: Hit) -> tuple[str, ...]:
    """Return externalId, amount, currency and the time of the sale: the shop's createdAt, else when it was accepted."""
    amount = "" if hit.amount is None else plain_amount(hit.amount, hit.currency)
    created = hit.conversion.get("createdAt") or iso(hit.record.accepted_ms)
    return (hit.record.external_id, amount, hit.currency or "", str(created))
