"""Acting on dead letters: a plan that can be shown first, a frozen list, and a verdict for each job of it."""

import json
import math
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import redis
from redis.exceptions import RedisError

from trackdesk_producer.contract.job import NO_CURRENCY, State, external_id_of, tenant_of
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import run
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.ops.operations_log import Act, Operator, now_ms, record
from trackdesk_worker.store.finding import read_sales, walk
from trackdesk_worker.store.jobs import Jobs
from trackdesk_worker.store.ledger import Money, add_money
from trackdesk_worker.store.search import Sale, Search

BATCH = 200
"""Jobs per script call: a few ms of the store's time."""
NAMED_IDS = 100
"""Ids a record of the operators' log names; more are described by the filter."""

DONE = {Act.REDRIVE: "redriven", Act.DISCARD: "discarded"}
"""The verdict that means the job moved."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs an act is meant for, listed once and for all: what dies later is not in it."""

    ids: tuple[str, ...]
    """Every job named or matched, also one that is no dead letter: its verdict will say so."""
    found: int
    """How many of them are dead letters now."""
    money: Money
    by_reason: Mapping[str, int]
    by_tenant: Mapping[str, int]
    described: str
    """The filter in words."""

    @property
    def jobs(self) -> int:
        """Number of jobs listed."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of each job: the numbers add up to the jobs tried."""

    act: Act
    operation: str
    """Id under which the operators' log holds the act."""
    counts: Mapping[str, int]
    """Verdict → jobs: ``redriven`` or ``discarded``, ``unknown``, ``refused:<state>``."""
    others: Mapping[str, str]
    """Job id → verdict of the first jobs that did not move."""
    money: Money
    """Of the jobs that moved."""

    @property
    def done(self) -> int:
        """Jobs that moved."""
        return self.counts.get(DONE[self.act], 0)

    @property
    def tried(self) -> int:
        """Jobs with a verdict."""
        return sum(self.counts.values())


class ActInterrupted(OpsError):
    """The store went away between two batches. What has a verdict is done; repeating the act is safe."""

    def __init__(self, verdicts: Verdicts, planned: int) -> None:
        super().__init__(f"the store went away after {verdicts.tried} of {planned} jobs")
        self.verdicts = verdicts


def plan_matching(client: redis.Redis, keys: Keys, wanted: Search, *, limit: int | None = None) -> Plan:
    """List the dead letters of a filter, the oldest first."""
    return _plan(_limited(walk(client, keys, wanted), limit), None, str(wanted))


def plan_named(client: redis.Redis, keys: Keys, ids: Sequence[str]) -> Plan:
    """List jobs by id; a job named twice counts once."""
    unique = tuple(dict.fromkeys(ids))
    return _plan(_dead(client, keys, unique), unique, "named")


def seconds_at_budget(client: redis.Redis, keys: Keys, plan: Plan, *, rate_limit: float) -> float:
    """Return how long the plan's requests take at the tenants' budgets, if nothing else is sent; 0 is no limit."""
    longest = 0.0
    for tenant, jobs in plan.by_tenant.items():
        own_us = client.hget(keys.tenant(tenant), "rate_us")
        rate = rate_limit if own_us is None else (1_000_000 / int(own_us) if int(own_us) else 0)
        longest = max(longest, jobs / rate if rate else 0)
    return math.ceil(longest * 10) / 10


