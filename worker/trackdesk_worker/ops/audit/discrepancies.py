"""What an audit can find."""

from dataclasses import dataclass
from enum import StrEnum

NAMED = 1000
"""Discrepancies named; more are only counted, so that a badly damaged store does not fill the memory."""


class DiscrepancyKind(StrEnum):
    """Kinds of disagreement."""

    RECORD_MISSING = "record_missing"
    """An index, a prune list or a history names a job that has no record."""
    RECORD_UNREADABLE = "record_unreadable"
    """A record in no known format."""
    RECORD_NEWER = "record_newer"
    """A record that a newer release wrote: only that release's audit can judge it."""
    RECORD_INCONSISTENT = "record_inconsistent"
    """A record that contradicts itself."""
    CONVERSION_ALTERED = "conversion_altered"
    """The body is not what was accepted, or header and body differ."""
    NOT_INDEXED = "not_indexed"
    """A job is missing from the index of its state: it would not be found."""
    WRONGLY_INDEXED = "wrongly_indexed"
    """An index holds a job whose record says otherwise."""
    WRONG_SCORE = "wrong_score"
    """An index holds a job at another time than its record says."""
    NOT_PRUNABLE = "not_prunable"
    """A tombstone in no prune list, or in more than one."""
    LEFT_BEHIND = "left_behind"
    """A history of a job that has ended."""
    BOOKS_UNREADABLE = "books_unreadable"
    """A tenant's books hold something other than numbers."""
    BOOKS_UNBALANCED = "books_unbalanced"
    """Accepted is not the sum of the states."""
    BOOKS_DISAGREE = "books_disagree"
    """The books of a state differ from what is there."""
    CAUSE_MISCOUNTED = "cause_miscounted"
    """The number or the money of the dead letters of a cause is wrong."""
    NO_TURN = "no_turn"
    """A tenant has ready jobs and no turn: they would not be claimed."""
    TENANT_UNLISTED = "tenant_unlisted"
    """A tenant has books and is missing from the list of tenants."""
    AUDIT_LOG_ALTERED = "audit_log_altered"
    """The audit log was altered: its hash chain is broken, or its end is missing."""
    AUDIT_LOG_UNREADABLE = "audit_log_unreadable"
    """An action that waited for its entry in the audit log cannot be read."""
    PLAN_UNREADABLE = "plan_unreadable"
    """What is stored as a plan is not one."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One disagreement."""

    kind: DiscrepancyKind
    detail: str
    job_id: str | None = None
    tenant: str | None = None

    def __str__(self) -> str:
        where = self.job_id or self.tenant
        return f"{self.kind}{f' {where}' if where else ''}: {self.detail}"


class Findings:
    """Discrepancies, each one once."""

    def __init__(self) -> None:
        self._found: dict[Discrepancy, None] = {}
        self.count = 0

    def add(self, discrepancy: Discrepancy) -> None:
        """Add one."""
        if discrepancy in self._found:
            return
        self.count += 1
        if len(self._found) < NAMED:
            self._found[discrepancy] = None

    def take(self, others: "Findings") -> None:
        """Add all of another collection."""
        self.count += others.count - len(others._found)
        for discrepancy in others._found:
            self.add(discrepancy)

    def named(self) -> tuple[Discrepancy, ...]:
        """Return those that are named, in the order found."""
        return tuple(self._found)
