"""Acting on many dead letters, safely: a plan is made, looked at, started, watched, paused, resumed or cancelled.

The list is frozen before anything happens, every job gets a verdict, and the verdicts add up to the jobs listed. Plans
run in the workers' maintenance; who watches one (`follow`) drives it too, so that it goes on without a worker as well.
Each act is on the operators' log, linked by the plan's id.
"""

import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import redis

from trackdesk_producer.contract.job import JobRecord, State, external_id_of, tenant_of
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import run
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.desk.search import Search, money_of, summary
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.ops.operations_log import Act, Operator, entry_of
from trackdesk_worker.store import plans as store
from trackdesk_worker.store.finding import read_sales, walk
from trackdesk_worker.store.jobs import Limits, Shares
from trackdesk_worker.store.ledger import Book, Money, add_money
from trackdesk_worker.store.plans import PlanFields
from trackdesk_worker.store.search import Sale

DONE = {Act.REDRIVE: "redriven", Act.DISCARD: "discarded"}
"""The verdict that means the job moved."""
MAX_NAME = 120
MAX_NAMED = 10_000
"""Jobs a plan names one by one at most; more are meant by a filter."""
NAMED_ON_RECORD = 100
"""Of these, the operators' log names so many."""
FOLLOW_EVERY_S = 0.25
ENDED = ("finished", "cancelled")


class PlanInvalid(OpsError):
    """A plan that cannot be made, or a word it does not take in its state; the message says what to do."""


class PlanEmpty(PlanInvalid):
    """A filter that matches nothing: there is nothing to plan."""


class PlanUnknown(OpsError):
    """There is no such plan, or it ended so long ago that it was forgotten."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan as it stands. Times are Unix milliseconds."""

    id: str
    name: str
    act: Act
    state: str
    """``listing``, ``ready``, ``running``, ``paused``, ``finished`` or ``cancelled``."""
    operator: str
    reason: str
    filter: str
    """What is meant, in words."""
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    listed: int
    """Jobs on its list."""
    verdicts: Mapping[str, int]
    """``redriven`` or ``discarded``, ``skipped:<state>``, ``refused:<state>``, ``cancelled`` → jobs."""
    money_listed: Money
    money_done: Money
    by_reason: Mapping[str, int]
    by_tenant: Mapping[str, int]

    @property
    def done(self) -> int:
        """Jobs that moved."""
        return self.verdicts.get(DONE[self.act], 0)

    @property
    def decided(self) -> int:
        """Jobs with a verdict."""
        return sum(self.verdicts.values())

    @property
    def left(self) -> int:
        """Jobs without one."""
        return self.listed - self.decided

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan over a filter would mean now. Nothing is stored."""

    jobs: int
    money: Money
    by_reason: Mapping[str, int]
    by_tenant: Mapping[str, int]
    complete: bool
    """False if time ran out: at least so many."""
    seconds_at_budget: float
    """How long the requests take if nothing else is sent; 0 is no limit."""
    seconds_at_share: float
    """The same if live sales and retries use up their shares."""


@dataclass(frozen=True, slots=True)
class Item:
    """One job of a plan."""

    job_id: str
    tenant: str
    external_id: str
    verdict: str
    """``pending`` while there is none."""
    at_ms: int
    """When it was decided; of a pending one, when it died."""
    state_now: State | None
    """None if the sale is gone."""


@dataclass(frozen=True, slots=True)
class Items:
    """Some jobs of a plan, and where to go on."""

    items: tuple[Item, ...]
    cursor: str | None


def preview(
    client: redis.Redis,
    keys: Keys,
    wanted: Search,
    *,
    rate_limit: float,
    shares: Shares,
    within_s: float | None = None,
) -> Preview:
    """Return what a plan over `wanted` would mean. Without limits on time, amount or person it reads no letter."""
    found = summary(client, keys, wanted, within_s=within_s)
    seconds = seconds_at_budget(client, keys, found.by_tenant, rate_limit=rate_limit)
    whole = shares.live + shares.retry + shares.redrive
    at_share = math.ceil(seconds * whole / shares.redrive) if shares.redrive else 0.0
    return Preview(found.jobs, found.money, found.by_reason, found.by_tenant, found.complete, seconds, at_share)


def figures_of(
    client: redis.Redis, keys: Keys, wanted: Search, limit: int
) -> tuple[int, Money, Mapping[str, int], Mapping[str, int]]:
    """Return jobs, money, and jobs by reason and tenant of the oldest `limit` dead letters of a search."""
    return add_up(islice(walk(client, keys, replace(wanted, state=State.DEAD)), limit))


def add_up(sales: Iterable[Sale]) -> tuple[int, Money, Mapping[str, int], Mapping[str, int]]:
    """Return jobs, money, and jobs by reason and tenant."""
    reasons: Counter[str] = Counter()
    tenants: Counter[str] = Counter()
    money: Money = {}
    for sale in sales:
        reasons[sale.reason] += 1
        tenants[sale.record.tenant] += 1
        money = add_money([money, money_of(sale)])
    return tenants.total(), money, dict(reasons.most_common()), dict(tenants.most_common())


def seconds_at_budget(client: redis.Redis, keys: Keys, by_tenant: Mapping[str, int], *, rate_limit: float) -> float:
    """Return how long so many requests take at the tenants' budgets, if nothing else is sent; 0 is no limit."""
    with client.pipeline(transaction=False) as pipeline:
        for tenant in by_tenant:
            pipeline.hget(keys.tenant(tenant), "rate_us")
        paces = pipeline.execute()
    longest = 0.0
    for jobs, own_us in zip(by_tenant.values(), paces, strict=True):
        rate = rate_limit if own_us is None else (1_000_000 / int(own_us) if int(own_us) else 0)
        longest = max(longest, jobs / rate if rate else 0)
    return math.ceil(longest * 10) / 10


