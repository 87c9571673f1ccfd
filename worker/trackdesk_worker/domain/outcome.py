"""What one attempt came to, as a value: the bridge between Trackdesk's answers and the policy.

An `Outcome` is made by `trackdesk.answers.read_answer` and consumed by `domain.policy`. Every code in here is
a bounded set, so it may be a metric label and an index of dead letters.
"""

from enum import StrEnum
from typing import NamedTuple


class OutcomeKind(StrEnum):
    """The three ways an attempt can end. A retryable one that may have landed is the ambiguous one."""

    DELIVERED = "delivered"
    RETRYABLE = "retryable"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why an attempt ended as it did. Also the reason a dead letter is filed under."""

    # delivered
    PAIRED = "paired"
    UNPAIRED = "unpaired"
    CONFIRMED_DUPLICATE = "confirmed_duplicate"
    RESTORED_DUPLICATE = "restored_duplicate"  # the same, but the store forgot what was sent (`trackdesk restored`)
    # refused by Trackdesk's rules: a person decides
    UNVERIFIED_DUPLICATE = "unverified_duplicate"
    DUPLICATE_DIFFERS = "duplicate_differs"  # Trackdesk may have recorded content that was corrected since
    RECURRENCE_LIMIT = "recurrence_limit"
    SOURCE_NOT_FOUND = "source_not_found"
    TYPE_NOT_FOUND = "type_not_found"
    TYPE_NOT_CONFIGURED = "type_not_configured"
    PRICING_NOT_CONFIGURED = "pricing_not_configured"
    AMOUNT_MISSING = "amount_missing"
    OFFER_NOT_ACTIVE = "offer_not_active"
    SOURCE_EXPIRED = "source_expired"
    CURRENCY_NOT_CONFIGURED = "currency_not_configured"
    SOURCE_BLOCKED = "source_blocked"
    CONFLICT = "conflict"
    CALLER_ERROR = "caller_error"
    # the tenant's configuration or budget, not the job
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    BAD_ENDPOINT = "bad_endpoint"
    REFUSED_ALONE = "refused_alone"  # one of the above, again and again, while other jobs of the tenant succeed
    # passing trouble
    SERVER_ERROR = "server_error"
    REQUEST_TIMEOUT = "request_timeout"
    TIMEOUT = "timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_ERROR = "connect_error"
    DNS_ERROR = "dns_error"
    TLS_ERROR = "tls_error"
    CONNECTION_LOST = "connection_lost"
    PROTOCOL_ERROR = "protocol_error"
    INTERNAL_ERROR = "internal_error"  # an error of this program, before or after the request left
    LOST = "lost"  # the lease ran out: the process that held the job is gone, its attempt may have landed


class ServiceHealth(StrEnum):
    """What an outcome says of the tenant's Trackdesk as a service; it moves the breaker."""

    OK = "ok"
    FAIL = "fail"
    UNKNOWN = "-"


class TenantEffectKind(StrEnum):
    """What an outcome may say about the tenant as a whole. The store decides: one job is no evidence."""

    NONE = "none"
    FREEZE = "freeze"  # over the rate limit: nobody sends for this tenant for a while
    HOLD = "hold"  # key, plan or endpoint is wrong: every job would fail alike
    CLEAR = "clear"  # a business answer: key and endpoint work, so a hold has no ground any more


class Outcome(NamedTuple):
    """One attempt's end, with everything the policy and the job's history need. A named tuple: one is built per
    attempt.

    `row` is the row of the answer table that matched. `refused` says that Trackdesk has the sale already, or may: once
    said with nothing in doubt, no later doubt confirms it. `tries` caps consecutive attempts that end for this
    reason; `wait_s` replaces the exponential backoff; `retry_after_s` is what Trackdesk asked for, not yet
    clamped. `code` is the gRPC code of the error body, `excerpt` its printable beginning, `cid` the click it
    was paired with.
    """

    kind: OutcomeKind
    reason: Reason
    row: int
    may_have_landed: bool = False
    refused: bool = False
    tries: int | None = None
    wait_s: float | None = None
    retry_after_s: float | None = None
    effect: TenantEffectKind = TenantEffectKind.NONE
    spends_attempt: bool = True
    status: int | None = None
    code: int | None = None
    excerpt: str = ""
    cid: str | None = None

    @property
    def health(self) -> ServiceHealth:
        """Whether Trackdesk did its work, failed at it, or said nothing of itself."""
        if self.effect is TenantEffectKind.CLEAR:
            return ServiceHealth.OK
        return ServiceHealth.FAIL if self.reason in _FAILURES else ServiceHealth.UNKNOWN


_FAILURES = frozenset(
    {
        Reason.SERVER_ERROR,
        Reason.REQUEST_TIMEOUT,
        Reason.TIMEOUT,
        Reason.CONNECT_TIMEOUT,
        Reason.CONNECT_ERROR,
        Reason.DNS_ERROR,
        Reason.TLS_ERROR,
        Reason.CONNECTION_LOST,
        Reason.PROTOCOL_ERROR,
    }
)
