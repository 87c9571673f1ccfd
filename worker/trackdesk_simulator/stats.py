"""Counters of the simulator: who asked, what was answered, how many at once, and when."""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class TenantStats:
    """One tenant's counters. Answers are counted by HTTP status, or "dropped" and "hung"."""

    requests: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    rate_limited: int = 0
    answers: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Start again from zero; what is in flight stays so."""
        self.requests = 0
        self.max_in_flight = self.in_flight
        self.rate_limited = 0
        self.answers.clear()

    def as_json(self, *, lockouts: int) -> dict[str, Any]:
        """Return plain values."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "rate_limited": self.rate_limited,
            "lockouts": lockouts,
            "answers": dict(self.answers),
        }


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to the conversion endpoint, by the simulator's clock (seconds since the Unix epoch)."""

    at: float
    tenant: str
    limited: bool


class Stats:
    """Counters over all tenants. `arrivals` keeps the latest ones only."""

    def __init__(self, *, max_arrivals: int) -> None:
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.web_pages = 0
        self.arrivals: deque[Arrival] = deque(maxlen=max_arrivals)

    def enter(self, tenant: TenantStats) -> None:
        """A request has arrived."""
        self.requests += 1
        self.in_flight += 1
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        tenant.requests += 1
        tenant.in_flight += 1
        if tenant.in_flight > tenant.max_in_flight:
            tenant.max_in_flight = tenant.in_flight

    def leave(self, tenant: TenantStats) -> None:
        """The request was answered, aborted, or given up by the client."""
        self.in_flight -= 1
        tenant.in_flight -= 1

    def arrival_times(self, *, tenant: str | None = None, admitted: bool = False) -> list[float]:
        """Return when the latest requests arrived, in order; `admitted` leaves out those answered 429."""
        return [
            arrival.at
            for arrival in self.arrivals
            if (tenant is None or arrival.tenant == tenant) and not (admitted and arrival.limited)
        ]

    def clear(self) -> None:
        """Start again from zero; what is in flight stays so."""
        self.requests = 0
        self.max_in_flight = self.in_flight
        self.web_pages = 0
        for counter in (self.answers, self.faults, self.problems):
            counter.clear()
        self.arrivals.clear()

    def as_json(self) -> dict[str, Any]:
        """Return plain values, without the arrivals."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "answers": dict(self.answers),
            "faults": dict(self.faults),
            "problems": dict(self.problems),
            "web_pages": self.web_pages,
        }
