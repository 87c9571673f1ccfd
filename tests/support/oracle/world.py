"""A store, workers, operators, a shop and a simulated Trackdesk on one virtual clock, watched by the judge.

What runs is the product: its scripts on a real server, its policy, answer table and attempts, its services for
operators. Only sockets and waiting are left out.
"""

import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.oracle.answers import ALREADY_EXISTS, ANSWERS, Episode, must_commit
from tests.support.oracle.clocked import ClockedRedis
from tests.support.oracle.judge import Judge, Life, Violation
from tests.support.store import START_MS, WINDOW_MS, Item, Store
from tests.support.store_check import PRUNED_EARLY, walk_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import NO_CURRENCY, JobRecord, State, job_id
from trackdesk_producer.contract.runner import Command, Replies, result, run_raw
from trackdesk_producer.contract.scripts import ScriptCall
from trackdesk_producer.conversion.model import parse_conversion
from trackdesk_producer.conversion.wire import body_and_fingerprint
from trackdesk_simulator import ManualClock, SimulatorConfig
from trackdesk_simulator.engine import Engine
from trackdesk_simulator.ledger import Ledger
from trackdesk_simulator.reply import Delivery, Reply
from trackdesk_worker.config.tenants import TenantSettings
from trackdesk_worker.delivery.attempt import Attempts, Finished, StoreClock, release
from trackdesk_worker.domain.claim import ClaimedJob, Settlement, Verb
from trackdesk_worker.domain.limits import Limits
from trackdesk_worker.domain.policy import Policy
from trackdesk_worker.ops.audit_log import Operator
from trackdesk_worker.ops.dead_letters.edit import EditInvalid, edit_and_redrive, propose
from trackdesk_worker.store import jobs as store_jobs
from trackdesk_worker.store.ledger import read_books
from trackdesk_worker.telemetry.logging import BufferedLog
from trackdesk_worker.telemetry.metrics import WorkerMetrics
from trackdesk_worker.trackdesk.created_at import CreatedAt
from trackdesk_worker.trackdesk.endpoint import Endpoint
from trackdesk_worker.trackdesk.exchange import Answer, Failure, FailureKind

LEASE_MS = 30_000
POLICY, UNLIMITED = Policy(horizon_s=14_400), Limits(rate_per_s=0)
"""A horizon of hours: a sale that alone stops a tenant without other sales is tried once a minute until its end."""
OPERATOR = Operator("ann", "oracle")
METRICS = WorkerMetrics()
LONGEST_WAIT_MS = 12 * 3_600_000
"""Of a plain sale: freezes of an hour, holds and outages of its tenant, one after the other."""
LONGEST_DELAY_MS = round(POLICY.backoff_cap_s * 1000) + 60_000
"""Of a retry, a freeze or a probe."""
JUMP_COSTS_MS = 360_000
"""A store's clock that was wrong and is right again costs at most the longest time between two probes, and a lease."""
ROUNDS_TO_CORRECT = 10
"""Of maintenance, which looks at a part of the tenants and retries each time."""
SILENT_CONFLICT = "409 silent"


