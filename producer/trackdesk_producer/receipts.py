"""What the producer answers."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trackdesk_producer.contract.record import State
from trackdesk_producer.errors import ProducerError


class Durability(StrEnum):
    """What a receipt promises about the store's memory of the conversion."""

    MEMORY = "memory"
    """The store has it; a crash of the store's machine may cost what its AOF had not yet written (about 1 s)."""
    FSYNC = "fsync"
    """It is on the store's disk (WAITAOF; Redis 7.2 or newer, or Valkey)."""
    REPLICATED = "replicated"
    """At least one replica has it as well (WAIT)."""


class ReceiptStatus(StrEnum):
    """What became of one enqueued conversion."""

    ACCEPTED = "accepted"
    """Stored; it will be delivered."""
    DUPLICATE = "duplicate"
    """The same conversion was accepted before; nothing was stored twice. ``state`` says what became of it."""
    CONFLICT = "conflict"
    """The same externalId was accepted before with other content; this one was not stored. Look at it."""
    REFUSED = "refused"
    """Only in the receipts of ``enqueue_many``: not stored, or not known to be; ``error`` says why."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The answer to one enqueued conversion. It is true exactly if it is `ok`, so that ``if receipt:`` is safe."""

    status: ReceiptStatus
    tenant: str
    external_id: str | None
    """The sale's id, also when the producer created it; None only for a conversion refused without one."""
    job_id: str | None
    state: State | None
    """Where the first job of this externalId is now; None if refused."""
    external_id_created: bool = False
    """Whether the conversion came without an externalId. Keep the created one: only it makes a repeat safe."""
    warnings: tuple[str, ...] = ()
    """What was accepted although it looks odd; last, that the sale was given up before."""
    error: ProducerError | None = None
    """Why it was refused."""

    @property
    def ok(self) -> bool:
        """Whether this very conversion is stored, by this call or an earlier one, and nobody gave it up.

        False for the duplicate of a sale that was cancelled or discarded: it will not be delivered.
        """
        return self.status in (ReceiptStatus.ACCEPTED, ReceiptStatus.DUPLICATE) and not self.given_up

    def __bool__(self) -> bool:
        return self.ok

    @property
    def given_up(self) -> bool:
        """Whether the sale was cancelled or discarded before. To sell it after all, use a new externalId."""
        return self.status is ReceiptStatus.DUPLICATE and self.state in (State.CANCELLED, State.DISCARDED)


class CancelStatus(StrEnum):
    """What became of a cancellation."""

    CANCELLED = "cancelled"
    """It will never be sent."""
    UNKNOWN = "unknown"
    """No such job, or its dedupe window is over."""
    REFUSED = "refused"
    """It is in flight, has ended, or an attempt may have reached Trackdesk; ``state`` says where it is."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The answer to one cancellation. It is true exactly if the sale will never be sent."""

    status: CancelStatus
    state: State | None

    def __bool__(self) -> bool:
        return self.status is CancelStatus.CANCELLED


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job as its shop sees it."""

    tenant: str
    external_id: str
    job_id: str
    state: State
    accepted_at: datetime
    attempts: int
    """Requests made so far."""
    reason: str | None
    """How it ended, or how its last attempt did."""
    amount: Decimal | None
    currency: str | None
