"""One seeded world in virtual time, judged all along. The same spec always ends the same."""

import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.oracle.answers import Episode
from tests.support.oracle.clocked import ClockedRedis
from tests.support.oracle.judge import Life, Violation
from tests.support.oracle.spec import HOUR_MS, Act, Happening, LifeSpec, WorldSpec
from tests.support.oracle.world import LEASE_MS, Claim, World
from tests.support.store import START_MS
from tests.support.store_check import forget_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.record import JobRecord, State
from trackdesk_worker.delivery.attempt import Finished
from trackdesk_worker.store.job_store import JobStore

CLAIMED_AT_ONCE = 256
LATENCY_MS = 100
TRIPS_A_ROUND = 12
CHECKED_EVERY = 30
"""Rounds."""
STILL_MS = 6 * HOUR_MS
"""Longer than anything waits by rule."""
LONGEST_MS = 12 * 86_400_000
"""Of virtual time after the last sale: beyond three horizons, with an operator's delays."""


@dataclass
class Report:
    """What one world came to."""

    lives: int = 0
    requests: int = 0
    rows: int = 0
    claims: int = 0
    checks: int = 0
    virtual_ms: int = 0
    longest_wait_ms: int = 0
    states: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    episodes: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    happenings: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        """Add another world's."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            elif name == "longest_wait_ms":
                self.longest_wait_ms = max(self.longest_wait_ms, value)
            else:
                setattr(self, name, getattr(self, name) + value)


@dataclass
class _Progress:
    """How far the script of one sale is."""

    spec: LifeSpec
    life: Life
    claims: int = 0
    deaths: int = 0
    act_waits: bool = False


class Simulation:
    """Lives through one spec."""

    def __init__(self, client: ClockedRedis, spec: WorldSpec) -> None:
        self._client, self._spec = client, spec
        keys = Keys(f"oracle-{hashlib.sha1(spec.seed.encode(), usedforsecurity=False).hexdigest()[:12]}")
        forget_store(JobStore(client, keys))
        self.world = World(client, keys, spec.tenants, seed=random.Random(spec.seed).randrange(1 << 30))
        self._rng = random.Random(f"{spec.seed}/world")
        self._progress: dict[str, _Progress] = {}
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._arrivals: list[tuple[Life, dict[str, Any], int]] = []
        self._redrives: list[Life] = []
        self._discards: list[Life] = []
        self._dead_workers: set[int] = set()
        self._paused: set[str] = set()
        self._outages: dict[str, str] = {}
        self._worker = 0
        self._moved_ms = START_MS
        self.report = Report(lives=len(spec.lives))
        last_ms = 0
        for life in spec.lives:
            self._at(life.at_ms, lambda life=life: self._arrive(life))  # type: ignore[misc]
            last_ms = max(last_ms, life.at_ms)
        for happening in spec.happenings:
            self._at(happening.at_ms, lambda happening=happening: self._happen(happening))  # type: ignore[misc]
        self._end_ms = START_MS + last_ms + LONGEST_MS

    def run(self) -> Report:
        """Live until every sale is over or left as a dead letter. Raises Violation."""
        try:
            for number in itertools.count(1):
                moved = self._round()
                if number % CHECKED_EVERY == 0:
                    self._check()
                if moved:
                    self._moved_ms = self.world.now_ms
                    self.world.move_to(self.world.now_ms + self._step_ms())
                elif not self._go_on():
                    self._check()
                    if not self._agenda:
                        break
            self._close()
        finally:
            forget_store(self.world.store)
        return self.report

    def _step_ms(self) -> int:
        """Return how long to wait for more to do: longer when few sales are under way."""
        few = len(self.world.judge.open) < len(self._spec.lives) // 20
        return self._rng.choice([2_000, 8_000, 30_000]) * (10 if few else 1)

    def _at(self, offset_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (START_MS + offset_ms, next(self._order), what))

    def _in(self, wait_ms: int, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.world.now_ms + wait_ms, next(self._order), what))

    # One round ----------------------------------------------------------------------------------------

    def _round(self) -> int:
        """Do what is due; return how much that was."""
        moved = 0
        while self._agenda and self._agenda[0][0] <= self.world.now_ms:
            heapq.heappop(self._agenda)[2]()
            moved += 1
        if self._arrivals:
            arrivals, self._arrivals = self._arrivals, []
            for start in range(0, len(arrivals), 500):
                self.world.enqueue(arrivals[start : start + 500])
        if self._redrives:
            redrives, self._redrives = self._redrives, []
            self.world.redrive(redrives)
        if self._discards:
            discards, self._discards = self._discards, []
            self.world.discard(discards)
        self.world.maintain()
        return moved + self._deliver()

    def _deliver(self) -> int:
        """Let the workers take turns until nothing more can be claimed; return how many claims there were."""
        claimed = 0
        ended: list[Finished] = []
        for _ in range(TRIPS_A_ROUND):
            self._worker = (self._worker + 1) % len(self.world.worker_ahead_ms)
            claims = self.world.deliver(ended, self._worker, CLAIMED_AT_ONCE)
            if not claims:
                return claimed
            claimed += len(claims)
            ended = [finished for claim in claims if (finished := self._make(claim)) is not None]
            if self._worker in self._dead_workers:
                self._dead_workers.discard(self._worker)
                self.report.fates["worker died"] += len(ended)
                for finished in ended:
                    self.world.lose(finished, "its holder dies before it settles")
                ended = []
            self.world.move_to(self.world.now_ms + LATENCY_MS)
        self.world.settle(ended)
        return claimed

    def _make(self, claim: Claim) -> Finished | None:
        """Let one claim go as the sale's script says; return what is settled at once."""
        progress = self._progress[claim.life.id]
        episode = self._episode(progress)
        world = self.world
        late_ms = LEASE_MS + self._rng.choice([1, 5_000, 600_000])
        if episode.fate:
            self.report.fates[episode.fate] += 1
        match episode.fate:
            case "lost unsent":
                world.lose(claim, "its holder dies before it is sent")
                return None
            case "lost sent":
                world.lose(world.attempt(claim, episode), "its holder dies before it settles")
                return None
            case "settled late":
                finished = world.attempt(claim, episode)
                self._in(late_ms, lambda: self._settle_late(finished))
                return None
            case "sent late":
                self._in(late_ms, lambda restores=world.restores: self._send_late(claim, episode, restores))  # type: ignore[misc]
                world.lose(claim, "its holder hangs before it is sent")
                return None
            case "settled twice":
                finished = world.attempt(claim, episode)
                self._in(1_000, lambda: self._settle_late(finished))
                return finished
            case "released":
                return world.give_back(claim)
            case _:
                return world.attempt(claim, episode)

    def _settle_late(self, finished: Finished) -> None:
        self.world.settle([finished])

    def _send_late(self, claim: Claim, episode: Episode, restores: int) -> None:
        if restores == self.world.restores:  # no worker outlives a restore: the runbook stops them first
            self._settle_late(self.world.attempt(claim, episode))

    def _episode(self, progress: _Progress) -> Episode:
        spec, number = progress.spec, progress.claims
        progress.claims += 1
        if spec.poison:
            return Episode(spec.poison, commit=False)
        if outage := self._outages.get(spec.tenant):
            return Episode(outage, commit=False)
        return spec.episodes[number] if number < len(spec.episodes) else Episode()

    # What happens -------------------------------------------------------------------------------------

    def _arrive(self, spec: LifeSpec) -> None:
        world = self.world
        life = world.life_of(spec.tenant, spec.sale, foreign=bool(spec.foreign))
        life.plain = not (spec.episodes or spec.acts or spec.shop or spec.foreign or spec.poison or spec.wait_ms)
        self._progress[life.id] = _Progress(spec, life)
        if spec.foreign == "pixel":
            world.sold_elsewhere(spec.tenant, {**spec.sale, "amount": {"value": "7"}, "currency": {"code": "EUR"}})
        due_ms = world.store.now_ms + spec.wait_ms if spec.wait_ms else 0
        self._arrivals.append((life, dict(spec.sale), due_ms))
        for after_ms, what in spec.shop:
            self._in(after_ms, lambda what=what: self._shop(life, spec, what))  # type: ignore[misc]

    def _shop(self, life: Life, spec: LifeSpec, what: str) -> None:
        match what:
            case "repeat":
                self._arrivals.append((life, dict(spec.sale), 0))
            case "conflict":
                self._arrivals.append((life, {**spec.sale, "customerId": "another"}, 0))
            case _:
                self.world.cancel(life)

    def _happen(self, happening: Happening) -> None:
        world = self.world
        what, whom = happening.what, happening.whom
        self.report.happenings[what] += 1
        match what.partition(":")[0]:
            case "worker dies":
                self._dead_workers.add(int(whom))
            case "outage":
                self._outages[whom] = what.partition(":")[2]
                self._in(happening.lasts_ms, lambda: self._end_outage(whom))
            case "pause":
                self._paused.add(whom)
                world.pause(whom)
                self._in(happening.lasts_ms, lambda: self._resume(whom))
            case "store ahead":
                world.jump_store(happening.by_ms)
                self._in(happening.lasts_ms, lambda: world.jump_store(0))
            case "worker ahead":
                self._set_worker_ahead(int(whom), happening.by_ms)
                self._in(happening.lasts_ms, lambda: self._set_worker_ahead(int(whom), 0))
            case "prune":
                world.prune()
            case "back up":
                self._check()
                world.back_up()
            case "restore":
                self._restore()

    def _resume(self, tenant: str) -> None:
        self._paused.discard(tenant)
        self.world.resume(tenant)

    def _end_outage(self, tenant: str) -> None:
        self._outages.pop(tenant, None)

    def _set_worker_ahead(self, worker: int, by_ms: int) -> None:
        self.world.worker_ahead_ms[worker] = by_ms

    def _restore(self) -> None:
        self._check()
        if not self.world.restore():
            return
        for tenant in self.world.tenants:  # the copy knows the pauses of its time, not those of now
            (self.world.pause if tenant in self._paused else self.world.resume)(tenant)
        for progress in self._progress.values():
            progress.act_waits = False
            if not progress.life.stored:  # the shop sends again what it has no receipt of that lasted
                self._arrivals.append((progress.life, dict(progress.spec.sale), 0))

    def _act(self, progress: _Progress, act: Act) -> None:
        progress.act_waits = False
        match act.what:
            case "redrive":
                self._redrives.append(progress.life)
            case "discard":
                self._discards.append(progress.life)
            case _:
                self.world.edit(progress.life, dict(act.changes))

    # Judging ------------------------------------------------------------------------------------------

    def _check(self) -> dict[str, JobRecord | None]:
        self.report.checks += 1
        records = self.world.check()
        for identity, record in records.items():
            if record is not None and record.state is State.DEAD:
                self._mourn(self._progress[identity])
        return records

    def _mourn(self, progress: _Progress) -> None:
        """Have an operator do what the script says of this death."""
        acts = progress.spec.acts
        if progress.act_waits or progress.deaths >= len(acts):
            return
        act = acts[progress.deaths]
        progress.deaths += 1
        progress.act_waits = True
        self._in(act.after_ms, lambda: self._act(progress, act))

    def _go_on(self) -> bool:
        """Move to the next thing that is due; False when nothing more will happen."""
        world = self.world
        due = [self._agenda[0][0]] if self._agenda else []
        keys = world.keys
        with world.client.pipeline(transaction=False) as pipeline:
            for key in (keys.scheduled, keys.in_flight, keys.turn):
                pipeline.zrange(key, 0, 0, withscores=True)
            scheduled, in_flight, turn = pipeline.execute()
        due += [int(head[0][1]) - world.store_ahead_ms for head in (scheduled, in_flight) if head]
        due += [int(head[1]) // 1000 + 1 - world.store_ahead_ms for head in turn]
        if not due:
            return False
        world.move_to(max(world.now_ms + self._step_ms(), min(due)))
        if world.now_ms > min(self._end_ms, self._moved_ms + STILL_MS):
            self._expect_rest(f"at {(world.now_ms - START_MS) / HOUR_MS:.1f} h")
            return False
        return True

    def _expect_rest(self, when: str) -> None:
        """Fail if a job is neither over nor a dead letter."""
        lives = self.world.judge.open
        for identity, record in self.world.records(list(lives.values())).items():
            if record is not None and record.state is not State.DEAD:
                raise Violation("does not move", lives[identity], f"{when} it is {record}")

    def _close(self) -> None:
        world = self.world
        records = self._check()
        self._expect_rest("with nothing due")
        world.check_store()
        report, totals = self.report, world.totals
        report.requests, report.rows, report.claims = world.sender.requests, len(world.ledger), totals.claims
        report.longest_wait_ms = totals.longest_wait_ms
        report.virtual_ms = world.now_ms - START_MS
        report.settled.update(totals.settled)
        report.episodes.update(totals.episodes)
        report.acts.update(totals.acts)
        report.excused.update(world.judge.excused)
        report.states.update(dead=sum(1 for record in records.values() if record is not None))


def without(spec: WorldSpec, *, lives: set[int] | None = None, happenings: set[int] | None = None) -> WorldSpec:
    """Return the spec with only these lives and happenings, by their places."""
    return replace(
        spec,
        lives=spec.lives if lives is None else tuple(life for i, life in enumerate(spec.lives) if i in lives),
        happenings=spec.happenings
        if happenings is None
        else tuple(one for i, one in enumerate(spec.happenings) if i in happenings),
    )
