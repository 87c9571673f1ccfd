"""What must be true of every sale, whatever happened to it; the simulated Trackdesk's ledger is the judge.

The judge knows what each request recorded, and what the worker could see of it. It takes nothing from the product but
its records and books, which it compares with the rows.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord, State
from trackdesk_simulator.ledger import Ledger, LedgerRow
from trackdesk_worker.store.ledger import Book

LIVE = (State.READY, State.SCHEDULED, State.DEAD)
"""States of a job that is not at Trackdesk as far as the product knows, and that nobody is sending just now."""


class Violation(AssertionError):
    """The product said something of a sale that Trackdesk's ledger contradicts."""

    def __init__(self, kind: str, life: "Life | None", detail: str) -> None:
        self.kind = kind
        self.life = life
        super().__init__(f"{kind}: {detail}" if life is None else f"{kind}: {life.id!r}: {detail}")


@dataclass(frozen=True, slots=True)
class Content:
    """What a body says, as far as Trackdesk's ledger keeps it."""

    type_code: str
    revenue_origin_id: str
    amount: Decimal | None
    currency: str

    @classmethod
    def of(cls, body: bytes) -> "Content":
        """Read a POST body."""
        fields = json.loads(body)
        amount = (fields.get("amount") or {}).get("value")
        return cls(
            fields["conversionTypeCode"],
            fields.get("revenueOriginId", ""),
            None if amount is None else Decimal(amount),
            (fields.get("currency") or {}).get("code", ""),
        )


@dataclass(slots=True)
class Life:
    """One sale, and what really happened to it."""

    id: str
    tenant: str
    external_id: str
    network: bool = False
    foreign: bool = False
    """Another system recorded this externalId, or the offer refuses repeats: "already exists" says nothing of us."""
    plain: bool = False
    """Nothing happens to it but what happens to its tenant, so it must be delivered, and soon."""
    accepted_ms: int = 0
    """In true time."""
    due_ms: int = 0
    """By the store's clock: when it may go at the earliest, if the shop said so."""
    stored: bool = False
    content: Content | None = None
    """Of the newest claim."""
    token: str = ""
    """Of the newest claim."""
    rows: list[LedgerRow] = field(default_factory=list)
    """What its own requests recorded."""
    sent: int = 0
    """Requests that were made, or may have been."""
    doubted: bool = False
    """The product knows of an attempt that may have landed."""
    refused_cleanly: bool = False
    """Trackdesk said "already exists" before any doubt, to this dedupe key, and the product knows."""
    refused_ms: int = -1
    edited_ms: int = -1
    excuse: str = ""
    """Why nobody could know better: a restore forgot what happened."""
    over: bool = False
    over_ms: int = 0
    credit: tuple[str, Decimal] | None = None
    """What counts as delivered money for it."""
    events: list[tuple[int, str]] = field(default_factory=list)

    def note(self, now_ms: int, what: str) -> None:
        """Remember an event for the history of a failure."""
        self.events.append((now_ms, what))

    def history(self, start_ms: int) -> str:
        """Return its events, one a line."""
        return "\n".join(f"  {(at - start_ms) / 1000:>10.1f} s  {what}" for at, what in self.events)


