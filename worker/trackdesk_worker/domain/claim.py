"""A claim: the job that a process holds, and the settlement that ends it."""

from enum import StrEnum
from typing import NamedTuple

from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_producer.contract.record import JobClass, tenant_of
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind


class ClaimedJob(NamedTuple):
    """A job this process holds until its lease ends. A named tuple: one is built per delivery."""

    id: str
    token: str
    attempts: int
    """This one included, within the present budget."""
    strikes: int
    last_reason: str
    past: Past
    epoch_ms: int
    accepted_ms: int
    job_class: JobClass
    probe: bool
    """Whether the tenant is on hold and this job tries if it may go on."""
    attempts_total: int
    trace: str
    """The traceparent of the enqueue, or `NO_TRACE`."""
    body: bytes

    @property
    def ambiguous(self) -> bool:
        """Whether an earlier attempt may have landed."""
        return self.past.doubt is not Doubt.NONE

    @property
    def tenant(self) -> str:
        """The tenant whose Trackdesk gets it."""
        return tenant_of(self.id)


class Verb(StrEnum):
    """What a settlement does with the job."""

    DELIVER = "deliver"
    RETRY = "retry"
    BURY = "bury"
    RELEASE = "release"


class Settlement(NamedTuple):
    """The end of one claim. A named tuple: one is built per delivery."""

    id: str
    token: str
    verb: Verb
    reason: str
    delay_ms: int = 0
    """How long to wait before the next try; for `Verb.RETRY`, and for a release with an effect on the tenant."""
    strikes: int = 0
    ambiguous: bool = False
    """Whether this attempt may have landed."""
    refused: bool = False
    """Whether Trackdesk said that it has the sale; remembered if nothing was in doubt."""
    spends_attempt: bool = True
    entry: str = ""
    """The attempt as JSON, for the job's history; empty if no request was made."""
    health: ServiceHealth = ServiceHealth.UNKNOWN
    """What the attempt says of the tenant's Trackdesk; moves its breaker."""
    probe: bool = False
    """Whether the claim was a held tenant's probe."""
    effect: TenantEffectKind = TenantEffectKind.NONE
    """What the answer may mean for the tenant; nothing, if the lease was lost."""
    effect_ms: int = 0
    """How long a freeze lasts."""
    past_horizon: bool = False
    """For `Verb.BURY`: not even an outage or a hold keeps the job any longer."""
