"""What the simulator remembers about one tenant between two requests."""

import random

from trackdesk_simulator.config import TenantConfig
from trackdesk_simulator.faults import FaultDice
from trackdesk_simulator.ledger import Ledger
from trackdesk_simulator.limiter import Limiter
from trackdesk_simulator.stats import TenantStats


class Tenant:
    """One tenant's settings, limiter, faults and counters."""

    def __init__(self, name: str, config: TenantConfig, *, ledger: Ledger, seed: int, now: float) -> None:
        self.name = name
        self.config = config
        self.stats = TenantStats()
        self.dice = FaultDice(config.faults, random.Random(f"{seed}:{name}"))
        self.limiter = None if config.rate_limit is None else Limiter(config.rate_limit, now=now)
        self._ledger = ledger
        self._lockouts_before = 0

    def configure(self, config: TenantConfig, *, now: float) -> None:
        """Use these settings from now on; a limiter goes on unless its rule changed."""
        if config.rate_limit != self.config.rate_limit:
            self.restart_limiter(config, now=now)
        if config.faults != self.config.faults:
            self.dice.load(config.faults)
        self.config = config

    def restart_limiter(self, config: TenantConfig, *, now: float) -> None:
        """Start with a full bucket and no lockout."""
        self._lockouts_before = self.lockouts
        self.limiter = None if config.rate_limit is None else Limiter(config.rate_limit, now=now)

    def reset(self, *, now: float) -> None:
        """Forget counters and lockouts; what is in flight stays counted."""
        self.stats.clear()
        self.restart_limiter(self.config, now=now)
        self._lockouts_before = 0

    @property
    def lockouts(self) -> int:
        """How often the limiter closed for a while."""
        return self._lockouts_before + (0 if self.limiter is None else self.limiter.lockouts)

    def has(self, type_code: str, external_id: str, revenue_origin_id: str | None = None) -> bool:
        """Return whether this externalId was recorded for this type, under this revenue origin or under any."""
        return self._ledger.has(self.name, type_code, external_id, revenue_origin_id)

    def for_click(self, type_code: str, source: str) -> int:
        """Count what was recorded for this type and click."""
        return self._ledger.for_click(self.name, type_code, source)
