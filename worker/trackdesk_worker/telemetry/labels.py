"""Labels of metrics. Every one has a bounded set of values, whatever comes in from outside."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from trackdesk_producer.contract.record import NO_CURRENCY, JobClass, State
from trackdesk_producer.conversion.currencies import MINOR_UNITS
from trackdesk_producer.receipts import Durability
from trackdesk_worker.domain.forecast import PaceBasis
from trackdesk_worker.domain.outcome import OutcomeKind, Reason
from trackdesk_worker.domain.tenant_state import TenantState

OTHER = "other"
"""The value shared by all values without a label of their own."""

TENANTS_NAMED = 50
"""Tenants with a label of their own by default; series grow with this, not with what callers enqueue."""


class MaintenanceKind(StrEnum):
    """What a maintenance loop did with a job."""

    PROMOTED = "promoted"
    RECLAIMED = "reclaimed"
    BURIED = "buried"
    PRUNED = "pruned"


class DutyName(StrEnum):
    """The background duties of a worker."""

    REFRESH_TENANTS = "refresh_tenants"
    HEARTBEAT = "heartbeat"
    PROMOTE = "promote"
    RECLAIM = "reclaim"
    UNPARK = "unpark"
    PLANS = "plans"
    AUDIT_LOG = "audit_log"
    WAKE = "wake"
    PRUNE = "prune"
    PRUNE_PLANS = "prune_plans"
    ADMISSION = "admission"


class Signal(StrEnum):
    """What telemetry is made of."""

    LOG = "log"
    TRACE = "trace"
    METRIC = "metric"


class Queue(StrEnum):
    """Where due work waits: ready, by class; or for its time, which has come without anybody promoting it."""

    LIVE = JobClass.LIVE
    RETRY = JobClass.RETRY
    REDRIVE = JobClass.REDRIVE
    SCHEDULED = "scheduled"


class DurabilityResult(StrEnum):
    """How a probe of what `durability=` promises ended."""

    MET = "met"
    NOT_MET = "not_met"
    FAILED = "failed"


class LedgerEvent(StrEnum):
    """Events the books count, by the name of their field."""

    DUPLICATES = "duplicates"
    CONFLICTS = "conflicts"
    REDRIVEN = "redriven"
    RECLAIMED = "reclaimed"
    ORPHANED_ENTRIES = "orphaned_entries"
    FREEZES = "freezes"


@dataclass(frozen=True, slots=True)
class Label:
    """One label: its name and the values it can have, besides `OTHER`."""

    name: str
    values: frozenset[str]

    def of(self, value: str) -> str:
        """Return the value itself if it is one of the set, else `OTHER`."""
        return value if value in self.values else OTHER


def _label(name: str, values: Iterable[str]) -> Label:
    return Label(name, frozenset(str(value) for value in values))


AMBIGUOUS = "ambiguous"
NO_STATUS = "none"

OUTCOME = _label("outcome", [*OutcomeKind, AMBIGUOUS])
STATUS_CLASS = _label("status_class", ["1xx", "2xx", "3xx", "4xx", "5xx", NO_STATUS])
REASON = _label("reason", Reason)
HOW = _label("how", [Reason.PAIRED, Reason.UNPAIRED, Reason.CONFIRMED_DUPLICATE, Reason.RESTORED_DUPLICATE])
JOB_CLASS = _label("class", JobClass)
KIND = _label("kind", MaintenanceKind)
DUTY = _label("duty", DutyName)
SIGNAL = _label("signal", Signal)
STATE = _label("state", State)
ENDED_STATE = _label("state", [state for state in State if state.terminal])
TENANT_STATE = _label("tenant_state", TenantState)
BLOCKED_REASON = _label("reason", [state for state in TenantState if state.blocks])
QUEUE = _label("queue", Queue)
LEVEL = _label("level", [level for level in Durability if level is not Durability.MEMORY])
RESULT = _label("result", DurabilityResult)
CURRENCY = _label("currency", [*MINOR_UNITS, NO_CURRENCY])
EVENT = _label("event", LedgerEvent)
PACE = _label("pace", PaceBasis)
TENANT = Label("tenant", frozenset())
"""Its values are `TenantNames`."""
VERSION = Label("version", frozenset())
"""Its one value is the installed version."""


def status_class(status: int | None) -> str:
    """Return the class of an HTTP status: ``2xx`` for 204; ``none`` where no answer came."""
    return NO_STATUS if status is None else STATUS_CLASS.of(f"{status // 100}xx")


class TenantNames:
    """Which tenants have a label of their own. Not thread-safe.

    Named tenants keep their name while the process lives, so that series do not come and go; when there is
    room, those with most jobs get a name first. All the rest share `OTHER`.
    """

    def __init__(self, cap: int = TENANTS_NAMED, *, always: Iterable[str] = ()) -> None:
        self._cap = cap
        self._named = set(always)

    def admit(self, jobs: Mapping[str, int]) -> None:
        """Learn of tenants, with the number of jobs each ever had."""
        room = self._cap - len(self._named)
        if room > 0:
            strangers = sorted(jobs.keys() - self._named, key=lambda tenant: (-jobs[tenant], tenant))
            self._named.update(strangers[:room])

    def of(self, tenant: str) -> str:
        """Return the tenant, or `OTHER`."""
        return tenant if tenant in self._named else OTHER
