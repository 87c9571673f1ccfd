"""Whether jobs of a tenant may leave."""

from enum import StrEnum


class TenantState(StrEnum):
    """Whether jobs of a tenant may leave; the first that applies, in this order."""

    PAUSED = "paused"
    HELD = "held"
    BREAKER = "breaker"
    FROZEN = "frozen"
    AT_BUDGET = "at_budget"
    """Its jobs leave as fast as its budget allows: they wait for the budget and for nothing else."""
    RUNNING = "running"

    @property
    def blocks(self) -> bool:
        """Whether nothing leaves."""
        return self not in (TenantState.AT_BUDGET, TenantState.RUNNING)
