"""What the API takes and gives. Amounts are decimal strings, times RFC 3339 in UTC, names as on the command line."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trackdesk_producer.contract.record import State
from trackdesk_producer.conversion.rules import AMOUNT_PATTERN, NON_BLANK_PATTERN
from trackdesk_worker.ops.dead_letters.search import Order

Money = Annotated[dict[str, str], Field(description="Sum per ISO 4217 code; XXX: amounts without a currency")]
Reason = Annotated[
    str, Field(min_length=1, max_length=500, pattern=NON_BLANK_PATTERN, description="Why; put on record")
]
JobId = Annotated[
    str, Field(min_length=3, max_length=2048, description="A job's id: tenant, slash, externalId, as lists give it")
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class RequestModel(BaseModel):
    """Something a client sends; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResponseModel(BaseModel):
    """Something the API answers."""

    model_config = ConfigDict(frozen=True)


class ErrorBody(ResponseModel):
    """Why a request was not carried out."""

    error: str = Field(description="One word for programs")
    message: str = Field(description="One plain sentence for people")


class WorkerSeen(ResponseModel):
    """One worker process."""

    worker: str
    seen_s_ago: float
    running: bool


class Status(ResponseModel):
    """Where everything stands."""

    jobs: dict[str, int] = Field(description="Jobs by state; ended ones with those pruned since")
    accepted: int
    money: dict[str, Money] = Field(description="By state")
    money_at_risk: Money = Field(description="Accepted and not delivered")
    oldest_ready_age_s: float | None
    oldest_overdue_s: float | None
    books_balance: bool
    admission_closed: bool = Field(description="Whether enqueue is refused because the store is nearly full")
    workers: list[WorkerSeen]


class Blocked(ResponseModel):
    """Why a tenant stands still."""

    kind: str = Field(description="paused, hold, breaker or frozen")
    reason: str
    by: str | None
    since: Moment | None
    until: Moment | None


class Tenant(ResponseModel):
    """One tenant."""

    tenant: str
    jobs: dict[str, int] = Field(description="Unfinished jobs by state")
    money_at_risk: Money
    rate_per_s: float | None = Field(description="Budget; null is no limit")
    budget_ratio: float = Field(description="Share of the budget in force; below 1 after HTTP 429")
    drain_s: float | None
    late_jobs: int
    blocked: list[Blocked]


class Tenants(ResponseModel):
    """Tenants: those that stand still first, then those with most unfinished jobs."""

    tenants: list[Tenant]
    found: int


class TenantsQuestion(RequestModel):
    """Which tenants."""

    find: str | None = Field(None, max_length=64, description="Part of the name")
    limit: int = Field(100, ge=1, le=1000)


class ReasonGiven(RequestModel):
    """Why something is done."""

    reason: Reason


class Changed(ResponseModel):
    """What an act came to."""

    changed: bool = Field(description="False: it was so already")


class JobQuestion(RequestModel):
    """Which job."""

    id: JobId


class JobAct(RequestModel):
    """Something done to one job."""

    id: JobId
    reason: Reason


class JobDiscard(JobAct):
    """Giving one job up for good."""

    confirm: str = Field(max_length=2048, description="The externalId once more")


class Job(ResponseModel):
    """One job's whole life."""

    id: str
    tenant: str
    external_id: str
    state: State
    reason: str | None
    amount: str | None
    currency: str | None
    moments: dict[str, Moment] = Field(description="accepted, and what the state knows: due, died, ended …")
    attempts: int
    redrives: int
    may_have_landed: bool
    in_doubt: list[str] = Field(description="The amounts with which an attempt may have landed")
    conversion: dict[str, Any] | None = Field(description="Personal data masked unless revealed; null once ended")
    history: list[dict[str, Any]] = Field(description="Attempts and operators' acts, the newest last")
    remedy: str | None = Field(description="What to do about a dead letter")


class Filter(RequestModel):
    """Which jobs; what is left out means any. Times are RFC 3339 or an age such as 2h."""

    tenant: str | None = Field(None, max_length=64)
    state: State | Literal["any"] | None = Field(None, description="By default dead")
    reason: str | None = Field(None, max_length=100, description="As the causes name it: type_not_found")
    type: str | None = Field(None, max_length=1024, description="Conversion type")
    status: int | None = Field(None, ge=100, le=599, description="HTTP status of the last attempt")
    external_id: str | None = Field(None, max_length=2048)
    cid: str | None = Field(None, max_length=1024)
    customer_id: str | None = Field(None, max_length=255)
    currency: str | None = Field(None, pattern="^[A-Za-z]{3}$")
    min: str | None = Field(None, pattern=AMOUNT_PATTERN, description="Smallest amount")
    max: str | None = Field(None, pattern=AMOUNT_PATTERN, description="Largest amount")
    since: str | None = Field(None, max_length=40)
    until: str | None = Field(None, max_length=40)


class JobsSearch(Filter):
    """A search, its order, and which page of it."""

    order: Order = "newest"
    limit: int = Field(50, ge=1, le=500)
    after: str | None = Field(None, max_length=4096, description="The `after` of the page before")


class ExportAsked(RequestModel):
    """Dead letters to take out."""

    filter: Filter
    format: Literal["jsonl", "csv", "trackdesk"] = Field("jsonl", description="trackdesk: columns of its CSV import")
    reason: Reason


