"""What the store must do, in plain Python: one dictionary of jobs, no indexes, no scripts.

Follows DESIGN.md's states. It predicts every record and reply, except which tenants a claim serves: there it says
what a claim may hand out (`may_be_handed_out`), and leaves the choice to the store.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from tests.support.store import START_MS, WINDOW_MS, Item
from tests.support.store_check import HOUR_MS
from trackdesk_producer.contract.job import JobClass, JobRecord, State, tenant_of
from trackdesk_worker.store.jobs import ClaimedJob, Effect, EffectKind, Limits, Settlement, Verb

TURN_SLACK_US = 64 + 1_000
"""How far behind its limits a tenant's turn may be: turns of one round are a µs apart."""
CAPPED_US = 20_000


@dataclass
class ModelJob:
    """One job as it must be."""

    fingerprint: str
    amount: Decimal | None
    currency: str | None
    accepted_ms: int
    state: State
    at: int
    epoch_ms: int
    body: bytes
    job_class: JobClass | None = JobClass.LIVE
    attempts: int = 0
    attempts_total: int = 0
    token: int = 0
    ambiguous: bool = False
    strikes: int = 0
    redrives: int = 0
    reason: str | None = None
    history: int = 0
    prune_due_ms: int = 0
    ended: int = 0
    """Order of its end among all ends."""

    def disagreements(self, record: JobRecord) -> list[str]:
        """Return the fields in which the stored record differs."""
        names = ["fingerprint", "amount", "currency", "accepted_ms", "state", "at", "attempts_total", "reason"]
        if not self.state.terminal:
            names += ["job_class", "attempts", "token", "ambiguous", "strikes", "epoch_ms", "redrives", "body"]
        return [
            f"{name}: store {getattr(record, name)!r}, model {getattr(self, name)!r}"
            for name in names
            if getattr(record, name) != getattr(self, name)
        ]


@dataclass
class ModelTenant:
    """What one tenant may do. Times in µs."""

    paused: bool = False
    frozen_until: int = 0
    held: bool = False
    probe_at: int = 0
    tat: int = 0
    bound: int = 0
    """Until when a limit may keep the tenant waiting."""

    def wait_until(self, us: int) -> None:
        """Note a limit that keeps the tenant waiting."""
        self.bound = max(self.bound, us)


