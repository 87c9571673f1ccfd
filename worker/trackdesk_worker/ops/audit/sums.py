"""The two sides that an audit compares: the books, and the sums of the records."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from trackdesk_producer.contract.keys import NAMES
from trackdesk_producer.contract.record import JobRecord, State
from trackdesk_worker.store.dead_letters.causes import Cause
from trackdesk_worker.store.ledger import Book


@dataclass(frozen=True, slots=True)
class TenantIndexes:
    """What one tenant's books are compared with."""

    ready: int
    has_turn: bool
    paused: bool
    listed: bool


@dataclass(frozen=True, slots=True)
class BooksSnapshot:
    """Books and sizes of the indexes, all of one moment."""

    moves: int
    books: Mapping[str, Book]
    unreadable: tuple[str, ...]
    """Tenants whose books cannot be read."""
    tenants: Mapping[str, TenantIndexes]
    indexed: Mapping[State, int]
    causes: Mapping[str, Cause]
    """By number, from their own books."""
    cause_sizes: Mapping[str, tuple[int, int]]
    """By number: dead letters in the index by time, and by amount."""


DIGEST_MASK = (1 << 64) - 1


@dataclass
class Tally:
    """The sums of a walk, and the keys it found. Its size grows with the number of tenants, not of jobs."""

    records: int = 0
    newer: int = 0
    """Records that only a newer release can read."""
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(tenant, state) → records."""
    money: dict[tuple[str, str], dict[str, Decimal]] = field(default_factory=dict)
    """(tenant, state) → currency → sum."""
    tenants: set[str] = field(default_factory=set)
    causes: set[str] = field(default_factory=set)
    """Numbers of causes that have an index."""
    indexes: set[str] = field(
        default_factory=lambda: {NAMES[name] for name in ("scheduled", "retries", "in_flight", "dead")}
    )
    buckets: set[str] = field(default_factory=set)
    tombstones: int = 0
    tombstone_digest: int = 0
    """Sum of the ids' hashes: equal sets have equal sums, and need no memory to compare."""
    filed: int = 0
    """Entries of all prune lists."""
    filed_digest: int = 0

    def add(self, record: JobRecord, identity: bytes) -> None:
        """Count one record."""
        self.records += 1
        self.tenants.add(record.tenant)
        self.jobs[record.tenant, record.state.value] += 1
        if record.amount is not None and record.currency is not None:
            sums = self.money.setdefault((record.tenant, record.state.value), {})
            sums[record.currency] = sums.get(record.currency, Decimal()) + record.amount
        if record.state.terminal:
            self.tombstones += 1
            self.tombstone_digest = (self.tombstone_digest + hash(identity)) & DIGEST_MASK

    def exceeds(self, snapshot: BooksSnapshot) -> bool:
        """Return whether a state has more records than in the books: SCAN may have returned a key twice."""
        return any(
            number > (snapshot.books[tenant].jobs[state] if tenant in snapshot.books else 0)
            for (tenant, state), number in self.jobs.items()
        )