@dataclass(frozen=True, slots=True)
class Tenant:
    """What one tenant is like, at Trackdesk and here."""

    name: str
    network: bool = False
    strict: bool = False
    profile: str = "gateway"
    by_type: bool = False
    rate_per_s: float = 0

    @property
    def at_trackdesk(self) -> dict[str, Any]:
        """Its settings in the simulator."""
        limit = {"per_s": self.rate_per_s, "burst": 5} if self.rate_per_s else None
        types = {"sale": {}, "purchase": {}, "lead": {"kind": "fixed"}}
        return {
            "network": self.network,
            "strict": self.strict,
            "profile": self.profile,
            "rate_limit": limit,
            "types": types,
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker holds."""

    life: Life
    job: ClaimedJob
    worker: int
    clock: StoreClock


class Sender:
    """Brings one request to the simulator's engine, or not, and the scripted answer back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.life: Life
        self.episode = Episode()
        self.requests = 0
        self.recorded: Callable[[Life, int], None] = lambda life, rows: None

    async def send(self, tenant: str, body: bytes) -> tuple[Answer | Failure, float]:
        """Return what the worker sees of it."""
        episode, life = self.episode, self.life
        scripted = ANSWERS[episode.answer] if episode.answer else None
        if isinstance(scripted, Failure) and not scripted.sent:
            return scripted, 0.1
        self.requests += 1
        life.sent += 1
        if not episode.commit:
            if episode.answer == SILENT_CONFLICT and not self._engine.ledger.rows_for(tenant, life.external_id):
                scripted = ANSWERS["409 code 10"]  # silence would say that it is recorded, after an earlier attempt
            assert scripted is not None
            return scripted, 0.1
        if life.foreign and not self._engine.ledger.rows_for(tenant, life.external_id):
            # The offer takes no second sale of a click.
            return ALREADY_EXISTS if scripted is None or must_commit(episode.answer) else scripted, 0.1
        at_trackdesk = self._engine.tenant(tenant)
        assert at_trackdesk is not None
        rows = len(self._engine.ledger)
        reply = self._engine.receive(at_trackdesk, "POST", "", body, None)
        self.recorded(life, rows)
        if scripted is None or (must_commit(episode.answer) and reply.status != 200):
            return _seen(reply), 0.1
        return scripted, 0.1


def _seen(reply: Reply) -> Answer | Failure:
    match reply.delivery:
        case Delivery.DROP:
            return Failure(FailureKind.CONNECTION_LOST, sent=True, detail="reset")
        case Delivery.HANG:
            return Failure(FailureKind.TIMEOUT, sent=True, detail="no answer")
        case Delivery.SEND | Delivery.SLOW:
            retry_after = None if reply.retry_after_s is None else str(reply.retry_after_s)
            return Answer(reply.status, reply.content_type, retry_after, reply.body)


@dataclass
class Snapshot:
    """A backup of the namespace, and what the oracle knew then."""

    at_ms: int
    store_ms: int
    """The same by the store's clock."""
    keys: list[tuple[bytes, bytes]]
    lives: dict[str, bool]
    """Whether each sale was over."""


@dataclass
class Totals:
    """What a run did."""

    requests: int = 0
    rows: int = 0
    duplicates_refused: int = 0
    claims: int = 0
    longest_wait_ms: int = 0
    """Of a sale to which nothing happened but what happened to its tenant."""
    settled: dict[str, int] = field(default_factory=dict)
    episodes: dict[str, int] = field(default_factory=dict)
    acts: dict[str, int] = field(default_factory=dict)


class World:
    """One namespace and everybody who has to do with it. `now_ms` is the true time; clocks may differ from it."""

    def __init__(
        self, client: ClockedRedis, keys: Keys, tenants: Iterable[Tenant], *, seed: int = 1, workers: int = 3
    ) -> None:
        self.client, self.keys = client, keys
        self.store = Store(client, keys, proven=False)
        self.tenants = {tenant.name: tenant for tenant in tenants}
        self.now_ms = START_MS
        self.store_ahead_ms = 0
        self.worker_ahead_ms = [0] * workers
        self.clock = ManualClock(START_MS / 1000)
        self.ledger = Ledger()
        config = {"tenants": {name: tenant.at_trackdesk for name, tenant in self.tenants.items()}, "seed": seed}
        self.engine = Engine(SimulatorConfig.model_validate(config), ledger=self.ledger, clock=self.clock)
        self.judge = Judge(self.ledger)
        self.totals = Totals()
        self.sender = Sender(self.engine)
        self.sender.recorded = self._recorded
        self._snapshot: Snapshot | None = None
        self._violation: Violation | None = None
        self._latest_ms = 0
        """The furthest that the store's clock ever was."""
        self._earliest_ms = START_MS
        """Of the store's clock since the last check."""
        self._clock_was_wrong = False
        self.restores = 0
        self._sound_again_ms = 0
        """By when the damage of a wrong store's clock must be over, if maintenance goes on."""
        self._rounds_since = 0
        self._attempts = [self._attempts_of(worker, seed) for worker in range(workers)]
        for name in ("settle", "claim", "promote", "reclaim", "wake"):
            # Those that share a round trip: one that the server does not know yet would go behind the other.
            client.execute_command("SCRIPT", "LOAD", store_jobs.script(name).source)
        self._set_limits()
        self.move_to(START_MS)

    def _attempts_of(self, worker: int, seed: int) -> Attempts:
        settings = {
            name: TenantSettings(
                self._limits(tenant), Endpoint("https://{tenant}.trackdesk.com"), POLICY, CreatedAt.LATE, tenant.by_type
            )
            for name, tenant in self.tenants.items()
        }
        return Attempts(
            sender=self.sender,
            settings_for=settings.__getitem__,
            metrics=METRICS,
            log=BufferedLog("test", print, enabled=False),
            rng=random.Random(f"{seed}/{worker}"),
        )

    def _limits(self, tenant: Tenant) -> Limits:
        return Limits(rate_per_s=tenant.rate_per_s, burst=2) if tenant.rate_per_s else UNLIMITED

    def _set_limits(self) -> None:
        own = {name: (self._limits(tenant), POLICY) for name, tenant in self.tenants.items()}
        self._run_all([self.store.jobs.limits(list(own), own)])

    def _run_all(self, operations: Sequence[ScriptCall[Any]]) -> list[Any]:
        """Run operations of the product in one round trip; return their results."""

        def send(commands: Sequence[Command]) -> Replies:
            with self.client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return pipeline.execute(raise_on_error=False)

        replies = run_raw(send, operations)
        return [result(operation, reply) for operation, reply in zip(operations, replies, strict=True)]

    def move_to(self, now_ms: int) -> None:
        """Let the true time be this."""
        self.now_ms = now_ms
        self.store.now_ms = self.client.now_ms = now_ms + self.store_ahead_ms
        self._latest_ms = max(self._latest_ms, self.store.now_ms)
        self._earliest_ms = min(self._earliest_ms, self.store.now_ms)
        self.clock.set(now_ms / 1000)

    def jump_store(self, ahead_ms: int) -> None:
        """Set the store's clock wrong by so much, or right: 0.

        Never behind a restore that was reported: what is in doubt is a matter of that clock, and would be forgotten.
        """
        if self.restores and ahead_ms < 0:
            return
        self.store_ahead_ms = ahead_ms
        self._sound_again_ms = self.now_ms + JUMP_COSTS_MS
        self._rounds_since = 0
        self._clock_was_wrong = True
        self.move_to(self.now_ms)

    # The shop -----------------------------------------------------------------------------------------

    def life_of(self, tenant: str, sale: Mapping[str, Any], *, foreign: bool = False) -> Life:
        """Return the life of a sale, a new one if it has none."""
        traits = self.tenants[tenant]
        kind = str(sale["conversionTypeCode"]) if traits.by_type else None
        identity = job_id(tenant, str(sale["externalId"]), kind)
        life = self.judge.lives.get(identity)
        if life is None:
            life = Life(identity, tenant, str(sale["externalId"]), network=traits.network, foreign=foreign)
            self.judge.add(life)
        return life

    def enqueue(self, sales: Sequence[tuple[Life, Mapping[str, Any], int]]) -> list[str]:
        """Enqueue sales, each with the time before which it may not go, or 0; return the script's replies."""
        items = []
        for life, sale, due_ms in sales:
            conversion = parse_conversion(sale)
            body, content = body_and_fingerprint(conversion)
            amount = conversion.amount or "-"
            currency = conversion.currency or (NO_CURRENCY if conversion.amount else "-")
            items.append(Item(life.id, amount, currency, due_ms, content, body.decode()))
        replies = self.store.enqueue(*items)
        for (life, _, due_ms), reply in zip(sales, replies, strict=True):
            life.note(self.now_ms, f"enqueue: {reply}")
            if reply.startswith("accepted:"):
                if life.stored:
                    if not (life.over and self.store.now_ms >= life.over_ms + WINDOW_MS):
                        raise Violation("accepted twice", life, "the store holds it already")
                    self.judge.sold_again(life)
                life.stored, life.accepted_ms, life.due_ms = True, self.now_ms, due_ms
            elif not life.stored:
                raise Violation("refused unknown", life, f"{reply}, and the store never had it")
        return replies

    def cancel(self, life: Life) -> str:
        """Cancel for the shop."""
        (reply,) = self.store.cancel(life.id)
        life.note(self.now_ms, f"cancel: {reply}")
        return reply

    def sold_elsewhere(self, tenant: str, sale: Mapping[str, Any]) -> None:
        """Have another system, a pixel for instance, record the same externalId first."""
        body = parse_conversion(sale)
        at_trackdesk = self.engine.tenant(tenant)
        assert at_trackdesk is not None
        self.engine.receive(at_trackdesk, "POST", "", body_and_fingerprint(body)[0], None)

    # Workers ------------------------------------------------------------------------------------------

    def deliver(self, ended: Sequence[Finished], worker: int, wanted: int) -> list[Claim]:
        """Settle what has ended and claim up to so many jobs in one round trip, as a delivery loop does."""
        operations: list[ScriptCall[Any]] = []
        if ended:
            operations.append(self._settling(ended))
        operations.append(
            self.store.jobs.claim(
                wanted, lease_ms=LEASE_MS, limits=UNLIMITED, slots=self.store.slots, now_ms=self.store.now_ms
            )
        )
        *settled, claims = self._run_all(operations)
        for kept in settled:
            self._settled(ended, kept)
        found = []
        clock = StoreClock(
            claims.now_ms, self.now_ms / 1000, lambda: (self.now_ms + self.worker_ahead_ms[worker]) / 1000
        )
        for job in claims.jobs:
            life = self.judge.lives[job.id]
            self.judge.claimed(life, job.token, job.body, ambiguous=job.ambiguous)
            found.append(Claim(life, job, worker, clock))
        self.totals.claims += len(found)
        return found

    def attempt(self, claim: Claim, episode: Episode) -> Finished:
        """Send a claimed job and read the answer."""
        life = claim.life
        self.sender.life, self.sender.episode = life, episode
        finished = _at_once(self._attempts[claim.worker].make(claim.job, claim.clock))
        if self._violation is not None:
            raise self._violation
        if finished.error is not None:
            raise finished.error
        s = finished.settlement
        what = (
            f"{episode.answer or 'Trackdesk answers'}{' after the commit' if episode.commit and episode.answer else ''}"
        )
        life.note(
            self.now_ms, f"attempt {claim.job.attempts_total} (worker {claim.worker}): {what} → {s.verb} {s.reason}"
        )
        self.totals.episodes[episode.answer] = self.totals.episodes.get(episode.answer, 0) + 1
        return finished

    def lose(self, claim: Claim | Finished, how: str) -> None:
        """Let the claim's holder die, as far as anybody can see."""
        life = self.judge.lives[claim.job.id]
        life.note(self.now_ms, f"attempt {claim.job.attempts_total}: {how}")
        life.sent += 1  # nobody can know

    def give_back(self, claim: Claim) -> Finished:
        """Release a claim whose request is not made."""
        return release(claim.job, claim.clock)

    def settle(self, ended: Sequence[Finished]) -> None:
        """Settle and claim nothing."""
        if ended:
            (kept,) = self._run_all([self._settling(ended)])
            self._settled(ended, kept)

    def _settling(self, ended: Sequence[Finished]) -> ScriptCall[list[bool]]:
        return self.store.jobs.settle(
            [f.settlement for f in ended],
            dedupe_window_ms=WINDOW_MS,
            breaker=self.store.breaker,
            now_ms=self.store.now_ms,
        )

    def _settled(self, ended: Sequence[Finished], kept: Sequence[bool]) -> None:
        for finished, ok in zip(ended, kept, strict=True):
            life, s = self.judge.lives[finished.job.id], finished.settlement
            if ok:
                self._kept(life, s)
            else:
                life.note(self.now_ms, f"settle: lease lost, {s.verb} {s.reason} changes nothing")

    def _kept(self, life: Life, s: Settlement) -> None:
        name = f"{s.verb} {s.reason}"
        self.totals.settled[name] = self.totals.settled.get(name, 0) + 1
        self.judge.settled(life, s.token, s.reason, self.now_ms, ambiguous=s.ambiguous)
        if life.plain and s.verb is Verb.DELIVER:
            waited_ms = self.now_ms - life.accepted_ms
            self.totals.longest_wait_ms = max(self.totals.longest_wait_ms, waited_ms)
            if waited_ms > LONGEST_WAIT_MS:
                raise Violation("stopped by others", life, f"delivered {waited_ms / 3_600_000:.1f} h after the sale")

    def _recorded(self, life: Life, rows_before: int) -> None:
        for row in self.ledger.rows[rows_before:]:
            life.note(self.now_ms, f"Trackdesk records {row.type_code} {row.amount} {row.currency}")
            try:
                self.judge.recorded(life, row)
            except Violation as violation:  # an attempt takes every error for one of its own
                self._violation = violation

    def maintain(self) -> None:
        """Do what every worker does about once a second."""
        self._rounds_since += self.now_ms > self._sound_again_ms
        jobs, now_ms = self.store.jobs, self.store.now_ms
        self._run_all(
            [
                jobs.promote(now_ms=now_ms),
                jobs.reclaim(policy=POLICY, lease_ms=LEASE_MS, now_ms=now_ms),
                jobs.wake(now_ms=now_ms),
            ]
        )

    def prune(self) -> None:
        """Remove tombstones whose dedupe window is over."""
        self.store.prune()

    # Operators ----------------------------------------------------------------------------------------

    def redrive(self, lives: Sequence[Life]) -> list[str]:
        """Redrive dead letters through a plan."""
        return self._act("redrive", lives, self.store.redrive(*(life.id for life in lives)))

    def discard(self, lives: Sequence[Life]) -> list[str]:
        """Discard dead letters through a plan."""
        return self._act("discard", lives, self.store.discard(*(life.id for life in lives)))

    def _act(self, act: str, lives: Sequence[Life], replies: list[str]) -> list[str]:
        for life, reply in zip(lives, replies, strict=True):
            life.note(self.now_ms, f"{act}: {reply}")
        self.totals.acts[act] = self.totals.acts.get(act, 0) + len(lives)
        return replies

    def edit(self, life: Life, changes: Mapping[str, str | None]) -> str:
        """Correct a dead letter and send it again, as the command does; return what came of it."""
        try:
            shown = propose(self.store, life.id, changes).shown
            edit_and_redrive(self.store, life.id, changes, OPERATOR, expect=shown)
            reply = "done"
            life.edited_ms = self.now_ms
            if {"conversionTypeCode", "revenueOriginId"} & changes.keys():
                life.refused_cleanly = False
        except EditInvalid as error:
            reply = f"refused: {error}"
        life.note(self.now_ms, f"edit {dict(changes)}: {reply}")
        name = f"edit {' '.join(changes)} {reply[:7]}"
        self.totals.acts[name] = self.totals.acts.get(name, 0) + 1
        return reply

    def pause(self, tenant: str) -> None:
        """Pause a tenant."""
        self.store.pause(tenant)

    def resume(self, tenant: str) -> None:
        """Resume a tenant."""
        self.store.resume(tenant)

    def back_up(self) -> None:
        """Keep a copy of the namespace."""
        names = list(self.client.scan_iter(match=f"{self.keys.prefix}*", count=1000))
        with self.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.dump(name)
            dumped = pipeline.execute()
        keys = [(name, value) for name, value in zip(names, dumped, strict=True) if value is not None]
        self._snapshot = Snapshot(
            self.now_ms,
            self.store.now_ms,
            keys,
            {name: life.over for name, life in self.judge.lives.items() if life.stored},
        )

    def restore(self) -> bool:
        """Put the copy back and report it to the store, as the runbook says.

        False without a copy, or while the store's clock is wrong or behind a sale that it accepted when it was ahead:
        what is in doubt is a matter of that clock.
        """
        snapshot = self._snapshot
        if snapshot is None or self.store_ahead_ms or self.now_ms < self._latest_ms:
            return False
        now = list(self.client.scan_iter(match=f"{self.keys.prefix}*", count=1000))
        with self.client.pipeline(transaction=False) as pipeline:
            if now:
                pipeline.unlink(*now)
            for name, value in snapshot.keys:
                pipeline.restore(name, 0, value)
            pipeline.execute()
        self.restores += 1
        self.store.restored(since_ms=snapshot.store_ms)
        self._forget(snapshot)
        return True

    def _forget(self, snapshot: Snapshot) -> None:
        judge = self.judge
        for name, life in judge.lives.items():
            life.note(self.now_ms, "the store is restored from a backup")
            life.plain = False
            if life.edited_ms > snapshot.at_ms:
                life.excuse = "corrected after the backup"
            if life.refused_ms > snapshot.at_ms:
                life.refused_cleanly = False
            if life.over and not snapshot.lives.get(name):
                judge.reopen(life)
            life.doubted, life.sent = True, life.sent + 1
            if life.stored and name not in snapshot.lives:
                judge.sold_again(life)
                life.stored = False

    # The judge ----------------------------------------------------------------------------------------

    def records(self, lives: Sequence[Life]) -> dict[str, JobRecord | None]:
        """Return the store's records of these sales."""
        if not lives:
            return {}
        raws: list[Any] = self.client.mget([self.keys.job(life.id) for life in lives])
        return {
            life.id: None if raw is None else JobRecord.parse(life.id, raw)
            for life, raw in zip(lives, raws, strict=True)
        }

    def check(self) -> dict[str, JobRecord | None]:
        """Let the judge compare every sale that is not over, and the books; return the records it saw."""
        open_lives = list(self.judge.open.values())
        records = self.records(open_lives)
        with self.client.pipeline(transaction=False) as pipeline:
            for name in self.tenants:
                pipeline.hget(self.keys.tenant(name), "doubt")
            doubts = {name: int(raw or -1) for name, raw in zip(self.tenants, pipeline.execute(), strict=True)}
        self.judge.look(records, doubts, self._earliest_ms)
        self._earliest_ms = self.store.now_ms
        if not self.store_ahead_ms and self._rounds_since >= ROUNDS_TO_CORRECT:
            self._check_waits(records)
        self.judge.compare_books(read_books(self.store))
        return records

    def _check_waits(self, records: Mapping[str, JobRecord | None]) -> None:
        """Whatever waits does so for a time that its rule allows."""
        now_ms = self.store.now_ms
        for identity, record in records.items():
            life = self.judge.lives[identity]
            if record is None:
                continue
            if record.state is State.SCHEDULED and record.at > max(now_ms + LONGEST_DELAY_MS, life.due_ms):
                raise Violation("waits too long", life, f"{(record.at - now_ms) / 1000} s from now it is due")
            if record.state is State.IN_FLIGHT and record.at > now_ms + LEASE_MS:
                raise Violation("waits too long", life, f"its lease ends {(record.at - now_ms) / 1000} s from now")
        raw: Any = self.client.zrange(self.keys.turn, -1, -1, withscores=True)
        for tenant, at_us in raw:
            if at_us > (now_ms + LONGEST_DELAY_MS) * 1000:
                raise Violation("waits too long", None, f"{tenant} has its turn in {at_us / 1e6 - now_ms / 1e3} s")

    def check_store(self) -> None:
        """Compare everything in the namespace that must agree."""
        wrong = walk_store(self.store).wrong
        if self._clock_was_wrong:
            # A sale accepted ahead of the clock by which it ends keeps no earlier end than its beginning.
            wrong = [one for one in wrong if not one.endswith(PRUNED_EARLY)]
        if wrong:
            raise Violation("store", None, "; ".join(wrong[:5]))


def _at_once(attempt: Coroutine[Any, Any, Finished]) -> Finished:
    """Run a coroutine that waits for nothing, without an event loop."""
    try:
        attempt.send(None)
    except StopIteration as end:
        finished: Finished = end.value
        return finished
    raise AssertionError("the attempt waited for something")
