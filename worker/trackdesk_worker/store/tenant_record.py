"""The operational state of one tenant: the hash ``tenant:<tenant>``, whose fields are read here and nowhere else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trackdesk_producer.contract.constants import OUTAGE, THROTTLED
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.domain.tenant_state import TenantState
from trackdesk_worker.store.job_store import JobStore

PAUSED = "paused"
"""The field that is there while the tenant is paused."""
AT_BUDGET_S = 5
"""A tenant whose budget is spent up to this long ago, or further, is sent as fast as it may be."""


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
    restored_ms: int = -1
    """When an operator last reported a restore of the store; -1 if never."""

    def state(self, now_ms: int) -> TenantState:
        """Return whether jobs may leave; the first of the states that applies."""
        if self.pause is not None:
            return TenantState.PAUSED
        if self.hold is not None:
            return self.hold.state
        if self.frozen_until_ms > now_ms:
            return TenantState.FROZEN
        # A tenant that is served as soon as its budget allows never falls far behind the present.
        spent = self.budget_spent_until_ms > now_ms - AT_BUDGET_S * 1000
        return TenantState.AT_BUDGET if spent else TenantState.RUNNING

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
        restored_ms=int(fields.get("doubt", -1)),
    )
