"""The operational state of one tenant: the hash ``tenant:<tenant>``, whose fields are read here and nowhere else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trackdesk_producer.contract.constants import OUTAGE, THROTTLED
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.domain.budget_use import BudgetUse
from trackdesk_worker.domain.tenant_state import TenantState
from trackdesk_worker.store.job_store import JobStore

PAUSED = "paused"
"""The field that is there while the tenant is paused."""
UNUSED = BudgetUse()
SPENT_LATELY_S = 60
"""A tenant whose budget has been whole for longer does not spend it: it has no limit, or nobody claims."""


@dataclass(frozen=True, slots=True)
class BlockedTenant:
    """Why a tenant's jobs are not claimed. Times in Unix milliseconds."""

    tenant: str
    kind: str
    """``paused`` by an operator, ``hold`` or ``breaker`` by the system, or ``frozen`` for a while."""
    reason: str
    by: str | None
    since_ms: int | None
    until_ms: int | None
    """When the tenant resumes by itself, or when the next probe is sent."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when, by whom and why an operator paused the tenant."""

    since_ms: int
    by: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The system sends this tenant probes only."""

    reason: str
    since_ms: int | None
    probe_at_ms: int
    """When the next probe may be sent; 0 if at once."""

    @property
    def state(self) -> TenantState:
        """The state in which the hold puts the tenant."""
        return {OUTAGE: TenantState.BREAKER, THROTTLED: TenantState.FROZEN}.get(self.reason, TenantState.HELD)


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """What is stored of a tenant. Times in Unix milliseconds, 0 if there is none."""

    pause: Pause | None = None
    hold: Hold | None = None
    frozen_until_ms: int = 0
    frozen_reason: str = "-"
    budget_spent_until_ms: int = 0
    """When the budget is whole again if nothing more is sent (``tat`` of claim.lua)."""
    pace_factor: float = 1.0
    """Share of the full rate when the last freeze ended."""
    rate_us: int | None = None
    """The tenant's own time between two requests; None where the defaults apply."""
    used: BudgetUse = UNUSED
    """What the budget was used for lately (`used` of claim.lua)."""
    capped_since_us: int | None = None
    """Since when jobs wait (µs) because the tenant has as many requests in flight as it may; None if they do not."""
    resumed_ms: int = 0
    """When an operator last ended a pause."""
    restored_ms: int = -1
    """When an operator last reported a restore of the store; -1 if never."""

    def blocked_state(self, now_ms: int) -> TenantState | None:
        """Return why no job may leave, the first of the states that applies; None if jobs may."""
        if self.pause is not None:
            return TenantState.PAUSED
        if self.hold is not None:
            return self.hold.state
        if self.frozen_until_ms > now_ms:
            return TenantState.FROZEN
        return None

    def spends_budget(self, now_ms: int) -> bool:
        """Return whether the tenant has a budget and spent of it lately."""
        return self.budget_spent_until_ms > now_ms - SPENT_LATELY_S * 1000

    def could_leave_us(self, turn_us: int) -> int:
        """Return since when budget passes unused, of a tenant whose jobs wait and whose turn was at `turn_us`."""
        turn_us = min(turn_us, self.capped_since_us or turn_us)
        return max(turn_us, 1000 * max(self.budget_spent_until_ms, self.frozen_until_ms, self.resumed_ms))

    def blocked(self, tenant: str, now_ms: int) -> list[BlockedTenant]:
        """Return every reason why the tenant's jobs are not claimed."""
        found = []
        if self.pause is not None:
            found.append(BlockedTenant(tenant, "paused", self.pause.reason, self.pause.by, self.pause.since_ms, None))
        if self.hold is not None:
            kinds = {TenantState.BREAKER: "breaker", TenantState.FROZEN: "frozen"}
            kind, until_ms = kinds.get(self.hold.state, "hold"), self.hold.probe_at_ms or None
            found.append(BlockedTenant(tenant, kind, self.hold.reason, None, self.hold.since_ms, until_ms))
        if self.frozen_until_ms > now_ms:
            found.append(BlockedTenant(tenant, "frozen", self.frozen_reason, None, None, self.frozen_until_ms))
        return found


def read_tenant_records(store: JobStore, tenants: Iterable[str]) -> list[TenantRecord]:
    """Read what is stored of some tenants, in their order and at one moment."""
    return [parse_tenant(stored) for stored in store.transaction([("HGETALL", store.keys.tenant(t)) for t in tenants])]


def parse_tenant(stored: Mapping[bytes, bytes] | Mapping[str, str]) -> TenantRecord:
    """Read the hash of a tenant.

    Raises:
        ValueError: if a number in it is none.
    """
    fields = {text(name): text(value) for name, value in stored.items()}
    pause = hold = None
    if PAUSED in fields:
        pause = Pause(int(fields[PAUSED]), fields.get("paused_by"), fields.get("paused_why", "-"))
    if "hold" in fields:
        hold = Hold(fields["hold"], int(fields.get("held_since", 0)) or None, int(fields.get("probe_at", 0)))
    return TenantRecord(
        pause=pause,
        hold=hold,
        frozen_until_ms=int(fields.get("frozen_until", 0)),
        frozen_reason=fields.get("frozen_reason", "-"),
        budget_spent_until_ms=int(fields.get("tat", 0)) // 1000,
        pace_factor=float(fields.get("factor", 1)),
        rate_us=int(fields["rate_us"]) if "rate_us" in fields else None,
        used=_used(fields.get("used", "")),
        capped_since_us=int(fields["capped_since"]) if "capped_since" in fields else None,
        resumed_ms=int(fields.get("pauses", "0-0").partition(" ")[0].partition("-")[2]),
        restored_ms=int(fields.get("doubt", -1)),
    )


def _used(stored: str) -> BudgetUse:
    words = [int(word) for word in stored.split()]
    return BudgetUse(words[1] + words[3], words[2] + words[4]) if len(words) == 5 else BudgetUse()