def create(
    client: redis.Redis,
    keys: Keys,
    wanted: Search | Sequence[str],
    *,
    act: Act,
    name: str,
    operator: Operator,
    expected: int | None = None,
    limit: int | None = None,
    dedupe_window_s: int = 0,
) -> Plan:
    """Make a plan over a filter of dead letters, or over jobs named by id, and begin its list.

    Args:
        name: after its incident, for people.
        expected: how many jobs a preview said; refused if it is another number now.
        limit: at most so many, the oldest first.
        dedupe_window_s: how long what is discarded stays known; needed to discard.

    Raises:
        PlanInvalid: with a sentence that says what to change; nothing was stored.
    """
    name = _checked_name(name)
    if act not in DONE or (act is Act.DISCARD and dedupe_window_s <= 0):
        raise PlanInvalid("a plan redrives, or discards with a dedupe window")
    ids = () if isinstance(wanted, Search) else tuple(dict.fromkeys(wanted))
    if len(ids) > MAX_NAMED:
        raise PlanInvalid(f"{len(ids):,} sales are too many to name one by one: use a filter")
    plan_id = f"plan-{secrets.token_hex(6)}"
    fields = {
        "act": act.value,
        "name": name,
        "operator": operator.name,
        "reason": operator.reason,
        "filter": "named",
        "window_ms": str(dedupe_window_s * 1000),
        "limit": "" if limit is None else str(limit),
    }
    count = len(ids)
    if isinstance(wanted, Search):
        found = summary(client, keys, wanted)  # refuses what is not about dead letters
        if found.complete and not found.jobs:
            raise PlanEmpty("no dead letter matches")
        count = found.jobs if limit is None else min(limit, found.jobs)
        if expected is not None and found.complete and count != expected:
            raise PlanInvalid(f"{count:,} dead letters match now, not {expected:,}: look at them again")
        wanted = replace(wanted, state=State.DEAD)
        fields |= {"filter": str(wanted), "search": store.dump_search(wanted)}
    about: dict[str, Any] = {"phase": "created", "operation": plan_id, "name": name, "filter": fields["filter"]}
    named = [{"tenant": tenant_of(i), "external_id": external_id_of(i)} for i in ids[:NAMED_ON_RECORD]]
    entry = entry_of(client, act, operator, count=count, **about, jobs=named or None)
    if not run(client, store.create(keys, plan_id, fields, ids, entry=json.dumps(entry, ensure_ascii=False))):
        raise PlanInvalid(
            f"{store.OPEN_AT_MOST} plans are open: start or cancel one of them, `trackdesk plan list` shows them"
        )
    store.step(client, keys, plan_id, rate_us=0)
    store.record_acts(client, keys)
    return read(client, keys, plan_id)


def finish_listing(
    client: redis.Redis, keys: Keys, plan_id: str, *, progress: Callable[[Plan], None] = lambda _: None
) -> Plan:
    """List to the end, beside the workers that do so too; return the plan with its frozen list."""
    while True:
        did = store.step(client, keys, plan_id, rate_us=0) if _state(client, keys, plan_id) == "listing" else None
        if did is None:
            return read(client, keys, plan_id)
        progress(read(client, keys, plan_id))


def act_on_one(
    client: redis.Redis, keys: Keys, job_id: str, *, act: Act, operator: Operator, dedupe_window_s: int = 0
) -> Plan:
    """Redrive or discard one job at once; its verdict is the plan's only one."""
    made = create(
        client, keys, [job_id], act=act, name=_one_named(job_id), operator=operator,
        dedupe_window_s=dedupe_window_s,
    )  # fmt: skip
    plan = finish_listing(client, keys, made.id)
    start(client, keys, plan.id, operator, confirm_count=plan.listed)
    return follow(client, keys, plan.id, rate_limit=0)


