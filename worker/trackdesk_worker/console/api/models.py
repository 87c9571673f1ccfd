"""Models of the API. Amounts are decimal strings, times RFC 3339 in UTC, names as on the command line."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trackdesk_producer.contract.record import State
from trackdesk_producer.conversion.rules import AMOUNT_PATTERN, NON_BLANK_PATTERN
from trackdesk_worker.domain.forecast import PaceBasis
from trackdesk_worker.store.dead_letters.query import Order

Money = Annotated[dict[str, str], Field(description="Sum per ISO 4217 code; XXX is for amounts without a currency")]
Reason = Annotated[
    str, Field(min_length=1, max_length=500, pattern=NON_BLANK_PATTERN, description="Why; recorded in the audit log")
]
JobId = Annotated[
    str, Field(min_length=3, max_length=2048, description="A job's id as in lists: tenant, slash, externalId")
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class RequestModel(BaseModel):
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResponseModel(BaseModel):
    """A response."""

    model_config = ConfigDict(frozen=True)


class ErrorBody(ResponseModel):
    """Why a request failed."""

    error: str = Field(description="Error code")
    message: str = Field(description="Explanation, one sentence")


class WorkerSeen(ResponseModel):
    """One worker process."""

    worker: str
    seen_s_ago: float
    running: bool


class Status(ResponseModel):
    """The state of the store and its workers."""

    jobs: dict[str, int] = Field(description="Jobs by state; ended ones include pruned ones")
    accepted: int
    money: dict[str, Money] = Field(description="By state")
    money_at_risk: Money = Field(description="Accepted, not delivered")
    oldest_ready_age_s: float | None
    oldest_overdue_s: float | None
    books_balance: bool
    admission_closed: bool = Field(description="Whether new sales are refused because the store is nearly full")
    workers: list[WorkerSeen]


class Blocked(ResponseModel):
    """Why a tenant is blocked."""

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
    rate_per_s: float | None = Field(description="Budget; null: no limit")
    budget_ratio: float = Field(description="Fraction of the budget in use; below 1 after HTTP 429")
    pace: PaceBasis = Field(description="What drain_s and late_jobs assume: the budget, or the pace observed")
    budget_used_ratio: float = Field(description="Fraction of the budget used lately, if pace is observed; else 1")
    drain_s: float | None
    late_jobs: int
    blocked: list[Blocked]


class Tenants(ResponseModel):
    """Tenants: blocked ones first, then those with most unfinished jobs."""

    tenants: list[Tenant]
    found: int


class TenantsQuery(RequestModel):
    """Which tenants to return."""

    find: str | None = Field(None, max_length=64, description="Part of the name")
    limit: int = Field(100, ge=1, le=1000)


class TenantAction(RequestModel):
    """An action on a tenant."""

    reason: Reason


class Changed(ResponseModel):
    """The result of an action."""

    changed: bool = Field(description="False if it was in this state already")


class JobQuery(RequestModel):
    """Which job to return."""

    id: JobId


class JobAction(RequestModel):
    """An action on one job."""

    id: JobId
    reason: Reason


class JobDiscard(JobAction):
    """Discard of one job."""

    confirm: str = Field(max_length=2048, description="The externalId, to confirm")


class Job(ResponseModel):
    """One job, with its history."""

    id: str
    tenant: str
    external_id: str
    state: State
    reason: str | None
    amount: str | None
    currency: str | None
    moments: dict[str, Moment] = Field(
        description="By name: accepted, and by state ready_since, due, lease_ends, died or ended"
    )
    attempts: int
    redrives: int
    may_have_landed: bool
    in_doubt: list[str] = Field(description="The amounts with which an attempt may have landed")
    conversion: dict[str, Any] | None = Field(
        description="Personal data is masked unless revealed; null once the job has ended"
    )
    history: list[dict[str, Any]] = Field(description="Attempts and operators' actions, newest last")
    remedy: str | None = Field(description="How to fix a dead letter")


class Filter(RequestModel):
    """Which jobs; an omitted field matches all. Times are RFC 3339 or an age such as 2h."""

    tenant: str | None = Field(None, max_length=64)
    state: State | Literal["any"] | None = Field(None, description="Default: dead")
    reason: str | None = Field(
        None, max_length=100, description="As in dead letters by cause, for example type_not_found"
    )
    type: str | None = Field(None, max_length=1024, description="Conversion type")
    status: int | None = Field(None, ge=100, le=599, description="HTTP status of the last attempt")
    external_id: str | None = Field(None, max_length=2048)
    cid: str | None = Field(None, max_length=1024)
    customer_id: str | None = Field(None, max_length=255)
    currency: str | None = Field(None, pattern="^[A-Za-z]{3}$")
    min: str | None = Field(None, pattern=AMOUNT_PATTERN, description="Minimum amount")
    max: str | None = Field(None, pattern=AMOUNT_PATTERN, description="Maximum amount")
    since: str | None = Field(None, max_length=40)
    until: str | None = Field(None, max_length=40)


class JobsSearch(Filter):
    """A search, its order and its page."""

    order: Order = "newest"
    limit: int = Field(50, ge=1, le=500)
    after: str | None = Field(None, max_length=4096, description="The `after` of the previous page")


class ExportRequest(RequestModel):
    """Dead letters to export."""

    filter: Filter
    format: Literal["jsonl", "csv", "trackdesk"] = Field("jsonl", description="trackdesk: CSV for Trackdesk's import")
    reason: Reason


class JobRow(ResponseModel):
    """One job in a list, without personal data."""

    id: str
    tenant: str
    external_id: str
    state: State
    conversion_type: str = Field(description="A dash once the job has ended")
    amount: str | None
    currency: str | None
    reason: str | None
    http_status: int | None
    at: Moment = Field(description="When it died, is due, became ready or ended, by state")
    accepted_at: Moment
    attempts: int
    redrives: int
    may_have_landed: bool
    in_doubt: list[str] = Field(description="The amounts with which an attempt may have landed")


class JobPage(ResponseModel):
    """One page of a search."""

    jobs: list[JobRow]
    after: str | None = Field(description="Cursor of the next page; null on the last one")
    examined: int
    complete: bool = Field(
        description="False if time ran out before the page was full: continue with `after`, or name a tenant"
    )
    total: int | None = Field(description="All matches, where the store knows the number without reading them")


class Cause(ResponseModel):
    """Dead letters with one cause."""

    tenant: str
    reason: str
    conversion_type: str = Field(description="* for a group of several types")
    http_status: int | None
    jobs: int
    money: Money
    first_at: Moment
    last_at: Moment
    example: str = Field(description="externalId of the oldest one")
    remedy: str


class Causes(ResponseModel):
    """Dead letters by cause, largest first."""

    jobs: int
    money: Money
    complete: bool
    causes: list[Cause]


class EditPreview(RequestModel):
    """A correction to preview."""

    id: JobId
    changes: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=4096)] | None] = Field(
        max_length=100, description="New value by dotted field name (amount.value); null removes the field"
    )


class EditRequest(EditPreview):
    """A correction to apply."""

    reason: Reason
    expect: str = Field(max_length=100, description="`shown` of the preview")


class Change(ResponseModel):
    """One changed field."""

    field: str
    before: str | None = Field(description="Personal data is masked")
    after: str | None


class EditProposal(ResponseModel):
    """A previewed correction."""

    shown: str
    diff: list[Change]
    errors: list[str] = Field(description="Why it cannot be applied; empty if it can")
    warnings: list[str]


class PlansQuery(RequestModel):
    """Which plans to return."""

    limit: int = Field(50, ge=1, le=200)
    after: str | None = Field(None, max_length=64, description="Plans older than this one")


class PlanCreate(RequestModel):
    """A plan to create."""

    filter: Filter
    name: str = Field(
        min_length=1, max_length=120, pattern=NON_BLANK_PATTERN, description="For example of the incident"
    )
    act: Literal["redrive", "discard"] = "redrive"
    reason: Reason
    expected: int | None = Field(
        None, ge=0, le=10**9, description="Number of jobs in the preview; refused if it differs now"
    )


class PlanAction(RequestModel):
    """An action on a plan."""

    reason: Reason | None = Field(None, description="Default: the plan's reason")


class PlanStart(PlanAction):
    """The start of a plan."""

    confirm_count: int | None = Field(None, ge=0, le=10**9, description="The number of its jobs; required to discard")


class PlanPreview(ResponseModel):
    """What a plan would affect now."""

    jobs: int
    money: Money
    by_reason: dict[str, int]
    by_tenant: dict[str, int]
    complete: bool = Field(description="False if time ran out: the counts are minimums")
    seconds_at_budget: float = Field(description="If nothing else is sent; 0: no limit")
    seconds_at_share: float = Field(description="If live sales and retries use their shares of the budget")


class Plan(ResponseModel):
    """One plan."""

    id: str
    name: str
    act: Literal["redrive", "discard"]
    state: str = Field(description="listing, ready, running, paused, finished, cancelled or failed")
    problem: str | None = Field(description="Why it failed, or why the system paused it; null otherwise")
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
    """Plans, newest first."""

    plans: list[Plan]
    after: str | None


class PlanItemsQuery(RequestModel):
    """Which jobs of a plan to return."""

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


class LogQuery(RequestModel):
    """Which entries of the audit log to return."""

    before: int | None = Field(None, ge=1, le=10**12, description="Entries older than this number")
    limit: int = Field(50, ge=1, le=500)


class LogEntry(ResponseModel):
    """One entry."""

    number: int
    entry: dict[str, Any] = Field(description="As stored: kind, at_ms, operator, reason, count, money, hash and others")


class Log(ResponseModel):
    """Entries of the audit log, newest first."""

    entries: list[LogEntry]
    before: int | None = Field(description="Cursor of the next, older page; null on the last one")
