"""The import loop: reads lines, enqueues batches, counts results and writes rejects."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import islice
from typing import Any

from trackdesk_producer import EnqueueItem, Producer, QueueFull, QueueUnavailable, Receipt, ReceiptStatus
from trackdesk_worker.ops.importing.entries import ImportEntry, read_csv, read_json_lines
from trackdesk_worker.ops.importing.lines import FileBroken, LineReader
from trackdesk_worker.ops.importing.rejects import Reject, RejectsFile

BATCH = 5_000
"""Lines read, stored and counted together: ten round trips, of which the store works on one while the next is read."""
DEFAULT_PATIENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0

_NO_EXTERNAL_ID = (
    "has no externalId, so importing the file again would pay the sale twice: add one, "
    "or pass --create-ids to accept that"
)
_NO_TENANT = "names no tenant: add a tenant to the line, pass --tenant, or set TRACKDESK_TENANT"
_CONFLICT = "this externalId was accepted before with other content; the first one was kept"
_READERS = {"jsonl": read_json_lines, "csv": read_csv}


@dataclass
class ImportSummary:
    """Progress of an import. Every line read is in exactly one of the four counts."""

    accepted: int = 0
    duplicate: int = 0
    given_up: int = 0
    """Of the duplicates, those that were cancelled or discarded before: they will not be delivered."""
    conflict: int = 0
    rejected: int = 0
    line: int = 0
    """The last line that was processed."""
    ids_created: int = 0
    warnings: Counter[str] = field(default_factory=Counter)
    stopped: str | None = None
    """Why the import stopped before the end of the file; repeating it is safe."""

    @property
    def lines(self) -> int:
        """Lines processed, without blank ones."""
        return self.accepted + self.duplicate + self.conflict + self.rejected

    @property
    def clean(self) -> bool:
        """Whether every line of the file is stored, and none was cancelled or discarded."""
        return not (self.rejected or self.conflict or self.given_up or self.stopped)


class _StoreAway(Exception):
    pass


class _Importer:
    def __init__(
        self,
        producer: Producer,
        rejects: RejectsFile,
        *,
        has_tenant: bool,
        create_ids: bool,
        patience_s: float,
        pause: Callable[[float], None],
        summary: ImportSummary,
    ) -> None:
        self._producer = producer
        self._rejects = rejects
        self._has_tenant = has_tenant
        self._create_ids = create_ids
        self._patience_s = patience_s
        self._pause = pause
        self._summary = summary

    def take(self, entries: Iterator[ImportEntry]) -> bool:
        """Store one batch and count its lines; return whether there was one.

        Raises:
            _StoreAway: the patience ran out; confirmed lines are counted, the rest is not.
            FileBroken: the file cannot be read any further; the lines before are stored and counted.
        """
        rejects: list[Reject] = []
        sound: list[tuple[ImportEntry, EnqueueItem]] = []
        last: int | None = None
        broken: FileBroken | None = None

        def items() -> Iterator[EnqueueItem]:
            nonlocal last, broken
            try:
                for entry in islice(entries, BATCH):
                    last = entry.line
                    item, problem = self._complete(entry)
                    if item is None:
                        rejects.append(Reject(entry.line, "rejected", problem, entry.external_id, raw=entry.text))
                    else:
                        sound.append((entry, item))
                        yield item
            except FileBroken as error:
                broken = error

        receipts, away = self._store(items(), sound)
        for (entry, _), receipt in zip(sound, receipts, strict=True):
            if not _undecided(receipt):
                self._count(entry, receipt, rejects)
        self._summary.rejected += sum(1 for reject in rejects if reject.kind == "rejected")
        for reject in sorted(rejects, key=lambda reject: reject.line):
            self._rejects.write(reject)
        self._rejects.flush()
        if away is not None:
            raise _StoreAway(away)
        self._summary.line = last or self._summary.line
        if broken is not None:
            raise broken
        return last is not None

    def _complete(self, entry: ImportEntry) -> tuple[EnqueueItem | None, str]:
        item = entry.item
        if item is None:
            return None, entry.problem or ""
        if item.tenant is None and not self._has_tenant:
            return None, _NO_TENANT
        conversion: Any = item.conversion
        if conversion.external_id is None:
            if not self._create_ids:
                return None, _NO_EXTERNAL_ID
            # Created here and not by the producer, so that a repeated batch keeps its ids.
            made = conversion.with_external_id(f"td-{secrets.token_urlsafe(16)}")
            self._summary.ids_created += 1
            return EnqueueItem(made, item.tenant, item.not_before), ""
        return item, ""

    def _store(
        self, items: Iterator[EnqueueItem], sound: list[tuple[ImportEntry, EnqueueItem]]
    ) -> tuple[list[Receipt], str | None]:
        """Enqueue; repeat while the store is away or full, for at most the patience."""
        receipts = self._producer.enqueue_many(items)
        deadline, pause_s = time.monotonic() + self._patience_s, _FIRST_PAUSE_S
        while waiting := [position for position, receipt in enumerate(receipts) if _undecided(receipt)]:
            if time.monotonic() >= deadline:
                return receipts, str(receipts[waiting[0]].error)
            self._pause(min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            again = self._producer.enqueue_many([sound[position][1] for position in waiting])
            for position, receipt in zip(waiting, again, strict=True):
                receipts[position] = receipt
        return receipts, None

    def _count(self, entry: ImportEntry, receipt: Receipt, rejects: list[Reject]) -> None:
        summary = self._summary
        if receipt.warnings:
            summary.warnings.update(receipt.warnings)
        status = receipt.status
        if status is ReceiptStatus.ACCEPTED:
            summary.accepted += 1
        elif status is ReceiptStatus.DUPLICATE:
            summary.duplicate += 1
            if not receipt.ok:
                summary.given_up += 1
                problem = receipt.warnings[-1]
                rejects.append(Reject(entry.line, "given_up", problem, receipt.external_id, receipt.tenant, entry.text))
        elif status is ReceiptStatus.CONFLICT:
            summary.conflict += 1
            rejects.append(Reject(entry.line, "conflict", _CONFLICT, receipt.external_id, receipt.tenant, entry.text))
        else:
            rejects.append(Reject(entry.line, "rejected", str(receipt.error), receipt.external_id, raw=entry.text))


def import_file(
    stream: BufferedReader,
    form: str,
    producer: Producer,
    rejects: RejectsFile,
    *,
    has_tenant: bool,
    create_ids: bool = False,
    patience_s: float = DEFAULT_PATIENCE_S,
    progress: Callable[[int, ImportSummary], None] = lambda *_: None,
    pause: Callable[[float], None] = time.sleep,
    summary: ImportSummary | None = None,
) -> ImportSummary:
    """Enqueue every line of a file.

    Repeating it is safe: stored lines count as duplicates. Lines that cannot be stored go to `rejects`.

    Args:
        form: ``jsonl`` or ``csv``.
        has_tenant: whether the producer has a default tenant, for lines that name none.
        create_ids: give lines without externalId one; then repeating the import is not safe for them.
        patience_s: how long to retry while the store is away or full.
        progress: called with the bytes read and the counts after each batch.
        summary: filled during the import, so that it is complete after an interrupt.

    Raises:
        FileUnreadable: the file cannot be imported; no line was stored.
    """
    summary = ImportSummary() if summary is None else summary
    importer = _Importer(
        producer,
        rejects,
        has_tenant=has_tenant,
        create_ids=create_ids,
        patience_s=patience_s,
        pause=pause,
        summary=summary,
    )
    reader = LineReader(stream)
    entries = _READERS[form](reader)
    more = True
    while more and summary.stopped is None:
        try:
            more = importer.take(entries)
        except FileBroken as error:
            summary.stopped = f"{error}; the rest of the file was not read; fix the file and repeat the command"
        except _StoreAway as error:
            summary.stopped = str(error)
        progress(reader.bytes_read, summary)
    return summary


def _undecided(receipt: Receipt) -> bool:
    return isinstance(receipt.error, QueueUnavailable | QueueFull)