def start(
    client: redis.Redis, keys: Keys, plan_id: str, operator: Operator, *, confirm_count: int | None = None
) -> Plan:
    """Let a plan run. A discard needs the number of its jobs.

    Raises:
        PlanInvalid: if it is not ready, or the number is wrong.
        PlanUnknown: if there is none.
    """
    plan = read(client, keys, plan_id)
    if plan.act is Act.DISCARD and confirm_count is None:
        raise PlanInvalid(f"to discard, confirm the number of jobs: {plan.listed}")
    return _turn(client, keys, plan, "start", "started", operator, confirm_count)


def pause(client: redis.Redis, keys: Keys, plan_id: str, operator: Operator) -> Plan:
    """Let a running plan rest; what it moved already goes its way.

    Raises:
        PlanInvalid: if it does not run.
        PlanUnknown: if there is none.
    """
    return _turn(client, keys, read(client, keys, plan_id), "pause", "paused", operator)


def resume(client: redis.Redis, keys: Keys, plan_id: str, operator: Operator) -> Plan:
    """Let a paused plan go on.

    Raises:
        PlanInvalid: if it is not paused.
        PlanUnknown: if there is none.
    """
    return _turn(client, keys, read(client, keys, plan_id), "resume", "resumed", operator)


def cancel(client: redis.Redis, keys: Keys, plan_id: str, operator: Operator) -> Plan:
    """End a plan for good: jobs without a verdict stay dead letters, with the verdict ``cancelled``.

    Raises:
        PlanInvalid: if it has ended.
        PlanUnknown: if there is none.
    """
    return _turn(client, keys, read(client, keys, plan_id), "cancel", "cancelled", operator)


def read(client: redis.Redis, keys: Keys, plan_id: str) -> Plan:
    """Return a plan.

    Raises:
        PlanUnknown: if there is none.
    """
    ((fields, sums),) = store.read_fields(client, keys, [plan_id])
    if not fields:
        raise PlanUnknown(f"there is no plan {plan_id!r}; `trackdesk plan list` shows those that are known")
    return _plan(plan_id, fields, sums)


def recent(client: redis.Redis, keys: Keys, *, limit: int = 50, after: str | None = None) -> list[Plan]:
    """Return plans, the newest first, behind the plan `after`."""
    raw: Any
    if after is None:
        raw = client.zrevrange(keys.plans, 0, limit - 1)
    else:
        place: Any = client.zrevrank(keys.plans, after)
        raw = [] if place is None else client.zrevrange(keys.plans, int(place) + 1, int(place) + limit)
    ids = [text(plan_id) for plan_id in raw]
    found = zip(ids, store.read_fields(client, keys, ids), strict=True)
    return [_plan(plan_id, fields, sums) for plan_id, (fields, sums) in found if fields]


