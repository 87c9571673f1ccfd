"""What a tenant's budget was used for while its jobs waited. Pure arithmetic."""

from dataclasses import dataclass

MEASURED_US = 60_000_000
"""Less of the budget than this says little: the rest counts as used."""
AT_BUDGET = 0.9
"""From this share on, it is the budget that a tenant's jobs wait for; below, it is the workers or Trackdesk."""


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The budget of the last minute or two in which jobs waited, as the time (µs) that its requests take."""

    spent_us: int = 0
    lost_us: int = 0
    """What passed unused although jobs waited: no claim came, or the tenant had its requests in flight already."""

    def share(self, *, idle_us: int) -> float:
        """Return the part that was used, above 0; `idle_us` passed unused since the last claim."""
        measured = max(MEASURED_US, self.spent_us + self.lost_us)
        return (measured - self.lost_us) / (measured + idle_us)