class JobRow(ResponseModel):
    """One job in a list; no personal data."""

    id: str
    tenant: str
    external_id: str
    state: State
    conversion_type: str = Field(description="A dash once the job has ended")
    amount: str | None
    currency: str | None
    reason: str | None
    http_status: int | None
    at: Moment = Field(description="The time of its state: died, due, ready since, ended")
    accepted_at: Moment
    attempts: int
    redrives: int
    may_have_landed: bool
    in_doubt: list[str] = Field(description="The amounts with which an attempt may have landed")


class Found(ResponseModel):
    """One page of a search."""

    jobs: list[JobRow]
    after: str | None = Field(description="For the next page; null if there is none")
    examined: int
    complete: bool = Field(
        description="False: time ran out before the page was full; go on with `after`, or name a tenant if it is null"
    )
    total: int | None = Field(description="All jobs meant, where the store knows it without reading them")


class Cause(ResponseModel):
    """Dead letters with one cause."""

    tenant: str
    reason: str
    conversion_type: str = Field(description="*: several that are not told apart")
    http_status: int | None
    jobs: int
    money: Money
    first_at: Moment
    last_at: Moment
    example: str = Field(description="externalId of the oldest")
    remedy: str


class Causes(ResponseModel):
    """Dead letters by cause, the largest first."""

    jobs: int
    money: Money
    complete: bool
    causes: list[Cause]


class EditAsked(RequestModel):
    """A correction of a dead letter."""

    id: JobId
    changes: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=4096)] | None] = Field(
        max_length=100, description="Field → new text, by the guide's dotted names; null takes it away"
    )


class EditMade(EditAsked):
    """A correction to make."""

    reason: Reason
    expect: str = Field(max_length=100, description="`shown` of the proposal")


class Change(ResponseModel):
    """One field's difference."""

    field: str
    before: str | None = Field(description="Personal data masked")
    after: str | None


class EditProposal(ResponseModel):
    """What a correction would change."""

    shown: str
    diff: list[Change]
    errors: list[str] = Field(description="What speaks against it; empty: it can be made")
    warnings: list[str]


class PlansQuestion(RequestModel):
    """Which plans."""

    limit: int = Field(50, ge=1, le=200)
    after: str | None = Field(None, max_length=64, description="Older than this plan")


class PlanMake(RequestModel):
    """A plan to make."""

    filter: Filter
    name: str = Field(min_length=1, max_length=120, pattern=NON_BLANK_PATTERN, description="After its incident")
    act: Literal["redrive", "discard"] = "redrive"
    reason: Reason
    expected: int | None = Field(None, ge=0, le=10**9, description="As the preview said; refused if it is another now")


class PlanWord(RequestModel):
    """A word to a plan."""

    reason: Reason | None = Field(None, description="By default the plan's")


class PlanStart(PlanWord):
    """The word that lets it run."""

    confirm_count: int | None = Field(None, ge=0, le=10**9, description="The number of its jobs; needed to discard")


class PlanPreview(ResponseModel):
    """What a plan would mean now."""

    jobs: int
    money: Money
    by_reason: dict[str, int]
    by_tenant: dict[str, int]
    complete: bool = Field(description="False: time ran out, at least so many")
    seconds_at_budget: float = Field(description="If nothing else is sent; 0 is no limit")
    seconds_at_share: float = Field(description="Beside live sales and retries that use their shares")


class Plan(ResponseModel):
    """A plan as it stands."""

    id: str
    name: str
    act: Literal["redrive", "discard"]
    state: str = Field(description="listing, ready, running, paused, finished, cancelled or failed")
    problem: str | None = Field(description="Why it failed, or was paused by the system; null if nothing stopped it")
    operator: str
    reason: str
    filter: str
    created_at: Moment
    started_at: Moment | None
    ended_at: Moment | None
    listed: int
    decided: int
    verdicts: dict[str, int]
    money_listed: Money
    money_done: Money
    by_reason: dict[str, int]
    by_tenant: dict[str, int]


class Plans(ResponseModel):
    """Plans, the newest first."""

    plans: list[Plan]
    after: str | None


class PlanItemsQuestion(RequestModel):
    """Which jobs of a plan."""

    verdict: str | None = Field(None, max_length=32, description="redriven, discarded, skipped, refused or pending")
    limit: int = Field(100, ge=1, le=1000)
    after: str | None = Field(None, max_length=256)


class PlanItem(ResponseModel):
    """One job of a plan."""

    id: str
    tenant: str
    external_id: str
    verdict: str
    at: Moment
    state_now: State | None


class PlanItems(ResponseModel):
    """Jobs of a plan."""

    items: list[PlanItem]
    after: str | None


class LogQuestion(RequestModel):
    """Which entries of the audit log."""

    before: int | None = Field(None, ge=1, le=10**12, description="Older than the entry of this number")
    limit: int = Field(50, ge=1, le=500)


class LogEntry(ResponseModel):
    """One entry."""

    number: int
    entry: dict[str, Any] = Field(description="As it is stored: kind, at_ms, operator, reason, count, money, hash …")


class Log(ResponseModel):
    """Entries of the audit log, the newest first."""

    entries: list[LogEntry]
    before: int | None = Field(description="For the next page, of older ones; null if there are none")
