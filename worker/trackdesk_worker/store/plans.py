"""Plans over dead letters: a list frozen once, and a verdict for each job of it.

A plan goes ``listing`` → ``ready`` → ``running`` ⇄ ``paused`` → ``finished``, or ends ``cancelled``; one whose list
cannot be made ends ``failed``, and keeps the reason. Every worker's maintenance drives plans (`drive`), and so does a
command that waits for one. Each step is one script that compares before it changes, so drivers may run side by side,
and one that dies loses nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as fields_of
from decimal import Decimal
from typing import Any

from trackdesk_producer.contract.record import State
from trackdesk_producer.contract.scripts import Argument, ScriptCall, clock, text
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.store.audit_log import record_waiting
from trackdesk_worker.store.dead_letters.index_query import find
from trackdesk_worker.store.dead_letters.query import Search, SearchUnclear
from trackdesk_worker.store.errors import says, store_away
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.jobs import script
from trackdesk_worker.store.ledger import Book, parse_book

LISTED_AT_ONCE = 500
DECIDED_AT_ONCE = 200
"""Jobs a step: a few ms of the store's time."""
LISTED_WITHIN_S = 0.1
"""Time a step may read for. What matches may be rare: the next step goes on behind what this one read."""
LOOKED_UP_WITHIN_S = 5.0
"""Time to look up one externalId, click or customer, which is one step whatever it finds."""
OPEN_AT_MOST = 50
"""Plans that have not ended."""
PROBLEM_MAX = 300
"""Characters of the reason that a stopped plan keeps."""
KEPT_MS = 90 * 86_400_000
"""How long an ended plan can be looked at."""
WAITING_MS = 7 * 86_400_000
"""How long a plan waits to be started before it is given up."""


class PlanFields(dict[str, str]):
    """What is stored of a plan."""

    @property
    def state(self) -> str:
        """Where it is in its life; empty if there is none."""
        return self.get("state", "")


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did."""

    moved: int
    """Jobs listed or decided."""
    state: str
    """The plan's, behind the step; ``unknown`` if there is none."""
    left: int = 0
    """Jobs without a verdict."""
    problem: str | None = None
    """Why this step stopped the plan."""


@dataclass(slots=True)
class Driven:
    """What driving all plans did."""

    moved: int = 0
    """Jobs listed or decided."""
    problems: dict[str, str] = field(default_factory=dict)
    """Plans that were stopped → why."""
    last: str = ""
    """The plan driven last; the next call begins behind it."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one step of pruning did."""

    forgotten: int
    given_up: int
    skip: int | None = None
    """Old plans that the next step passes over; None if all were looked at."""


class _NewerPlan(Exception):
    """A plan whose search a newer release wrote: only that one can list it."""


def create(
    store: JobStore,
    plan_id: str,
    fields: Mapping[str, str],
    ids: Sequence[str],
    *,
    entry: str,
    now_ms: int | None = None,
) -> bool:
    """Open a plan; False if too many are open. `ids` are those of a plan whose jobs are named one by one."""
    words: list[Argument] = [word for pair in fields.items() for word in pair]
    arguments = (clock(now_ms), plan_id, OPEN_AT_MOST, entry, len(words), *words, *ids)
    return store.run(ScriptCall(script("plan_create"), store.keys.prefix, arguments, text)) == "ok"


def transition(
    store: JobStore,
    plan_id: str,
    action: str,
    *,
    entry: str,
    confirmed: int | None = None,
    note: str = "",
    now_ms: int | None = None,
) -> str:
    """Start, pause, resume or cancel a plan; return ``ok``, ``unknown``, ``refused:<state>`` or ``count:<jobs>``."""
    count = "" if confirmed is None else confirmed
    arguments = (clock(now_ms), plan_id, action, count, note, entry)
    return store.run(ScriptCall(script("plan_transition"), store.keys.prefix, arguments, text))


