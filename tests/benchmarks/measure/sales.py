"""The sales that are measured with: the guide's revenue-share body with all nine extras."""

from collections.abc import Iterator, Sequence
from typing import Any

import redis

from trackdesk_producer import parse_conversion
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import job_id
from trackdesk_producer.contract.scripts import Argument, ScriptCall, load_script
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_producer.conversion.wire import fingerprint, post_body
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.store.job_store import JobStore

TENANT = "acme"
BATCH = 500
LEASE_MS = 600_000
WINDOW_MS = 30 * 86_400_000
NO_LIMIT = Limits(rate_per_s=0)


def sale(external_id: str) -> dict[str, Any]:
    """Return one sale as a shop has it: the guide's POST body."""
    return {
        "conversionTypeCode": "sale",
        "cid": "6f1c1f2e-4b7a-4a51-9a37-1f5c62b0a7de",
        "amount": {"value": "100.50"},
        "currency": {"code": "EUR"},
        "externalId": external_id,
        "customerId": "customer-48151623",
        "customParams": {
            "advS1": "summer-campaign",
            "advS2": "newsletter",
            "advS3": "variant-b",
            "advS4": "returning",
            "advS5": "web",
        },
        "status": "CONVERSION_STATUS_APPROVED",
    }


def order(number: int) -> str:
    """Return the externalId of one sale; all have the same length."""
    return f"order-{number:010d}"


def body_of(external_id: str) -> bytes:
    """Return the body that is sent for `sale`."""
    return post_body(parse_conversion(sale(external_id)))


def tenants(count: int) -> list[str]:
    """Return the names of so many tenants."""
    return [TENANT] if count == 1 else [f"shop-{number:05d}" for number in range(count)]


class Store(JobStore):
    """One namespace on a server, filled and moved by the product's own scripts, without the producer's checks."""

    def __init__(self, client: redis.Redis, keys: Keys, *, tenants: Sequence[str] = (TENANT,)) -> None:
        super().__init__(client, keys)
        self._tenants = tenants
        self._enqueue = load_script("trackdesk_producer.contract", "enqueue", allow_oom=False)
        self._envelope = envelope(keys.wakeups)
        self._body = body_of(order(0))
        # The externalId is no part of it, so all of these sales share one.
        self._fingerprint = fingerprint(parse_conversion(sale(order(0))))
        self._next = 0

    def enqueue(self, count: int) -> None:
        """Store `count` new sales in one call, in turn over the tenants."""
        arguments: list[Argument] = ["", self._envelope, NO_TRACE]
        for number in range(self._next, self._next + count):
            external_id = order(number)
            body = self._body.replace(order(0).encode(), external_id.encode())
            tenant = self._tenants[number % len(self._tenants)]
            arguments += (job_id(tenant, external_id), self._fingerprint, "100.50", "EUR", 0, body)
        self._next += count
        self.run(ScriptCall(self._enqueue, self.keys.prefix, tuple(arguments), lambda reply: reply))

    def fill(self, count: int) -> None:
        """Store `count` sales."""
        for size in _sizes(count):
            self.enqueue(size)

    def claim(self, count: int) -> list[ClaimedJob]:
        """Claim up to `count` jobs."""
        return self.run(self.jobs.claim(count, lease_ms=LEASE_MS, limits=NO_LIMIT)).jobs

    def settle(self, claimed: Sequence[ClaimedJob], *, bury: bool = False) -> None:
        """Deliver jobs, or make them dead letters."""
        verb, reason, entry = (Verb.BURY, "type_not_found", _ENTRY) if bury else (Verb.DELIVER, "paired", "{}")
        settlements = [Settlement(job.id, job.token, verb, reason, strikes=1, entry=entry) for job in claimed]
        self.run(self.jobs.settle(settlements, dedupe_window_ms=WINDOW_MS))

    def finish(self, count: int, *, bury: bool = False) -> None:
        """Claim and end `count` jobs."""
        while count > 0:
            claimed = self.claim(min(BATCH, count))
            if not claimed:
                raise RuntimeError("the store handed out fewer jobs than were put in")
            self.settle(claimed, bury=bury)
            count -= len(claimed)


def _sizes(count: int) -> Iterator[int]:
    for done in range(0, count, BATCH):
        yield min(BATCH, count - done)


_ENTRY = (
    '{"kind":"attempt","at_ms":1700000000000,"attempt":1,"outcome":"rejected","reason":"type_not_found","status":400,'
    '"code":5,"duration_ms":101,"ambiguous":false,"excerpt":"conversion type not found"}'
)