def items(
    client: redis.Redis,
    keys: Keys,
    plan_id: str,
    *,
    verdict: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Items:
    """Return jobs of a plan with their verdicts and where they are now: those left alone first, pending ones last.

    Args:
        verdict: only ``redriven``/``discarded``, ``skipped``, ``refused`` or ``pending`` (of an ended plan:
            ``cancelled``).

    Raises:
        PlanInvalid: if `verdict` or `after` is none.
        PlanUnknown: if there is no such plan.
    """
    plan = read(client, keys, plan_id)
    waiting = "cancelled" if plan.ended else "pending"
    parts = {"refused": ["refused"], "skipped": ["skipped"], DONE[plan.act]: ["done"], waiting: []}
    raw: Any = client.smembers(keys.plan_tenants(plan_id))
    parts[waiting] = [f"pending:{tenant}" for tenant in sorted(map(text, raw))]
    if verdict is not None and verdict not in parts:
        raise PlanInvalid(f"a job of this plan is {', '.join(parts)}; not {verdict!r}")
    wanted = [part for name, some in parts.items() if verdict in (None, name) for part in some]
    part, place = (wanted[0] if wanted else "", 0) if after is None else _parse_cursor(after)
    if part not in wanted:
        return Items((), None)
    found: list[tuple[str, str]] = []
    cursor = None
    for number, name in enumerate(wanted[wanted.index(part) :]):
        first = place if number == 0 else 0
        entries = _slice(client, keys.plan_items(plan_id, name), name, first, limit - len(found) + 1)
        for offset, entry in enumerate(entries):
            if len(found) == limit:
                cursor = f"{first + offset}:{name}"
                break
            found.append((name, text(entry)))
        if cursor is not None:
            break
    return Items(tuple(_items(client, keys, found, waiting)), cursor)


def follow(
    client: redis.Redis,
    keys: Keys,
    plan_id: str,
    *,
    rate_limit: float,
    progress: Callable[[Plan], None] = lambda _: None,
    every_s: float = FOLLOW_EVERY_S,
) -> Plan:
    """Watch a plan until it ends or is paused, and drive it meanwhile, beside the workers that do so too."""
    rate_us = Limits(rate_per_s=rate_limit).rate_us
    while True:
        moved = 0
        while (did := store.step(client, keys, plan_id, rate_us=rate_us)).moved and did.state == "running":
            moved += did.moved
            progress(read(client, keys, plan_id))
        store.record_acts(client, keys)
        plan = read(client, keys, plan_id)
        progress(plan)
        if plan.state != "running":
            return plan
        if not moved:
            time.sleep(every_s)


def _turn(
    client: redis.Redis, keys: Keys, plan: Plan, word: str, phase: str, operator: Operator, count: int | None = None
) -> Plan:
    entry = entry_of(
        client, plan.act, operator, count=plan.listed if word == "start" else plan.left, phase=phase,
        operation=plan.id, name=plan.name, filter=plan.filter,
        money=plan.money_listed if word == "start" else None,
    )  # fmt: skip
    note = json.dumps(
        {"kind": plan.act.value, "operator": operator.name, "reason": operator.reason, "operation": plan.id},
        ensure_ascii=False,
        separators=(",", ":"),
    )[:-1]
    told = json.dumps(entry, ensure_ascii=False)
    reply = run(client, store.turn(keys, plan.id, word, entry=told, confirmed=count, note=note))
    said, _, detail = reply.partition(":")
    if said == "unknown":
        raise PlanUnknown(f"there is no plan {plan.id!r} any more")
    if said == "refused":
        raise PlanInvalid(f"plan {plan.id} is {detail}: it cannot be {phase}")
    if said == "count":
        raise PlanInvalid(f"the plan has {detail} jobs, not {count}; nothing was changed")
    store.record_acts(client, keys)
    return read(client, keys, plan.id)


def _plan(plan_id: str, fields: PlanFields, sums: Book) -> Plan:
    def moment(name: str) -> int | None:
        return int(fields[name]) if fields.get(name) else None

    def by(kind: str) -> dict[str, int]:
        counts = {name.partition("/")[2]: n for name, n in sums.jobs.items() if name.startswith(f"{kind}/")}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    return Plan(
        id=plan_id,
        name=fields["name"],
        act=Act(fields["act"]),
        state=fields["state"],
        operator=fields["operator"],
        reason=fields["reason"],
        filter=fields["filter"],
        created_ms=int(fields["created_ms"]),
        started_ms=moment("started_ms"),
        ended_ms=moment("ended_ms"),
        listed=sums.jobs["listed"],
        verdicts=store.verdicts_of(sums),
        money_listed=sums.money.get("listed", {}),
        money_done=sums.money.get("done", {}),
        by_reason=by("reason"),
        by_tenant=by("tenant"),
    )


def _one_named(job_id: str) -> str:
    name = "".join(letter for letter in external_id_of(job_id) if letter.isprintable())
    return f"sale {name}"[:MAX_NAME]


def _checked_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise PlanInvalid(f"name the plan after its incident, in 1 to {MAX_NAME} printable characters")
    return name


def _state(client: redis.Redis, keys: Keys, plan_id: str) -> str:
    return text(client.hget(keys.plan(plan_id), "state") or "")


def _slice(client: redis.Redis, key: str, part: str, first: int, most: int) -> list[bytes]:
    """Return entries from `first` on. Verdicts are only added; pending jobs leave in front, so they are counted and
    listed from the end."""
    raw: Any
    if part.startswith("pending:"):
        raw = client.lrange(key, -first - most, -first - 1)
        return list(reversed(raw))
    raw = client.lrange(key, first, first + most - 1)
    return list(raw)


def _parse_cursor(cursor: str) -> tuple[str, int]:
    place, _, part = cursor.partition(":")
    if not (place.isascii() and place.isdigit() and len(place) < 10 and part):
        raise PlanInvalid("the cursor is not one that a page of this plan's jobs ended with")
    return part, int(place)


def _items(client: redis.Redis, keys: Keys, found: list[tuple[str, str]], waiting: str) -> list[Item]:
    read_so_far = []
    for part, entry in found:
        at_ms, _, rest = entry.partition(" ")
        verdict, identity = (waiting, rest) if part.startswith("pending:") else tuple(rest.split(" ", 1))
        read_so_far.append((identity, verdict, int(at_ms)))
    now: dict[str, JobRecord] = {
        sale.id: sale.record for sale in read_sales(client, keys, [identity for identity, _, _ in read_so_far])
    }
    return [
        Item(
            identity, tenant_of(identity), external_id_of(identity), verdict, at_ms,
            now[identity].state if identity in now else None,
        )
        for identity, verdict, at_ms in read_so_far
    ]  # fmt: skip