def step(store: JobStore, plan_id: str, *, rate_us: int, now_ms: int | None = None) -> Stepped:
    """List or decide some more jobs. A plan that cannot go on is stopped, with the reason, and holds up no other.

    Args:
        rate_us: time between two requests of tenants without a pace of their own; 0 is no limit.
    """
    state: str | None = None
    try:
        state, *listing = (None if raw is None else text(raw) for raw in store.client.hmget(
            store.keys.plan(plan_id), ["state", "cursor", "search", "limit", "created_ms"]
        ))  # fmt: skip
        if state == "listing":
            return _list(store, plan_id, listing, now_ms)
        if state != "running":
            return Stepped(0, state or "unknown")
        arguments = (clock(now_ms), envelope(store.keys.wakeups), plan_id, rate_us, DECIDED_AT_ONCE)
        return store.run(ScriptCall(script("plan_step"), store.keys.prefix, arguments, _read_step))
    except _NewerPlan:
        return Stepped(0, "listing")  # a newer worker lists it; if none comes, it is given up in time
    except Exception as error:
        if store_away(error):
            raise
        problem = f"{type(error).__name__}: {str(error)[:PROBLEM_MAX]}"
        return Stepped(0, _stop(store, plan_id, state or "", problem, now_ms) or "unknown", 0, problem)


def drive(
    store: JobStore,
    *,
    rate_us: int,
    over: Callable[[], bool] = lambda: False,
    behind: str = "",
    now_ms: int | None = None,
) -> Driven:
    """Drive every plan that can go on until none can, or until time is `over`.

    Args:
        behind: the plan driven last in the call before, so that a slow one keeps no other waiting.
    """
    driven = Driven(last=behind)
    raw: Any = store.client.zrange(store.keys.plans_open, 0, -1)
    plan_ids = [text(plan_id) for plan_id in raw]
    turn = plan_ids.index(behind) + 1 if behind in plan_ids else 0
    going = plan_ids[turn:] + plan_ids[:turn]
    while going:
        still = []
        for plan_id in going:
            did = step(store, plan_id, rate_us=rate_us, now_ms=now_ms)
            driven.moved += did.moved
            driven.last = plan_id
            if did.problem is not None:
                driven.problems[plan_id] = did.problem
            if did.moved and did.state in ("listing", "running"):
                still.append(plan_id)
            if over():
                return driven
        going = still
    return driven


def record_acts(store: JobStore) -> int:
    """Put what plans did on the audit log; return how many acts could not be read and were set aside."""
    return record_waiting(store, lambda waiting: _entry(store, waiting))


def prune(store: JobStore, most: int = 20, *, skip: int = 0, now_ms: int | None = None) -> Forgotten:
    """Forget plans that ended long ago, give up those that nobody started.

    Args:
        most: old plans to look at in this step.
        skip: old plans that the steps before looked at and left.
    """
    arguments = (clock(now_ms), KEPT_MS, WAITING_MS, most, skip)

    def read(reply: list[Any]) -> Forgotten:
        forgotten, given_up, behind = map(int, reply)
        return Forgotten(forgotten, given_up, None if behind < 0 else behind)

    return store.run(ScriptCall(script("plan_prune"), store.keys.prefix, arguments, read))


def read_fields(store: JobStore, plan_ids: Sequence[str]) -> list[tuple[PlanFields, Book] | None]:
    """Return what is stored of plans, and their sums, each plan at one moment; None for what is stored but no plan."""
    keys = store.keys
    replies = store.transaction(
        [("HGETALL", key) for plan_id in plan_ids for key in (keys.plan(plan_id), keys.plan_sums(plan_id))],
        raise_on_error=False,
    )
    return [_parse_plan(fields, sums) for fields, sums in zip(replies[::2], replies[1::2], strict=True)]


def dump_search(wanted: Search) -> str:
    """Return a search as a plan keeps it while it lists."""
    kept = {name: value for name, value in asdict(wanted).items() if value is not None}
    return json.dumps(kept, default=str, ensure_ascii=False)


def verdicts_of(sums: Book) -> dict[str, int]:
    """Return verdict → jobs."""
    counts = {name.removeprefix("verdict/"): n for name, n in sums.jobs.items() if name.startswith("verdict/")}
    return {verdict.replace("/", ":"): n for verdict, n in sorted(counts.items())}


