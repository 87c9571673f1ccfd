"""What a tenant may send: its budget, the classes' shares of it, and when its breaker opens."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant without settings of its own may do."""

    rate_per_s: float = 5
    """Requests per second; 0 is no limit."""
    burst: int = 2
    """Requests that may go at once after a rest. Two, so that a claim that comes late catches up."""
    cap: int = 1024
    """Requests in flight, over all processes. A tenant starts with five and gets more as it answers."""

    @property
    def rate_us(self) -> int:
        """Time one request takes of the budget, in µs; 0 is no limit."""
        return round(1_000_000 / self.rate_per_s) if self.rate_per_s > 0 else 0


@dataclass(frozen=True, slots=True)
class Shares:
    """The guaranteed part of a tenant's budget for each class, in tenths or any other whole."""

    live: int = 7
    retry: int = 2
    redrive: int = 1

    def slots(self) -> str:
        """Return the classes in the order in which slots fall to them, each spread evenly (smooth round robin)."""
        weights = {"l": self.live, "r": self.retry, "d": self.redrive}
        total, credit, slots = sum(weights.values()), dict.fromkeys(weights, 0), ""
        for _ in range(total):
            for name, weight in weights.items():
                credit[name] += weight
            best = max(credit, key=lambda name: credit[name])
            credit[best] -= total
            slots += best
        return slots


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a tenant's breaker opens, and how often it is probed then.

    It opens when at least `ratio` of the requests of the last `window_ms` failed, if these were `volume` or more;
    with fewer, when the last `failures` failed. Always by failures of more than one job.
    """

    failures: int = 5
    ratio: float = 0.9
    volume: int = 20
    window_ms: int = 10_000
    first_probe_ms: int = 5_000
    last_probe_ms: int = 300_000
