"""What the store must do, in plain Python: one dictionary of jobs, no indexes, no scripts.

Follows DESIGN.md's states. It predicts every record and reply, except which tenants a claim serves: there it says
what a claim may hand out (`may_be_handed_out`), and leaves the choice to the store.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from math import ceil

from tests.support.store import START_MS, WINDOW_MS, Item
from tests.support.store_check import HOUR_MS
from trackdesk_producer.contract.constants import CLIMB_MS, CONTENTS_KEPT
from trackdesk_producer.contract.doubt import Doubt, Past
from trackdesk_producer.contract.record import JobClass, JobRecord, State, tenant_of
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Breaker, Limits
from trackdesk_worker.domain.outcome import ServiceHealth, TenantEffectKind
from trackdesk_worker.domain.policy import Policy

TURN_SLACK_US = 64 + 1_000
"""How far behind its limits a tenant's turn may be: turns of one round are a µs apart."""
CAPPED_US = 1_000_000
CLIMB_US = CLIMB_MS * 1000
FIRST_WINDOW = 5
PAUSE_MS = 1_000
QUIET_MS = 3_000
CROWD = 4
MOST_STRIKES = {TenantEffectKind.HOLD: 8, TenantEffectKind.FREEZE: 20}
REFUSALS = ("unauthorized", "forbidden", "rate_limited", "bad_endpoint")
SEVERAL = "*"
PROBES = 3
LONGEST_MS = 86_400_000
SUSPECT_AFTER = 3