def _parse_plan(fields: Any, sums: Any) -> tuple[PlanFields, Book] | None:
    for reply in (fields, sums):
        if isinstance(reply, Exception) and not says(reply, "WRONGTYPE"):
            raise reply
    try:
        return PlanFields({text(name): text(value) for name, value in fields.items()}), parse_book(sums)
    except (AttributeError, ValueError, LookupError):
        return None


def _load_search(stored: str) -> Search:
    wanted = json.loads(stored)
    if unknown := wanted.keys() - {known.name for known in fields_of(Search)}:
        raise _NewerPlan(", ".join(sorted(unknown)))
    for name in ("min_amount", "max_amount"):
        if name in wanted:
            wanted[name] = Decimal(wanted[name])
    return Search(**{**wanted, "state": State.DEAD, "order": "oldest"})


def _read_step(reply: list[Any]) -> Stepped:
    return Stepped(int(reply[0]), text(reply[1]), int(reply[2]))


def _stop(store: JobStore, plan_id: str, state: str, problem: str, now_ms: int | None) -> str:
    arguments = (clock(now_ms), plan_id, state, problem)
    return store.run(ScriptCall(script("plan_stop"), store.keys.prefix, arguments, text))


def _list(store: JobStore, plan_id: str, listing: list[str | None], now_ms: int | None) -> Stepped:
    """Freeze the next jobs. What died after the plan was made is not in it."""
    cursor, stored, limit, created_ms = listing
    left = None if not limit else int(limit) - _listed(store, plan_id)
    most = LISTED_AT_ONCE if left is None else max(0, min(LISTED_AT_ONCE, left))
    items: list[Argument] = []
    if stored is None:
        place = int(cursor or 0)
        named: Any = store.client.lrange(store.keys.plan_items(plan_id, "named"), place, place + most - 1)
        for raw in named:
            items += (raw, "")
        behind, last = str(place + len(named)), len(named) < most
    elif most == 0:
        behind, last = cursor or "", True
    else:
        wanted = _load_search(stored)
        made_ms = int(created_ms or 0)
        until_ms = made_ms if wanted.until_ms is None else min(made_ms, wanted.until_ms)
        hits = find(
            store, replace(wanted, until_ms=until_ms), limit=most, after=cursor or None,
            within_s=LOOKED_UP_WITHIN_S if wanted.by_person else LISTED_WITHIN_S,
        )  # fmt: skip
        if not hits.complete and hits.cursor is None:
            raise SearchUnclear(
                f"the search could not be completed within {LOOKED_UP_WITHIN_S:g} s, because of the number of tenants "
                "and conversion types: name a tenant"
            )
        for sale in hits.hits:
            items += (sale.id, sale.record.at)
        last = hits.cursor is None or (left is not None and len(hits.hits) >= left)
        behind = hits.cursor or "end"
    arguments = (clock(now_ms), plan_id, cursor or "", behind, int(last), *items)
    moved = store.run(ScriptCall(script("plan_list"), store.keys.prefix, arguments, int))
    return Stepped(len(items) // 2 + 1, "listing" if moved < 0 or not last else "ready")


def _listed(store: JobStore, plan_id: str) -> int:
    return int(store.client.hget(store.keys.plan_sums(plan_id), "listed") or 0)


def _entry(store: JobStore, waiting: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry of an act that waits: it is complete, or reports a plan's end."""
    if "plan_ended" not in waiting:
        return waiting
    plan_id = str(waiting["plan_ended"])
    (found,) = read_fields(store, [plan_id])
    if found is None:
        raise ValueError(f"plan {plan_id} cannot be read")
    plan, sums = found
    if not plan:
        return None
    entry = {
        "kind": plan["act"],
        "at_ms": int(plan["ended_ms"]),
        "operator": plan["operator"],
        "reason": plan["reason"],
        "count": sums.jobs["verdict/redriven"] + sums.jobs["verdict/discarded"],
        "money": plain_money(sums.money.get("done", {})),
        "phase": {"finished": "finished", "failed": "failed"}.get(plan.state, "given_up"),
        "operation": plan_id,
        "name": plan["name"],
        "filter": plan["filter"],
        "verdicts": verdicts_of(sums),
    }
    return {**entry, "problem": plan["problem"]} if plan.get("problem") else entry