@dataclass
class Model:
    """One namespace."""

    now_ms: int = START_MS
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    tenants: defaultdict[str, ModelTenant] = field(default_factory=lambda: defaultdict(ModelTenant))
    counters: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    accepted_money: defaultdict[str, dict[str, Decimal]] = field(default_factory=lambda: defaultdict(dict))
    last_token: int = 0
    ends: int = 0

    @property
    def now_us(self) -> int:
        """Now in µs."""
        return self.now_ms * 1000

    def count(self, identity: str, counter: str) -> None:
        """Count an event of the job's tenant."""
        self.counters[tenant_of(identity)][counter] += 1

    def enqueue(self, items: Sequence[Item]) -> list[str]:
        """Return the replies."""
        return [self._enqueue(item, place) for place, item in enumerate(items)]

    def _enqueue(self, item: Item, place: int) -> str:
        first = self.jobs.get(item.id)
        if first is not None:
            verdict = "duplicate" if first.fingerprint == item.fingerprint else "conflict"
            self.count(item.id, f"{verdict}s")
            return f"{verdict}:{first.state}"
        ready = item.due_ms <= self.now_ms
        amount = None if item.amount == "-" else Decimal(item.amount)
        self.jobs[item.id] = ModelJob(
            fingerprint=item.fingerprint,
            amount=amount,
            currency=None if amount is None else item.currency,
            accepted_ms=self.now_ms,
            state=State.READY if ready else State.SCHEDULED,
            at=self.now_us + place if ready else item.due_ms,
            epoch_ms=self.now_ms if ready else item.due_ms,
            body=item.body.encode(),
        )
        self.count(item.id, "accepted")
        if amount:
            sums = self.accepted_money[tenant_of(item.id)]
            with localcontext(prec=60):
                sums[item.currency] = sums.get(item.currency, Decimal()) + amount
        return f"accepted:{self.jobs[item.id].state}"

    def in_order(self, state: State, until: int | None = None) -> list[str]:
        """Return the ids of one state as its index orders them."""
        found = sorted((job.at, identity) for identity, job in self.jobs.items() if job.state is state)
        return [identity for at, identity in found if until is None or at <= until]

    def ready_tenants(self) -> set[str]:
        """Return the tenants that wait for a claim."""
        waiting = {tenant_of(identity) for identity, job in self.jobs.items() if job.state is State.READY}
        return {tenant for tenant in waiting if not self.tenants[tenant].paused}

    def may_be_handed_out(self, tenant: str, limits: Limits) -> int:
        """Return how many requests the tenant's limits allow now, and note what they make it wait for."""
        state = self.tenants[tenant]
        if state.paused:
            return 0
        state.wait_until(state.frozen_until)
        if state.frozen_until > self.now_us:
            return 0
        most = 1_000_000
        if state.held:
            state.wait_until(state.probe_at)
            most = 1 if state.probe_at <= self.now_us else 0
        if limits.rate_per_s:
            interval = round(1_000_000 / limits.rate_per_s)
            tat = max(state.tat, self.now_us)
            state.wait_until(tat)
            most = min(most, max(0, (self.now_us + limits.burst * interval - tat) // interval))
        if limits.cap:
            flying = sum(
                job.state is State.IN_FLIGHT and tenant_of(identity) == tenant for identity, job in self.jobs.items()
            )
            most = min(most, max(0, limits.cap - flying))
            state.wait_until(self.now_us + CAPPED_US)
        return most

    def claimed(self, jobs: Sequence[ClaimedJob], limits: Limits, lease_ms: int) -> None:
        """Take over what a claim handed out; fail where it may not have."""
        taken: defaultdict[tuple[str, JobClass | None], list[str]] = defaultdict(list)
        for claim in jobs:
            taken[(claim.tenant, self.jobs[claim.id].job_class)].append(claim.id)
        for (tenant, job_class), ids in taken.items():
            queue = [
                identity
                for identity in self.in_order(State.READY)
                if tenant_of(identity) == tenant and self.jobs[identity].job_class is job_class
            ]
            assert ids == queue[: len(ids)], f"{tenant}'s oldest {job_class} jobs are {queue}, handed out {ids}"
        for tenant, number in Counter(claim.tenant for claim in jobs).items():
            assert number <= self.may_be_handed_out(tenant, limits), f"{tenant} got {number} jobs beyond its limits"
        for claim in jobs:
            job, tenant = self.jobs[claim.id], self.tenants[claim.tenant]
            assert int(claim.token) > self.last_token, "tokens rise"
            self.last_token = int(claim.token)
            job.state, job.at, job.token = State.IN_FLIGHT, self.now_ms + lease_ms, int(claim.token)
            job.attempts += 1
            job.attempts_total += 1
            assert claim.probe == tenant.held
            said = (claim.attempts, claim.attempts_total, claim.strikes, claim.ambiguous, claim.body, claim.epoch_ms)
            assert said == (job.attempts, job.attempts_total, job.strikes, job.ambiguous, job.body, job.epoch_ms)
            assert claim.last_reason == (job.reason or "-")
            if limits.rate_per_s:
                tenant.tat = max(tenant.tat, self.now_us) + round(1_000_000 / limits.rate_per_s)
                tenant.wait_until(tenant.tat)
            if tenant.held:
                tenant.probe_at = self.now_us + limits.probe_ms * 1000
                tenant.wait_until(tenant.probe_at)

    def settle(self, settlements: Sequence[Settlement], effects: Iterable[Effect]) -> list[bool]:
        """Return the replies."""
        replies = [self._settle(settlement) for settlement in settlements]
        for effect in effects:
            self._effect(effect)
        return replies

    def _settle(self, s: Settlement) -> bool:
        job = self.jobs.get(s.id)
        if job is None or job.state is not State.IN_FLIGHT or str(job.token) != s.token:
            return False
        job.token = 0
        job.ambiguous = job.ambiguous or s.ambiguous
        job.attempts -= not s.spends_attempt
        if s.entry:
            job.history += 1
        else:
            job.attempts_total -= 1
        match s.verb:
            case Verb.DELIVER:
                self.count(s.id, f"delivered_{s.reason}")
                self._end(s.id, State.DELIVERED, s.reason)
            case Verb.RETRY:
                job.state, job.at, job.reason, job.strikes = State.SCHEDULED, s.at_ms, s.reason, s.strikes
                if job.job_class is JobClass.LIVE:
                    job.job_class = JobClass.RETRY
            case Verb.BURY:
                job.state, job.at, job.reason, job.strikes = State.DEAD, self.now_ms, s.reason, s.strikes
            case Verb.RELEASE:
                job.state, job.at = State.READY, self.now_us if s.entry else job.accepted_ms * 1000
        return True

    def _effect(self, effect: Effect) -> None:
        tenant = self.tenants[effect.tenant]
        match effect.kind:
            case EffectKind.FREEZE:
                tenant.frozen_until = max(tenant.frozen_until, effect.until_ms * 1000)
            case EffectKind.HOLD:
                tenant.held, tenant.probe_at = True, effect.until_ms * 1000
                tenant.wait_until(tenant.probe_at)
            case EffectKind.CLEAR:
                if tenant.held:
                    tenant.bound = self.now_us
                tenant.held = False

    def _end(self, identity: str, state: State, reason: str | None) -> None:
        job = self.jobs[identity]
        job.state, job.at, job.reason, job.history, job.token = state, self.now_ms, reason, 0, 0
        job.prune_due_ms = -(-(self.now_ms + WINDOW_MS) // HOUR_MS) * HOUR_MS
        self.ends += 1
        job.ended = self.ends

    def promote(self, most: int) -> int:
        """Return how many became ready."""
        due = self.in_order(State.SCHEDULED, self.now_ms)[:most]
        for place, identity in enumerate(due):
            self.jobs[identity].state, self.jobs[identity].at = State.READY, self.now_us + place
        return len(due)

    def reclaim(self, most: int, max_attempts: int) -> tuple[int, int]:
        """Return how many became ready and how many were buried."""
        ready = 0
        lost = self.in_order(State.IN_FLIGHT, self.now_ms)[:most]
        for place, identity in enumerate(lost):
            job = self.jobs[identity]
            job.strikes = job.strikes + 1 if job.reason == "lost" else 1
            job.token, job.ambiguous, job.reason = 0, True, "lost"
            job.history += 1
            self.count(identity, "reclaimed")
            if job.attempts >= max_attempts:
                job.state, job.at = State.DEAD, self.now_ms
            else:
                job.state, job.at = State.READY, self.now_us + place
                ready += 1
                if job.job_class is JobClass.LIVE:
                    job.job_class = JobClass.RETRY
        return ready, len(lost) - ready

    def prune(self, most: int) -> int:
        """Return how many tombstones were removed."""
        due = sorted(
            (job.prune_due_ms, job.ended, identity)
            for identity, job in self.jobs.items()
            if job.state.terminal and job.prune_due_ms <= self.now_ms
        )
        for _, _, identity in due[:most]:
            self.count(identity, f"pruned_{self.jobs.pop(identity).state}")
        return len(due[:most])

    def cancel(self, identity: str) -> str:
        """Return the reply."""
        job = self.jobs.get(identity)
        if job is None:
            return "unknown"
        if job.state in (State.READY, State.SCHEDULED) and not job.attempts_total:
            self._end(identity, State.CANCELLED, "by_caller")
        return "cancelled" if job.state is State.CANCELLED else f"refused:{job.state}"

    def redrive(self, ids: Sequence[str]) -> list[str]:
        """Return the replies."""
        replies = []
        for identity in ids:
            job = self.jobs.get(identity)
            if job is None or job.state is not State.DEAD:
                replies.append("unknown" if job is None else f"refused:{job.state}")
                continue
            job.state, job.at, job.job_class = State.READY, -1, JobClass.REDRIVE  # -1: about now
            job.attempts, job.strikes, job.epoch_ms = 0, 0, self.now_ms
            job.redrives += 1
            job.history += 1
            self.count(identity, "redriven")
            replies.append("redriven")
        return replies

    def discard(self, ids: Sequence[str]) -> list[str]:
        """Return the replies."""
        replies = []
        for identity in ids:
            job = self.jobs.get(identity)
            if job is None or job.state is not State.DEAD:
                replies.append("unknown" if job is None else f"refused:{job.state}")
                continue
            self._end(identity, State.DISCARDED, job.reason)
            replies.append("discarded")
        return replies

    def pause(self, tenant: str) -> bool:
        """Return whether that changed anything."""
        state = self.tenants[tenant]
        state.paused, before = True, state.paused
        return not before

    def resume(self, tenant: str) -> bool:
        """Return whether that changed anything."""
        state = self.tenants[tenant]
        changed = state.paused or state.frozen_until > 0 or state.held
        state.paused, state.frozen_until, state.bound = False, 0, self.now_us
        if state.held:
            state.probe_at = self.now_us
        return changed