def _is_refusal(s: Settlement) -> bool:
    return bool(s.entry) and s.effect in (TenantEffectKind.FREEZE, TenantEffectKind.HOLD)


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
    content: str = ""
    """Fingerprint of what the body says now."""
    doubt: list[tuple[str, Decimal | None, str | None, bool]] = field(default_factory=list)
    """Contents that may be at Trackdesk, in the order in which they came to be."""
    refused_ms: int | None = None
    strikes: int = 0
    redrives: int = 0
    reason: str | None = None
    history: int = 0
    noted_ms: int | None = None
    """Of the newest entry in its history."""
    prune_due_ms: int = 0
    ended: int = 0
    """Order of its end among all ends."""

    def may_have_landed(self, *, forgotten: bool = False) -> None:
        """Mark it, with the present content."""
        self.ambiguous = True
        content = (self.content, self.amount, self.currency, forgotten)
        if content not in self.doubt and len(self.doubt) < CONTENTS_KEPT:
            self.doubt.append(content)

    def may_be_forgotten(self, restored_ms: int) -> bool:
        """Return whether the store was restored since the job was accepted or last redriven."""
        return self.accepted_ms <= restored_ms and (not self.redrives or self.epoch_ms <= restored_ms)

    def past(self) -> Past:
        """Return what a claim must say."""
        if {content for content, *_ in self.doubt} - {self.content}:
            return Past(Doubt.OTHER, self.refused_ms is not None)
        forgotten = Doubt.FORGOTTEN if any(entry[3] for entry in self.doubt) else Doubt.SAME
        return Past(forgotten if self.doubt else Doubt.NONE, self.refused_ms is not None)

    def disagreements(self, record: JobRecord) -> list[str]:
        """Return the fields in which the stored record differs."""
        names = ["fingerprint", "amount", "currency", "accepted_ms", "state", "at", "attempts_total", "reason"]
        if not self.state.terminal:
            names += ["job_class", "attempts", "token", "ambiguous", "strikes", "epoch_ms", "redrives", "body"]
        wanted = {name: getattr(self, name) for name in names}
        if self.state.terminal:  # a tombstone keeps whole seconds
            wanted |= {name: wanted[name] // 1000 * 1000 for name in ("accepted_ms", "at")}
        differing = [
            f"{name}: store {getattr(record, name)!r}, model {value!r}"
            for name, value in wanted.items()
            if getattr(record, name) != value
        ]
        doubt = [(c.fingerprint, c.amount, c.currency, c.forgotten) for c in record.doubt]
        if not self.state.terminal and (doubt, record.refused) != (self.doubt, self.refused_ms is not None):
            differing.append(f"doubt: store {doubt} {record.refused}, model {self.doubt} {self.refused_ms}")
        return differing


@dataclass
class ModelTenant:
    """What one tenant may do. Times in µs."""

    paused: bool = False
    frozen_until: int = 0
    factor: float | None = None
    """Of the full pace, at the end of the last freeze."""
    hold: str | None = None
    probe_at: int = 0
    probe_ms: int = 0
    probe_token: int = 0
    probes: list[ClaimedJob] = field(default_factory=list)
    """Those of the present hold, since an operator last asked for one."""
    probing: int = 0
    """Of the present group of probes, how many have not ended."""
    probed: str = "-"
    witness: str | None = None
    """Who was refused since the last proper answer: one job, or several."""
    streak: int = 0
    failing: str | None = None
    half_began_ms: int = 0
    halves: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    """What was seen in the present half of the window and in the one before: ok, failed, newly refused."""
    ok_at_ms: int = 0
    window: int = FIRST_WINDOW
    tat: int = 0
    doubt_ms: int = -1
    """What was accepted until then may have been sent before."""
    doubt_since_ms: int | None = None
    """Since when the store may have forgotten."""
    own: Limits | None = None
    policy: Policy | None = None
    bound: int = 0
    """Until when a limit may keep the tenant waiting."""

    def wait_until(self, us: int) -> None:
        """Note a limit that keeps the tenant waiting."""
        self.bound = max(self.bound, us)

    def interval_us(self, limits: Limits, now_us: int) -> int:
        """Return the time between two requests at the present pace; 0 is no limit."""
        if self.factor is None or not limits.rate_us:
            return limits.rate_us
        return ceil(limits.rate_us / min(1, self.factor + max(0, now_us - self.frozen_until) / CLIMB_US))

    def slide(self, now_ms: int, breaker: Breaker) -> None:
        """Let the window of answers follow the time."""
        age_ms = now_ms - self.half_began_ms
        if age_ms >= 2 * breaker.window_ms:
            self.half_began_ms, self.halves = now_ms, (Counter(), Counter())
        elif age_ms >= breaker.window_ms:
            self.half_began_ms, self.halves = self.half_began_ms + breaker.window_ms, (Counter(), self.halves[0])

    def saw(self, what: str, now_ms: int, breaker: Breaker) -> None:
        """Count an answer."""
        self.slide(now_ms, breaker)
        self.halves[0][what] += 1
        if what == "ok":
            self.ok_at_ms = now_ms

    def within(self, what: str, now_ms: int, breaker: Breaker) -> float:
        """Return how many the window holds."""
        self.slide(now_ms, breaker)
        return self.halves[0][what] + (1 - (now_ms - self.half_began_ms) / breaker.window_ms) * self.halves[1][what]

    def is_outage(self, now_ms: int, breaker: Breaker) -> bool:
        """Return whether the failures mean that Trackdesk is away."""
        if self.failing != SEVERAL:
            return False
        ok, failed = (self.within(what, now_ms, breaker) for what in ("ok", "failed"))
        volume = max(breaker.volume, breaker.failures)
        if ok + failed < volume:
            return self.streak >= breaker.failures
        return self.streak >= volume or failed >= breaker.ratio * (ok + failed)

    def is_second_witness(self, identity: str) -> bool:
        """Note who was refused; return whether another job was before."""
        second = self.witness not in (None, identity)
        self.witness = SEVERAL if second else identity
        return second

    def disagreements(self, stored: dict[str, str]) -> list[str]:
        """Return the fields in which what is stored of the tenant differs."""
        wanted = {
            "streak": (self.streak, 0),
            "window": (self.window, FIRST_WINDOW),
            "frozen_until": (self.frozen_until // 1000, 0),
            "factor": (None if self.factor is None else f"{self.factor:.14g}", None),
            "hold": (self.hold, None),
            "probe_at": (self.probe_at // 1000, 0),
            "probe_ms": (self.probe_ms, 0),
            "probe_token": (self.probe_token, 0),
            "probing": (self.probing, 0),
            "probed": (self.probed, "-"),
            "witness": (self.witness, None),
            "failing": (self.failing, None),
        }
        # A visit brings it down to what the present limits allow, whether or not it hands anything out.
        assert int(stored.get("tat", 0)) <= self.tat, f"tat: store {stored.get('tat')}, model {self.tat}"
        self.tat = int(stored.get("tat", 0))
        return [
            f"{name}: store {stored.get(name)}, model {value}"
            for name, (value, default) in wanted.items()
            if stored.get(name, str(default)) != str(value)
        ]


@dataclass
class _Batch:
    """What one settle learns of a tenant."""

    in_flight: int
    answered: int = 0
    released: bool = False


@dataclass
class Model:
    """One namespace."""

    now_ms: int = START_MS
    breaker: Breaker = field(default_factory=Breaker)
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
            content=item.fingerprint,
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
        limits = state.own or limits
        if state.hold:
            state.wait_until(state.probe_at)
            at_once = 1 if state.hold == "rate_limited" else PROBES
            most = at_once if state.probe_at <= self.now_us else 0
        else:
            most = max(0, min(limits.cap, state.window) - self.in_flight(tenant))
            if not most:
                state.wait_until(self.now_us + CAPPED_US)
        if interval := state.interval_us(limits, self.now_us):
            tat = min(max(state.tat, self.now_us), self.now_us + limits.burst * interval)
            state.wait_until(tat)
            most = min(most, max(0, (self.now_us + limits.burst * interval - tat) // interval))
        return most

    def in_flight(self, tenant: str) -> int:
        """Return how many of the tenant's jobs are claimed, and within their lease."""
        return sum(
            job.state is State.IN_FLIGHT and tenant_of(name) == tenant and job.at > self.now_ms
            for name, job in self.jobs.items()
        )

    def claimed(self, jobs: Sequence[ClaimedJob], limits: Limits, lease_ms: int) -> None:
        """Take over what a claim handed out; fail where it may not have."""
        taken: defaultdict[tuple[str, JobClass | None], list[str]] = defaultdict(list)
        for claim in jobs:
            taken[(claim.tenant, self.jobs[claim.id].job_class)].append(claim.id)
        for (name, job_class), ids in taken.items():
            queue = [
                identity
                for identity in self.in_order(State.READY)
                if tenant_of(identity) == name and self.jobs[identity].job_class is job_class
            ]
            if self.tenants[name].hold not in (None, "outage"):
                queue.reverse()  # the probe of a refused tenant is its newest job
            assert ids == queue[: len(ids)], f"{name}'s next {job_class} jobs are {queue}, handed out {ids}"
        for name in {claim.tenant for claim in jobs if self.tenants[claim.tenant].hold}:
            held, group = self.tenants[name], [claim for claim in jobs if claim.tenant == name]
            assert not (beside := self._live_probes(held)), f"probes {group} beside {beside}"
            held.probes += group
            held.probe_token, held.probing, held.probed = int(group[0].token), len(group), "-"
        for name, number in Counter(claim.tenant for claim in jobs).items():
            assert number <= self.may_be_handed_out(name, limits), f"{name} got {number} jobs beyond its limits"
        for claim in jobs:
            job, tenant = self.jobs[claim.id], self.tenants[claim.tenant]
            assert int(claim.token) > self.last_token, "tokens rise"
            self.last_token = int(claim.token)
            job.state, job.at, job.token = State.IN_FLIGHT, self.now_ms + lease_ms, int(claim.token)
            self._carry_doubt(claim.id)
            job.attempts += 1
            job.attempts_total += 1
            self.count(claim.id, "claimed")
            assert claim.probe == (tenant.hold is not None)
            said = (claim.attempts, claim.attempts_total, claim.strikes, claim.past, claim.body, claim.epoch_ms)
            assert said == (job.attempts, job.attempts_total, job.strikes, job.past(), job.body, job.epoch_ms)
            assert claim.last_reason == (job.reason or "-")
            if interval := tenant.interval_us(tenant.own or limits, self.now_us):
                whole = self.now_us + (tenant.own or limits).burst * interval
                tenant.tat = min(max(tenant.tat, self.now_us), whole) + interval
                tenant.wait_until(tenant.tat)
            if tenant.hold:
                tenant.probe_at = job.at * 1000
                tenant.wait_until(tenant.probe_at)

    def _live_probes(self, tenant: ModelTenant) -> list[str]:
        """Return the tenant's probes that are under way and within their lease."""
        found = []
        for probe in tenant.probes:
            job = self.jobs.get(probe.id)
            if job and job.state is State.IN_FLIGHT and str(job.token) == probe.token and job.at > self.now_ms:
                found.append(probe.id)
        return found

    def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Return the replies."""
        batches = {name: _Batch(self.in_flight(name)) for name in {*map(tenant_of, self.jobs), *self.tenants}}
        replies = [self._settle(s, batches.setdefault(tenant_of(s.id), _Batch(0))) for s in settlements]
        for name, batch in batches.items():
            tenant = self.tenants[name]
            if batch.answered and not tenant.hold and not batch.released and batch.in_flight >= tenant.window:
                tenant.window += batch.answered
        return replies

    def _settle(self, s: Settlement, batch: _Batch) -> bool:
        job = self.jobs.get(s.id)
        if job is None or job.state is not State.IN_FLIGHT or str(job.token) != s.token:
            return False
        tenant = self.tenants[tenant_of(s.id)]
        held_before = tenant.hold is not None
        alone = self._learn(s, job, tenant, batch)
        verb, spends, reason, strikes = s.verb, s.spends_attempt, s.reason, s.strikes
        delay_ms = min(s.delay_ms, LONGEST_MS)
        kept = verb is Verb.BURY and not s.past_horizon
        if s.health is ServiceHealth.FAIL and tenant.hold and (kept or verb is Verb.RETRY):
            verb, spends = Verb.RELEASE, False
        elif _is_refusal(s) and (verb is Verb.RELEASE or (kept and s.probe and held_before)):
            verb, spends, delay_ms = Verb.RETRY, False, max(delay_ms, PAUSE_MS)
            strikes = job.strikes + alone if job.reason in REFUSALS else 0
            if strikes >= MOST_STRIKES[s.effect]:
                verb, reason = Verb.BURY, "refused_alone"
        job.token = 0
        if s.ambiguous:
            job.may_have_landed()
        elif s.refused and not job.ambiguous and job.refused_ms is None:
            job.refused_ms = self.now_ms
        job.attempts -= not spends
        if s.entry:
            job.history += 1
            job.noted_ms = self.now_ms
        else:
            job.attempts_total -= 1
        match verb:
            case Verb.DELIVER:
                self.count(s.id, f"delivered_{reason}")
                self._end(s.id, State.DELIVERED, reason)
            case Verb.RETRY:
                job.state, job.at, job.reason, job.strikes = State.SCHEDULED, self.now_ms + delay_ms, reason, strikes
                if job.job_class is JobClass.LIVE:
                    job.job_class = JobClass.RETRY
            case Verb.BURY:
                job.state, job.at, job.reason, job.strikes = State.DEAD, self.now_ms, reason, strikes
            case Verb.RELEASE:
                job.state, job.at = State.READY, self.now_us if s.entry else job.accepted_ms * 1000
        return True

    def _learn(self, s: Settlement, job: ModelJob, tenant: ModelTenant, batch: _Batch) -> bool:
        """Take in what an answer says of the tenant; return whether the job explains a refusal by itself."""
        of_group = s.probe and int(s.token) >= tenant.probe_token
        alone = bad = False
        if s.health is ServiceHealth.OK:
            tenant.saw("ok", self.now_ms, self.breaker)
            batch.answered += 1
            tenant.streak, tenant.failing = 0, None
            if s.probe and tenant.hold:
                self._end_hold(tenant, batch)
            if not tenant.hold:
                tenant.witness = None
            return False
        if s.health is ServiceHealth.FAIL:
            tenant.saw("failed", self.now_ms, self.breaker)
            tenant.failing = s.id if tenant.streak == 0 or tenant.failing == s.id else SEVERAL
            tenant.streak += 1
            bad = True
            if not tenant.hold and tenant.is_outage(self.now_ms, self.breaker):
                self._hold(tenant, "outage", self.breaker.first_probe_ms)
                return False
        elif _is_refusal(s):
            alone = self._is_alone(job, tenant)
            if job.reason not in REFUSALS:
                tenant.saw("refused", self.now_ms, self.breaker)
            if not tenant.hold and not alone:
                self._refused(s, tenant)
                return False
            if tenant.hold and of_group:
                bad = self._refused_probe(s, tenant, batch)
        if of_group:
            self._probe_ended(tenant, sent=bool(s.entry), bad=bad)
        return alone

    def _is_alone(self, job: ModelJob, tenant: ModelTenant) -> bool:
        """Whether a job was refused before, while few others are, and others were answered since."""
        if tenant.hold or job.reason not in REFUSALS or job.noted_ms is None:
            return False
        refused, ok = (tenant.within(what, self.now_ms, self.breaker) for what in ("refused", "ok"))
        return refused * CROWD <= ok and tenant.ok_at_ms > job.noted_ms

    def _refused(self, s: Settlement, tenant: ModelTenant) -> None:
        tenant.is_second_witness(s.id)
        if s.effect is TenantEffectKind.FREEZE and tenant.frozen_until > self.now_us:
            self._freeze(s, tenant)
        elif s.effect is TenantEffectKind.FREEZE:
            self._hold(tenant, "rate_limited", PAUSE_MS)
        elif self.now_ms - tenant.ok_at_ms >= QUIET_MS:
            self._hold(tenant, s.reason, PAUSE_MS)

    def _refused_probe(self, s: Settlement, tenant: ModelTenant, batch: _Batch) -> bool:
        """Return whether it lengthens the interval."""
        throttled = s.effect is TenantEffectKind.FREEZE
        if (throttled and tenant.hold != "rate_limited") or not tenant.is_second_witness(s.id):
            return False
        if throttled and tenant.probe_ms > PAUSE_MS:
            self._end_hold(tenant, batch)
            self._freeze(s, tenant)
            return False
        if throttled or tenant.hold == s.reason:
            return True
        tenant.hold, tenant.probe_ms = s.reason, PAUSE_MS
        return False

    def _probe_ended(self, tenant: ModelTenant, *, sent: bool, bad: bool) -> None:
        if not tenant.hold:
            return
        tenant.probing -= 1
        if bad:
            tenant.probed = "bad"
        elif sent and tenant.probed != "bad":
            tenant.probed = "sent"
        if tenant.probing > 0:
            return
        wait_ms = tenant.probe_ms
        if tenant.probed == "bad":
            wait_ms = tenant.probe_ms = max(wait_ms, min(2 * wait_ms, self.breaker.last_probe_ms))
        elif tenant.probed == "-":
            wait_ms = 0
        tenant.probe_at = self.now_us + wait_ms * 1000
        tenant.wait_until(tenant.probe_at)

    def _hold(self, tenant: ModelTenant, reason: str, probe_ms: int) -> None:
        if not tenant.hold:
            tenant.window = FIRST_WINDOW
        tenant.hold, tenant.probe_ms = reason, probe_ms
        tenant.probe_at = max(tenant.probe_at, self.now_us + probe_ms * 1000)
        tenant.wait_until(tenant.probe_at)

    def _end_hold(self, tenant: ModelTenant, batch: _Batch) -> None:
        tenant.hold, tenant.probe_at, tenant.probe_ms, tenant.probe_token = None, 0, 0, 0
        tenant.probing, tenant.probed, tenant.witness, tenant.failing, tenant.streak = 0, "-", None, None, 0
        tenant.probes.clear()
        tenant.bound = self.now_us
        batch.released = True

    def _freeze(self, s: Settlement, tenant: ModelTenant) -> None:
        until = self.now_us + min(s.effect_ms, LONGEST_MS) * 1000
        if until <= tenant.frozen_until:
            return
        if tenant.frozen_until < self.now_us:
            climbed = (self.now_us - tenant.frozen_until) / CLIMB_US
            now = 1.0 if tenant.factor is None else min(1.0, tenant.factor + climbed)
            tenant.factor = float(f"{max(0.25, now / 2):.14g}")
            self.count(s.id, "freezes")
        tenant.frozen_until = until

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
        ready = suspects = 0
        lost = self.in_order(State.IN_FLIGHT, self.now_ms)[:most]
        for place, identity in enumerate(lost):
            job = self.jobs[identity]
            job.strikes = job.strikes + 1 if job.reason == "lost" else 1
            job.token, job.reason = 0, "lost"
            job.may_have_landed()
            job.history += 1
            job.noted_ms = self.now_ms
            self.count(identity, "reclaimed")
            own = self.tenants[tenant_of(identity)].policy or Policy(max_attempts=max_attempts)
            if job.attempts >= own.max_attempts or self.now_ms - job.epoch_ms >= own.horizon_s * 1000:
                job.state, job.at = State.DEAD, self.now_ms
            else:
                if job.strikes >= SUSPECT_AFTER:
                    suspects += 1
                    job.state, job.at = State.SCHEDULED, self.now_ms + suspects * 1000
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
        sent = job.ambiguous or job.may_be_forgotten(self.tenants[tenant_of(identity)].doubt_ms)
        if job.state in (State.READY, State.SCHEDULED) and not sent:
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
            self._carry_doubt(identity)
            self._redrive(identity)
            replies.append("redriven")
        return replies

    def _redrive(self, identity: str) -> None:
        job = self.jobs[identity]
        job.state, job.at, job.job_class = State.READY, -1, JobClass.REDRIVE  # -1: about now
        job.attempts, job.strikes, job.epoch_ms = 0, 0, self.now_ms
        job.redrives += 1
        job.history += 1
        job.noted_ms = self.now_ms
        self.count(identity, "redriven")

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

    def _carry_doubt(self, identity: str) -> None:
        job, tenant = self.jobs[identity], self.tenants[tenant_of(identity)]
        if job.may_be_forgotten(tenant.doubt_ms):
            job.may_have_landed(forgotten=True)
            if job.refused_ms is not None and tenant.doubt_since_ms is not None:
                job.refused_ms = job.refused_ms if job.refused_ms < tenant.doubt_since_ms else None

    def edit(self, item: Item, *, new_key: bool) -> str:
        """Return the reply."""
        job = self.jobs.get(item.id)
        if job is None or job.state is not State.DEAD:
            return "unknown" if job is None else f"refused:{job.state}"
        forgotten = job.may_be_forgotten(self.tenants[tenant_of(item.id)].doubt_ms)
        if new_key and (job.ambiguous or forgotten):
            return "in_doubt"
        self._carry_doubt(item.id)
        job.refused_ms = None if new_key else job.refused_ms
        sums = self.accepted_money[tenant_of(item.id)]
        with localcontext(prec=60):
            if job.amount:
                sums[str(job.currency)] -= job.amount
            job.amount = None if item.amount == "-" else Decimal(item.amount)
            job.currency = None if job.amount is None else item.currency
            if job.amount:
                sums[item.currency] = sums.get(item.currency, Decimal()) + job.amount
        for currency in [name for name, amount in sums.items() if not amount]:
            del sums[currency]
        job.body, job.content = item.body.encode(), item.fingerprint
        self.count(item.id, "edited")
        self._redrive(item.id)
        return "ok"

    def pause(self, tenant: str) -> bool:
        """Return whether that changed anything."""
        state = self.tenants[tenant]
        state.paused, before = True, state.paused
        return not before

    def resume(self, tenant: str) -> bool:
        """Return whether that changed anything."""
        state = self.tenants[tenant]
        changed = state.paused or state.frozen_until > 0 or state.hold is not None
        state.paused, state.frozen_until, state.factor, state.bound = False, 0, None, self.now_us
        if state.hold:
            state.probe_at = self.now_us
            state.probes.clear()
        return changed