def redrive(
    client: redis.Redis,
    keys: Keys,
    plan: Plan,
    operator: Operator,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdicts:
    """Give the plan's jobs a fresh attempt budget; only those that are still dead, each decided by itself.

    Two operators at once redrive each job once. On record: the act before it starts, its verdicts after, and an
    entry in each job's history.

    Raises:
        ActInterrupted: the store went away in the middle.
    """
    jobs = Jobs(keys)
    operation = _new_operation()

    def move(batch: Sequence[str]) -> list[str]:
        entry = {"kind": "redrive", "at_ms": now_ms(client), "operator": operator.name, "reason": operator.reason}
        text = json.dumps({**entry, "operation": operation}, ensure_ascii=False, separators=(",", ":"))
        return run(client, jobs.redrive(batch, entry=text))

    return _act(client, keys, plan, operator, Act.REDRIVE, operation, move, progress)


def discard(
    client: redis.Redis,
    keys: Keys,
    plan: Plan,
    operator: Operator,
    *,
    dedupe_window_s: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Verdicts:
    """Give the plan's jobs up for good; only those that are still dead. They stay known for the dedupe window.

    Raises:
        ActInterrupted: the store went away in the middle.
    """
    jobs = Jobs(keys)

    def move(batch: Sequence[str]) -> list[str]:
        return run(client, jobs.discard(batch, dedupe_window_ms=dedupe_window_s * 1000))

    return _act(client, keys, plan, operator, Act.DISCARD, _new_operation(), move, progress)


class _Sum:
    """Money added up letter by letter, exactly (`add_money` does the adding)."""

    def __init__(self) -> None:
        self._sums: dict[str, Decimal] = {}
        self._waiting: list[dict[str, Decimal]] = []

    def add(self, letter: Sale) -> None:
        if letter.amount is not None:
            self._waiting.append({letter.currency or NO_CURRENCY: letter.amount})
        if len(self._waiting) >= BATCH:
            self.total()

    def total(self) -> Money:
        self._sums = add_money([self._sums, *self._waiting])
        self._waiting.clear()
        return self._sums


def _plan(letters: Iterable[Sale], ids: tuple[str, ...] | None, described: str) -> Plan:
    listed: list[str] = []
    reasons: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    money = _Sum()
    for letter in letters:
        listed.append(letter.id)
        reasons[letter.reason] += 1
        tenants[letter.record.tenant] += 1
        money.add(letter)
    return Plan(
        ids=tuple(listed) if ids is None else ids,
        found=len(listed),
        money=money.total(),
        by_reason=dict(reasons.most_common()),
        by_tenant=dict(tenants.most_common()),
        described=described,
    )


def _limited(letters: Iterator[Sale], limit: int | None) -> Iterator[Sale]:
    for number, letter in enumerate(letters):
        if limit is not None and number >= limit:
            return
        yield letter


def _dead(client: redis.Redis, keys: Keys, ids: Iterable[str]) -> Iterator[Sale]:
    return (sale for sale in read_sales(client, keys, ids) if sale.record.state is State.DEAD)


def _new_operation() -> str:
    return f"op-{secrets.token_hex(6)}"


def _act(
    client: redis.Redis,
    keys: Keys,
    plan: Plan,
    operator: Operator,
    act: Act,
    operation: str,
    move: Callable[[Sequence[str]], list[str]],
    progress: Callable[[int], None],
) -> Verdicts:
    counts: Counter[str] = Counter()
    others: dict[str, str] = {}
    money = _Sum()
    named = [{"tenant": tenant_of(i), "external_id": external_id_of(i)} for i in plan.ids[:NAMED_IDS]]
    about: dict[str, Any] = {"operation": operation, "filter": plan.described}
    record(
        client, keys, act, operator, count=plan.jobs, money=plan.money, phase="started", **about,
        jobs=named if plan.jobs <= NAMED_IDS else None,
    )  # fmt: skip
    for start in range(0, plan.jobs, BATCH):
        batch = plan.ids[start : start + BATCH]
        try:
            # Read before the move, which may shrink the record to a tombstone.
            letters = {letter.id: letter for letter in _dead(client, keys, batch)}
            verdicts = move(batch)
        except RedisError as error:
            raise ActInterrupted(Verdicts(act, operation, counts, others, money.total()), plan.jobs) from error
        for identity, verdict in zip(batch, verdicts, strict=True):
            counts[verdict] += 1
            if verdict != DONE[act]:
                if len(others) < NAMED_IDS:
                    others[identity] = verdict
            elif identity in letters:
                money.add(letters[identity])
        progress(len(batch))
    moved = money.total()
    record(
        client,
        keys,
        act,
        operator,
        count=counts[DONE[act]],
        money=moved,
        phase="finished",
        verdicts=dict(counts),
        **about,
    )
    return Verdicts(act, operation, dict(counts), others, moved)
