"""What the simulated Trackdesk recorded: the judge of "once at Trackdesk", whatever a worker reports.

Rows live in memory. With a path each row is also appended to a JSONL file before its request is answered, and
read back at start, so that rows survive a kill of the simulator (not of the machine: there is no fsync).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any


class LedgerFullError(Exception):
    """The ledger holds `max_rows` rows; nothing was recorded."""


class LedgerFileError(ValueError):
    """The ledger file holds a line that is no row; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One recorded conversion: its dedupe key and content. `received_at` is in seconds since the Unix epoch; absent
    texts are "".
    """

    tenant: str
    type_code: str
    external_id: str
    revenue_origin_id: str
    source: str
    amount: Decimal | None
    currency: str
    status: str
    created_at: str
    received_at: float
    method: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values; the amount stays a string, so no digit is lost."""
        return {
            "tenant": self.tenant,
            "type": self.type_code,
            "external_id": self.external_id,
            "revenue_origin_id": self.revenue_origin_id,
            "cid": self.source,
            "amount": None if self.amount is None else str(self.amount),
            "currency": self.currency,
            "status": self.status,
            "created_at": self.created_at,
            "received_at": self.received_at,
            "method": self.method,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "LedgerRow":
        """Rebuild a row. Raises KeyError, TypeError or ArithmeticError for anything else."""
        amount = data["amount"]
        return cls(
            tenant=data["tenant"],
            type_code=data["type"],
            external_id=data["external_id"],
            revenue_origin_id=data.get("revenue_origin_id", ""),  # files of older releases have none
            source=data["cid"],
            amount=None if amount is None else Decimal(amount),
            currency=data["currency"],
            status=data["status"],
            created_at=data["created_at"],
            received_at=data["received_at"],
            method=data["method"],
        )


@dataclass(frozen=True, slots=True)
class ExactlyOnce:
    """The verdict over a list of external ids: `ok` if each has one row."""

    missing: tuple[str, ...]
    doubled: tuple[str, ...]

    @classmethod
    def of(cls, recorded: Iterable[str], asked: Iterable[str]) -> "ExactlyOnce":
        """Compare what was recorded with what was asked for; ids that nobody asked for are ignored."""
        seen = Counter(recorded)
        wanted = dict.fromkeys(asked)
        return cls(
            missing=tuple(i for i in wanted if seen[i] == 0),
            doubled=tuple(i for i in wanted if seen[i] > 1),
        )

    @property
    def ok(self) -> bool:
        """Return whether nothing is missing and nothing doubled."""
        return not self.missing and not self.doubled


class Ledger:
    """Every recorded conversion, in order of arrival, with the refused repeats counted beside it.

    Not thread-safe: it belongs to the simulator's event loop, where check and append happen without a pause.
    """

    def __init__(self, *, max_rows: int = 2_000_000, path: Path | None = None) -> None:
        self.rows: list[LedgerRow] = []
        self.duplicates: Counter[tuple[str, str, str]] = Counter()
        """Refused repeats by (tenant, type, external id), whatever their revenue origin."""
        self._max_rows = max_rows
        self._by_id: dict[tuple[str, str], list[LedgerRow]] = {}
        self._clicks: Counter[tuple[str, str, str]] = Counter()
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._read(path)
            self._file = path.open("ab", buffering=0)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LedgerRow]:
        return iter(self.rows)

    def has(self, tenant: str, type_code: str, external_id: str, revenue_origin_id: str | None = None) -> bool:
        """Return whether this externalId was recorded for this tenant and type, under this origin or any."""
        rows = self._by_id.get((tenant, external_id), ())
        return any(row.type_code == type_code and revenue_origin_id in (None, row.revenue_origin_id) for row in rows)

    def for_click(self, tenant: str, type_code: str, source: str) -> int:
        """Count what was recorded for this tenant, type and click."""
        return self._clicks[tenant, type_code, source]

    def append(self, row: LedgerRow) -> None:
        """Record a conversion.

        Raises LedgerFullError, or OSError if the file cannot take it; then nothing is kept.
        """
        if len(self.rows) >= self._max_rows:
            raise LedgerFullError
        if self._file is not None:
            line = json.dumps(row.as_json(), separators=(",", ":"), ensure_ascii=False)
            self._file.write(line.encode("utf-8", "surrogatepass") + b"\n")
        self._index(row)

    def note_duplicate(self, tenant: str, type_code: str, external_id: str) -> None:
        """Count a refused repeat."""
        self.duplicates[tenant, type_code, external_id] += 1

    @property
    def duplicates_refused(self) -> int:
        """All refused repeats."""
        return self.duplicates.total()

    def count(self, *, tenant: str | None = None) -> int:
        """Count the rows, of one tenant or of all."""
        return len(self.rows) if tenant is None else sum(row.tenant == tenant for row in self.rows)

    def rows_for(self, tenant: str, external_id: str) -> list[LedgerRow]:
        """Return a tenant's rows with this externalId, of any type."""
        return list(self._by_id.get((tenant, external_id), ()))

    def ids(self, *, tenant: str | None = None) -> list[str]:
        """Return the externalIds in order of arrival, repeated as often as they were recorded."""
        return [row.external_id for row in self.rows if tenant is None or row.tenant == tenant]

    def totals(self, *, tenant: str | None = None) -> dict[str, Decimal]:
        """Return the exact sum of the amounts by currency; "" gathers amounts without a currency."""
        sums: dict[str, Decimal] = {}
        for row in self.rows:
            if row.amount is not None and (tenant is None or row.tenant == tenant):
                sums[row.currency] = sums.get(row.currency, Decimal(0)) + row.amount
        return sums

    def exactly_once(self, external_ids: Iterable[str], *, tenant: str | None = None) -> ExactlyOnce:
        """Compare the ledger with what should be in it."""
        return ExactlyOnce.of(self.ids(tenant=tenant), external_ids)

    def clear(self) -> None:
        """Forget everything, in the file too."""
        if self._file is not None:
            self._file.truncate(0)
        self.rows.clear()
        self.duplicates.clear()
        self._by_id.clear()
        self._clicks.clear()

    def close(self) -> None:
        """Close the file; the rows in memory stay readable."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _index(self, row: LedgerRow) -> None:
        self.rows.append(row)
        if row.external_id:
            self._by_id.setdefault((row.tenant, row.external_id), []).append(row)
        self._clicks[row.tenant, row.type_code, row.source] += 1

    def _read(self, path: Path) -> None:
        if not path.exists():
            return
        with path.open("rb+") as file:
            whole = 0
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._index(LedgerRow.from_json(json.loads(line.decode("utf-8", "surrogatepass"))))
                except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                    raise LedgerFileError(f"{path}, line {number}: not a row of the ledger") from error
                whole += len(line)
            # A kill may leave half a line; its request was never answered, so the half is dropped.
            file.truncate(whole)
