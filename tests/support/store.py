"""The job store under a clock that the test moves: every transition as a short method."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

import redis

from tests.support.acting import act_now
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, tenant_of
from trackdesk_producer.contract.scripts import Argument, ScriptCall, load_script, text
from trackdesk_producer.contract.trace import NO_TRACE
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Breaker, Limits, Shares
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import Claims, Reclaimed

START_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC: the first moment of most tests, a full hour."""
LEASE_MS = 30_000
WINDOW_MS = 7_200_000
UNLIMITED = Limits(rate_per_s=0, cap=1_000_000)
_HOLD = {
    "hold",
    "held_since",
    "probe_at",
    "probe_in",
    "probe_ms",
    "probe_token",
    "probing",
    "probed",
    "witness",
    "window",
}
PROVEN = 1_000_000
"""The window of a tenant whose window is not what a test is about."""


@dataclass(frozen=True)
class Item:
    """One conversion as the enqueue script gets it."""

    id: str
    amount: str = "-"
    currency: str = "-"
    due_ms: int = 0
    fingerprint: str = "fp"
    body: str = '{"conversionTypeCode":"sale"}'

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The script's arguments for it."""
        return (self.id, self.fingerprint, self.amount, self.currency, self.due_ms, self.body)


class Store(JobStore):
    """One namespace; `now_ms` is its time. Tenants have shown that they answer, unless `proven` is false."""

    client: Any  # redis-py's stubs answer `bytes | str` where these clients answer bytes

    def __init__(self, client: redis.Redis, keys: Keys, *, proven: bool = True) -> None:
        super().__init__(client, keys)
        self.now_ms = START_MS
        self.slots = Shares().slots()
        self.breaker = Breaker()
        self.trace = NO_TRACE
        self._proven: set[str] | None = set() if proven else None

    def enqueue(self, *items: Item | str) -> list[str]:
        """Enqueue; a plain id means a sale without an amount."""
        arguments: list[Argument] = []
        for item in items:
            arguments += (item if isinstance(item, Item) else Item(item)).arguments
        replies = self.enqueue_raw(*arguments)
        if self._proven is not None and replies != ["full"]:
            for tenant in {tenant_of(str(identity)) for identity in arguments[::6]} - self._proven:
                self.client.hset(self.keys.tenant(tenant), "window", PROVEN)
                self._proven.add(tenant)
        return replies

    def enqueue_raw(self, *arguments: Argument) -> list[str]:
        """Call the enqueue script with any arguments behind clock, envelope and trace."""
        script = load_script("trackdesk_producer.contract", "enqueue", allow_oom=False)
        whole = (self.now_ms, envelope(self.keys.wakeups), self.trace, *arguments)
        return self.run(ScriptCall(script, self.keys.prefix, whole, _texts))

    def cancel(self, *ids: str) -> list[str]:
        """Cancel for the caller."""
        script = load_script("trackdesk_producer.contract", "cancel", allow_oom=True)
        return self.run(ScriptCall(script, self.keys.prefix, (self.now_ms, WINDOW_MS, *ids), _texts))

    def claim(self, wanted: int = 100, *, limits: Limits = UNLIMITED, lease_ms: int = LEASE_MS) -> Claims:
        """Claim, without limits unless given."""
        call = self.jobs.claim(wanted, lease_ms=lease_ms, limits=limits, slots=self.slots, now_ms=self.now_ms)
        return self.run(call)

    def claim_one(self) -> ClaimedJob:
        """Claim one job that must be there."""
        (job,) = self.claim(1).jobs
        return job

    def settle(self, *settlements: Settlement) -> list[bool]:
        """Settle a batch."""
        call = self.jobs.settle(settlements, dedupe_window_ms=WINDOW_MS, breaker=self.breaker, now_ms=self.now_ms)
        return self.run(call)

    def end(self, job: ClaimedJob, verb: Verb, reason: str = "paired", **more: Any) -> bool:
        """Settle one claim that made a request."""
        more.setdefault("entry", '{"kind":"attempt"}')
        more.setdefault("probe", job.probe)
        more.setdefault("health", ServiceHealth.OK if verb is Verb.DELIVER else ServiceHealth.UNKNOWN)
        (settled,) = self.settle(Settlement(job.id, job.token, verb, reason, **more))
        return settled

    def hold(self, tenant: str, reason: str, probe_ms: int) -> None:
        """Have a tenant held, its first probe in `probe_ms`."""
        at, key = self.now_ms + probe_ms, self.keys.tenant(tenant)
        times = {"held_since": self.now_ms, "probe_at": at, "probe_in": probe_ms, "probe_ms": probe_ms}
        self.client.hset(key, mapping={"hold": reason, "witness": "*"} | times)
        self.client.zadd(self.keys.turn, {tenant: at * 1000}, xx=True)

    def freeze(self, tenant: str, *for_ms: int) -> None:
        """Have a throttled tenant frozen, by answers to several jobs that were sent together."""
        names = [f"{tenant}/{uuid.uuid4().hex}" for _ in for_ms]
        kept = {name: value for name, value in self.tenant(tenant).items() if name in _HOLD}
        key, ledger = self.keys.tenant(tenant), self.keys.ledger(tenant)
        confirmed = {"hold": "rate_limited", "probe_ms": 2_000, "witness": "-", "probe_token": 1, "probing": 1}
        self.client.hset(key, mapping=confirmed)
        books = self.client.hgetall(ledger)
        for identity in names:
            now = self.now_ms
            record = f"1 in_flight live fp - - {now} {now + LEASE_MS} 1 1 1 0 0 {now} 0 - -\n{{}}"
            self.client.set(self.keys.job(identity), record)
        self.settle(
            *(
                Settlement(
                    name,
                    "1",
                    Verb.RETRY,
                    "rate_limited",
                    0,
                    entry="{}",
                    probe=True,
                    effect=TenantEffectKind.FREEZE,
                    effect_ms=ms,
                )
                for name, ms in zip(names, for_ms, strict=True)
            )
        )
        freezes = self.client.hget(ledger, "freezes")
        self.client.delete(ledger, *(self.keys.job(name) for name in names), *(self.keys.history(n) for n in names))
        self.client.zrem(self.keys.scheduled, *names)
        if books or freezes:
            self.client.hset(ledger, mapping=books | ({b"freezes": freezes} if freezes else {}))
        self.client.hdel(key, "answers", *_HOLD)
        if kept:
            self.client.hset(key, mapping=kept)

    def promote(self, most: int = 500) -> int:
        """Promote what is due."""
        return self.run(self.jobs.promote(most, now_ms=self.now_ms))

    def reclaim(self, most: int = 500, *, policy: Policy = Policy()) -> Reclaimed:
        """Reclaim what was lost."""
        return self.run(self.jobs.reclaim(most, policy=policy, lease_ms=LEASE_MS, now_ms=self.now_ms))

    def prune(self, most: int = 500) -> int:
        """Prune what is over."""
        return self.run(self.jobs.prune(most, now_ms=self.now_ms))

    def restored(self, tenant: str | None = None, *, since_ms: int | None = None) -> int:
        """Say that the store may have forgotten things."""
        return self.run(self.jobs.restored(tenant, since_ms=since_ms, now_ms=self.now_ms))

    def redrive(self, *ids: str, note: str = '{"kind":"redrive"') -> list[str]:
        """Redrive dead letters; `note` is the beginning of the entry in their history."""
        return act_now(self, "redrive", ids, note=note, now_ms=self.now_ms)

    def discard(self, *ids: str) -> list[str]:
        """Discard dead letters."""
        return act_now(self, "discard", ids, window_ms=WINDOW_MS, now_ms=self.now_ms)

    def edit(self, item: Item, *, new_key: bool = False) -> str:
        """Correct a dead letter to what `item` says, its fingerprint being that of the new body."""
        raw = self.client.get(self.keys.job(item.id)) or b""
        call = self.jobs.edit(
            item.id,
            expect=hashlib.sha1(raw).hexdigest(),
            body=item.body.encode(),
            amount=None if item.amount == "-" else item.amount,
            currency=item.currency,
            fingerprint=item.fingerprint,
            note='{"kind":"edit"',
            entry="{}",
            new_key=new_key,
            now_ms=self.now_ms,
        )
        reply = self.run(call)
        if reply == "ok":
            self.client.rpop(self.keys.audit_log_waiting)  # its entry; what log it would stand in is not the test's
        return reply

    def pause(self, tenant: str) -> bool:
        """Pause a tenant."""
        return self.run(self.jobs.pause(tenant, operator="ann", reason="test", now_ms=self.now_ms))

    def resume(self, tenant: str) -> bool:
        """Resume a tenant."""
        return self.run(self.jobs.resume(tenant, now_ms=self.now_ms))

    def wake(self) -> bool:
        """Wake a worker if work waits."""
        return self.run(self.jobs.wake(now_ms=self.now_ms))

    def bury(self, *ids: str, reason: str = "server_error") -> None:
        """Enqueue jobs and make dead letters of them."""
        self.enqueue(*ids)
        for job in self.claim(len(ids)).jobs:
            assert self.end(job, Verb.BURY, reason)

    def tenant(self, tenant: str) -> dict[str, str]:
        """Return what is stored of a tenant's budget, breaker and holds."""
        return {name.decode(): value.decode() for name, value in self.client.hgetall(self.keys.tenant(tenant)).items()}

    def record(self, identity: str) -> JobRecord:
        """Return the record of a job that must be there."""
        raw = self.client.get(self.keys.job(identity))
        assert raw is not None, f"{identity} has no record"
        return JobRecord.parse(identity, raw)

    def history(self, identity: str) -> list[str]:
        """Return a job's history, newest last."""
        return [entry.decode() for entry in self.client.lrange(self.keys.history(identity), 0, -1)]


def _texts(reply: Any) -> list[str]:
    return [text(reply)] if isinstance(reply, bytes) else [text(item) for item in reply]
