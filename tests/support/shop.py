"""A shop and its worker in one hand: real sales in the real store, ended as a test needs them."""

import json
from typing import Any

import redis

from tests.support.store import PROVEN, UNLIMITED
from tests.support.waiting import wait_until
from trackdesk_producer import Producer
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import job_id
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

WINDOW_S = 7200


def sale(external_id: str, **changes: Any) -> dict[str, Any]:
    """Return the guide's POST body of a sound sale; None takes a field away."""
    body: dict[str, Any] = {
        "conversionTypeCode": "sale",
        "cid": "6f1c0a52-1111-4222-8333-444455556666",
        "amount": {"value": "100.50"},
        "currency": {"code": "EUR"},
        "externalId": external_id,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


class Shop(JobStore):
    """Sales of one namespace, by default of the tenant acme, at the store's own time."""

    client: Any  # redis-py's stubs answer `bytes | str` where these clients answer bytes

    def __init__(self, server: EmbeddedServer, client: redis.Redis, keys: Keys) -> None:
        super().__init__(client, keys)
        self.producer = Producer(server.url, tenant="acme", namespace=keys.namespace, timeout_s=10)

    def sell(self, *external_ids: str, tenant: str = "acme", **changes: Any) -> None:
        """Enqueue sales."""
        for external_id in external_ids:
            assert self.producer.enqueue(sale(external_id, **changes), tenant=tenant).ok
        # Trackdesk is known to answer: how many may be in flight is not what these tests are about.
        self.client.hset(self.keys.tenant(tenant), "window", PROVEN)

    def claim(self, wanted: int = 1000) -> list[ClaimedJob]:
        """Claim what is ready."""
        return self.run(self.jobs.claim(wanted, lease_ms=30_000, limits=UNLIMITED)).jobs

    def settle(self, jobs: list[ClaimedJob], verb: Verb, reason: str, **more: Any) -> None:
        """End claims alike, as a worker would after a request."""
        entry = json.dumps(
            {
                "kind": "attempt",
                "at_ms": 1_767_225_600_000,
                "attempt": 1,
                "outcome": "rejected",
                "reason": reason,
                "status": 400,
                "code": 3,
                "duration_ms": 12,
                "ambiguous": False,
                "excerpt": '{"code":3}',
            }
        )
        settlements = [Settlement(job.id, job.token, verb, reason, entry=entry, **more) for job in jobs]
        settled = self.run(self.jobs.settle(settlements, dedupe_window_ms=WINDOW_S * 1000))
        assert all(settled)

    def bury(self, *external_ids: str, reason: str = "type_not_found", **more: Any) -> None:
        """Enqueue sales and make dead letters of them; those of the next call die in a later ms."""
        self.sell(*external_ids, **more)
        self.settle(self.claim(), Verb.BURY, reason)
        now = self.client.time()
        wait_until(lambda: self._is_later(now), "the store's next millisecond", poll_s=0.0005)

    def _is_later(self, than: tuple[int, int]) -> bool:
        seconds, micros = self.client.time()
        return (seconds, micros // 1000) > (than[0], than[1] // 1000)

    def deliver(self, *external_ids: str, **more: Any) -> None:
        """Enqueue sales and deliver them."""
        self.sell(*external_ids, **more)
        self.settle(self.claim(), Verb.DELIVER, "paired")

    def state(self, external_id: str, tenant: str = "acme") -> str:
        """Return where a sale is."""
        status = self.producer.get(external_id, tenant=tenant)
        assert status is not None
        return status.state.value

    def history(self, external_id: str, tenant: str = "acme") -> list[dict[str, Any]]:
        """Return a job's history, the newest last."""
        entries = self.client.lrange(self.keys.history(job_id(tenant, external_id)), 0, -1)
        return [json.loads(entry) for entry in entries]