class Judge:
    """Compares. `delivered` is what Trackdesk holds of the sales that the product calls delivered."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.lives: dict[str, Life] = {}
        self.open: dict[str, Life] = {}
        """Those whose end is not yet checked."""
        self.delivered: defaultdict[str, defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        self.excused: Counter[str] = Counter()

    def add(self, life: Life) -> None:
        """Watch a sale."""
        self.lives[life.id] = self.open[life.id] = life

    def recorded(self, life: Life, row: LedgerRow) -> None:
        """A request of this sale made a row: only the first one is right."""
        life.rows.append(row)
        if len(life.rows) > 1 and not life.excuse:
            raise Violation("paid twice", life, f"Trackdesk holds {[_shown(row) for row in life.rows]}")

    def claimed(self, life: Life, token: str, body: bytes, *, ambiguous: bool) -> None:
        """A claim hands the sale out; it says whether the product is in doubt."""
        life.token, life.content = token, Content.of(body)
        life.doubted = life.doubted or ambiguous

    def settled(self, life: Life, token: str, reason: str, now_ms: int, *, ambiguous: bool) -> None:
        """A settlement took effect."""
        if token != life.token:
            raise Violation("settled by another than the holder", life, f"{token} settled, {life.token} holds it")
        if reason == "unverified_duplicate" and not life.doubted:
            life.refused_cleanly, life.refused_ms = True, now_ms
        life.doubted = life.doubted or ambiguous

    def sold_again(self, life: Life) -> None:
        """The store forgot a sale that was over, and accepted it again: a new life, of which nothing is known."""
        life.foreign = life.foreign or bool(life.rows)
        life.rows, life.doubted, life.refused_cleanly, life.credit = [], False, False, None
        life.over, life.plain, self.open[life.id] = False, False, life

    def reopen(self, life: Life) -> None:
        """Forget how a sale ended: the store did."""
        if life.credit is not None:
            currency, amount = life.credit
            self.delivered[life.tenant][currency] -= amount
        life.over, life.credit = False, None
        self.open[life.id] = life

    def look(self, records: Mapping[str, JobRecord | None], doubts: Mapping[str, int], now_ms: int) -> None:
        """Compare every record with the ledger.

        `doubts`: tenant → until when what was accepted counts as sent. `now_ms`: the earliest that the store's clock
        has said since the last look, by which the dedupe window of what ended meanwhile may have begun.
        """
        for life in list(self.open.values()):
            record = records.get(life.id)
            if record is None:
                if life.stored:
                    raise Violation("lost", life, "it was accepted, and the store holds nothing of it")
                continue
            self._look_at(life, record, doubts.get(life.tenant, -1))
            if record.state.terminal:
                life.over, life.over_ms = True, now_ms
                del self.open[life.id]

    def _look_at(self, life: Life, record: JobRecord, doubt_ms: int) -> None:
        doubted = record.ambiguous or record.accepted_ms <= doubt_ms
        if record.state is State.DELIVERED:
            self._delivered(life, record)
        elif record.state is State.CANCELLED and life.rows and not life.excuse:
            raise Violation("cancelled and paid", life, f"Trackdesk holds {_shown(life.rows[0])}")
        elif record.state in LIVE:
            if life.rows and not doubted and not life.excuse:
                raise Violation("doubt forgotten", life, f"{_shown(life.rows[0])} is at Trackdesk, {record} is clean")
            # What is accepted in the millisecond in which a restore is reported may be in doubt.
            if record.ambiguous and not life.sent and record.accepted_ms > doubt_ms:
                raise Violation("doubt without a request", life, "nothing was ever sent, and it counts as sent")

    def _delivered(self, life: Life, record: JobRecord) -> None:
        assert life.content is not None, f"{life.id} is delivered and was never claimed"
        said = _money(record.amount, record.currency)
        found = [row for row in self.ledger.rows_for(life.tenant, life.external_id) if self._same_key(life, row)]
        row = next((row for row in found if _money(row.amount, row.currency) == said), None)
        if row is None:
            excuse = life.excuse or (
                "another system's row" if life.foreign and life.doubted and not life.refused_cleanly else ""
            )
            if not excuse:
                raise Violation(
                    "called delivered",
                    life,
                    f"the job says {life.content.type_code} {said[0]} {said[1]} ({record.reason}), Trackdesk holds "
                    f"{[_shown(row) for row in self.ledger.rows_for(life.tenant, life.external_id)] or 'nothing'}",
                )
            self.excused[excuse] += 1
        amount = record.amount if row is None else row.amount
        if amount is not None:
            life.credit = (record.currency or NO_CURRENCY, amount)
            self.delivered[life.tenant][record.currency or NO_CURRENCY] += amount

    def _same_key(self, life: Life, row: LedgerRow) -> bool:
        assert life.content is not None
        if row.type_code != life.content.type_code:
            return False
        return not life.network or row.revenue_origin_id == life.content.revenue_origin_id

    def compare_books(self, books: Mapping[str, Book]) -> None:
        """Compare what the books say of delivered money with Trackdesk's rows of the sales called delivered."""
        for tenant, book in books.items():
            said: defaultdict[str, Decimal] = defaultdict(Decimal)
            for column in ("delivered", "pruned_delivered"):
                for currency, amount in book.money.get(column, {}).items():
                    said[currency] += amount
            held = {currency: amount for currency, amount in self.delivered[tenant].items() if amount}
            if dict(said) != held:
                raise Violation("books", None, f"{tenant}: the books say {dict(said)} is delivered, Trackdesk {held}")


def _money(amount: Decimal | None, currency: str | None) -> tuple[Decimal | None, str]:
    """Return what is paid; a currency means nothing without an amount."""
    return amount, "" if amount is None or currency in (None, NO_CURRENCY) else str(currency)


def _shown(row: LedgerRow) -> str:
    origin = f" of {row.revenue_origin_id}" if row.revenue_origin_id else ""
    return f"{row.type_code} {row.amount} {row.currency}{origin}"
