"""The audit: checks from the records up that records, indexes and books agree, and names each discrepancy.

It only reads, in flat memory, and may run during deliveries: a job is checked by its record and indexes at one moment,
the books by a snapshot. Only the sums over all records need a store without changes; ``moves`` shows whether there were
any. The audit then tries again, and reports if it never found such a moment.
"""

import time
from dataclasses import dataclass

from trackdesk_worker.ops.audit.books import check_books, check_sums, read_moves, take_snapshot
from trackdesk_worker.ops.audit.discrepancies import Discrepancy, Findings
from trackdesk_worker.ops.audit.log_chain import check_audit_log, check_set_aside
from trackdesk_worker.ops.audit.records import name_unfiled, walk_records
from trackdesk_worker.ops.audit.sums import BooksSnapshot
from trackdesk_worker.store.audit_chain import ChainVerdict
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, total

WALKS = 3
"""Walks at most, to find one without a change."""
LONG_WALK_S = 10.0
"""A walk that took longer is not repeated: changes during the next one are as likely."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found."""

    discrepancies: tuple[Discrepancy, ...]
    """The first thousand; `found` counts all."""
    found: int
    records: int
    """Records walked."""
    rested: bool
    """Whether no job changed during a walk, so that the sums over all records were compared with the books too."""
    walks: int
    book: Book
    """The books of all tenants."""
    orphaned_entries: int
    """Orphaned index entries that scripts removed so far: something else wrote to this store."""
    seconds: float
    audit_entries: int
    """Entries of the audit log."""
    audit_log_head: str
    """Hash of the last one. Stored elsewhere, it lets a later audit prove that no earlier entry was changed."""

    @property
    def ok(self) -> bool:
        """Whether everything that could be compared agrees."""
        return self.found == 0


def audit(store: JobStore, *, sought_head: str | None = None) -> AuditReport:
    """Walk everything and compare it; `sought_head` must still be in the audit log."""
    started = time.monotonic()
    findings = Findings()
    for number in range(1, WALKS + 1):
        before, walk_started = read_moves(store), time.monotonic()
        tally = walk_records(store, findings)
        snapshot = take_snapshot(store, tally)
        # Unreadable records cannot be added up.
        rested = snapshot.moves == before and not tally.newer
        sums = Findings()
        if rested:
            check_sums(tally, snapshot, sums)
            name_unfiled(store, tally, sums)
        # SCAN may return a key twice while Redis shrinks its table: only what a second walk confirms counts.
        long = not rested and time.monotonic() - walk_started > LONG_WALK_S
        if (rested and not tally.exceeds(snapshot)) or long or number == WALKS:
            break
    findings.take(sums)
    check_books(snapshot, findings)
    chain = check_audit_log(store, findings, sought=sought_head)
    check_set_aside(store, findings)
    return _report(findings, tally.records, rested, number, snapshot, chain, time.monotonic() - started)


def _report(
    findings: Findings,
    records: int,
    rested: bool,
    walks: int,
    snapshot: BooksSnapshot,
    chain: ChainVerdict,
    seconds: float,
) -> AuditReport:
    book = total(snapshot.books.values())
    return AuditReport(
        discrepancies=findings.named(),
        found=findings.count,
        records=records,
        rested=rested,
        walks=walks,
        book=book,
        orphaned_entries=book.jobs["orphaned_entries"],
        seconds=seconds,
        audit_entries=chain.entries,
        audit_log_head=chain.head,
    )
