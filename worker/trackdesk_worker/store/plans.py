"""Plans over dead letters: a list frozen once, and a verdict for each job of it.

A plan goes ``listing`` → ``ready`` → ``running`` ⇄ ``paused`` → ``finished``, or ends ``cancelled``. Anybody may drive
it (`drive`: every worker's maintenance does, and whoever waits for it): each step is one script that compares before
it changes, so that drivers side by side do no harm and one that dies loses nothing.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

import redis

from trackdesk_producer.contract.job import State
from trackdesk_producer.contract.keys import Keys
from trackdesk_producer.contract.runner import run
from trackdesk_producer.contract.scripts import Argument, Operation, clock, text
from trackdesk_producer.contract.wakeup import envelope
from trackdesk_worker.domain.money import plain_money
from trackdesk_worker.store.finding import find
from trackdesk_worker.store.jobs import script
from trackdesk_worker.store.ledger import Book, parse_book
from trackdesk_worker.store.operations import record_waiting
from trackdesk_worker.store.search import Search

LISTED_AT_ONCE = 500
DECIDED_AT_ONCE = 200
"""Jobs a step: a few ms of the store's time."""
OPEN_AT_MOST = 50
"""Plans that have not ended."""
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


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What pruning did."""

    forgotten: int
    given_up: int


def create(
    keys: Keys, plan_id: str, fields: Mapping[str, str], ids: Sequence[str], *, entry: str, now_ms: int | None = None
) -> Operation[bool]:
    """Open a plan; False if too many are open. `ids` are those of a plan whose jobs are named one by one."""
    words: list[Argument] = [word for pair in fields.items() for word in pair]
    arguments = (clock(now_ms), plan_id, OPEN_AT_MOST, entry, len(words), *words, *ids)
    return Operation(script("plan_create"), keys.prefix, arguments, lambda reply: text(reply) == "ok")


def turn(
    keys: Keys,
    plan_id: str,
    word: str,
    *,
    entry: str,
    confirmed: int | None = None,
    note: str = "",
    now_ms: int | None = None,
) -> Operation[str]:
    """Start, pause, resume or cancel; ``ok``, ``unknown``, ``refused:<state>`` or ``count:<jobs>``."""
    count = "" if confirmed is None else confirmed
    return Operation(script("plan_turn"), keys.prefix, (clock(now_ms), plan_id, word, count, note, entry), text)


def step(client: redis.Redis, keys: Keys, plan_id: str, *, rate_us: int, now_ms: int | None = None) -> Stepped:
    """List or decide some more jobs.

    Args:
        rate_us: time between two requests of tenants without a pace of their own; 0 is no limit.
    """
    state, *listing = (None if raw is None else text(raw) for raw in client.hmget(
        keys.plan(plan_id), ["state", "cursor", "search", "limit", "created_ms"]
    ))  # fmt: skip
    if state == "listing":
        return _list(client, keys, plan_id, listing, now_ms)
    if state != "running":
        return Stepped(0, state or "unknown")
    arguments = (clock(now_ms), envelope(keys.wakeups), plan_id, rate_us, DECIDED_AT_ONCE)
    return run(
        client,
        Operation(
            script("plan_step"), keys.prefix, arguments, lambda r: Stepped(int(r[0]), text(r[1]), int(r[2]))
        ),
    )  # fmt: skip


def drive(
    client: redis.Redis,
    keys: Keys,
    *,
    rate_us: int,
    within_s: float = 0.1,
    beat: Callable[[], None] = lambda: None,
    now_ms: int | None = None,
) -> int:
    """Drive every plan that can go on, for about `within_s`, and put on record what was done; return jobs moved."""
    moved, deadline = 0, time.monotonic() + within_s
    raw: Any = client.zrange(keys.plans_open, 0, -1)
    going = [text(plan_id) for plan_id in raw]
    while going and time.monotonic() < deadline:
        still = []
        for plan_id in going:
            beat()
            did = step(client, keys, plan_id, rate_us=rate_us, now_ms=now_ms)
            moved += did.moved
            if did.moved and did.state in ("listing", "running"):
                still.append(plan_id)
        going = still
    record_acts(client, keys)
    return moved


def record_acts(client: redis.Redis, keys: Keys) -> int:
    """Put what plans did on the operators' log; return how many entries."""
    return record_waiting(client, keys, lambda waiting: _entry(client, keys, waiting))


def prune(keys: Keys, most: int = 20, *, now_ms: int | None = None) -> Operation[Forgotten]:
    """Forget plans that ended long ago, give up those that nobody started."""
    arguments = (clock(now_ms), KEPT_MS, WAITING_MS, most)
    return Operation(script("plan_prune"), keys.prefix, arguments, lambda r: Forgotten(int(r[0]), int(r[1])))


def read_fields(client: redis.Redis, keys: Keys, plan_ids: Sequence[str]) -> list[tuple[PlanFields, Book]]:
    """Return what is stored of plans, and their sums, each plan at one moment."""
    with client.pipeline(transaction=True) as pipeline:
        for plan_id in plan_ids:
            pipeline.hgetall(keys.plan(plan_id))
            pipeline.hgetall(keys.plan_sums(plan_id))
        replies = pipeline.execute()
    return [
        (PlanFields({text(name): text(value) for name, value in fields.items()}), parse_book(sums))
        for fields, sums in zip(replies[::2], replies[1::2], strict=True)
    ]


def dump_search(wanted: Search) -> str:
    """Return a search as a plan keeps it while it lists."""
    fields = {name: value for name, value in asdict(wanted).items() if value is not None}
    return json.dumps(fields, default=str, ensure_ascii=False)


def verdicts_of(sums: Book) -> dict[str, int]:
    """Return verdict → jobs."""
    counts = {name.removeprefix("verdict/"): n for name, n in sums.jobs.items() if name.startswith("verdict/")}
    return {verdict.replace("/", ":"): n for verdict, n in sorted(counts.items())}


def _load_search(stored: str) -> Search:
    fields = json.loads(stored)
    for name in ("min_amount", "max_amount"):
        if name in fields:
            fields[name] = Decimal(fields[name])
    return Search(**{**fields, "state": State.DEAD, "order": "oldest"})


def _list(client: redis.Redis, keys: Keys, plan_id: str, listing: list[str | None], now_ms: int | None) -> Stepped:
    """Freeze the next jobs. What died after the plan was made is not in it."""
    cursor, stored, limit, created_ms = listing
    left = None if not limit else int(limit) - _listed(client, keys, plan_id)
    most = LISTED_AT_ONCE if left is None else max(0, min(LISTED_AT_ONCE, left))
    items: list[Argument] = []
    if stored is None:
        place = int(cursor or 0)
        named: Any = client.lrange(keys.plan_items(plan_id, "named"), place, place + most - 1)
        for raw in named:
            items += (raw, "")
        behind, last = str(place + len(named)), len(named) < most
    elif most == 0:
        behind, last = cursor or "", True
    else:
        wanted = _load_search(stored)
        made_ms = int(created_ms or 0)
        until_ms = made_ms if wanted.until_ms is None else min(made_ms, wanted.until_ms)
        hits = find(client, keys, replace(wanted, until_ms=until_ms), limit=most, after=cursor or None)
        for sale in hits.sales:
            items += (sale.id, sale.record.at)
        last = hits.cursor is None or (left is not None and len(hits.sales) >= left)
        behind = hits.cursor or "end"
    arguments = (clock(now_ms), plan_id, cursor or "", behind, int(last), *items)
    moved = run(client, Operation(script("plan_list"), keys.prefix, arguments, int))
    return Stepped(len(items) // 2 + 1, "listing" if moved < 0 or not last else "ready")


def _listed(client: redis.Redis, keys: Keys, plan_id: str) -> int:
    return int(client.hget(keys.plan_sums(plan_id), "listed") or 0)


def _entry(client: redis.Redis, keys: Keys, waiting: dict[str, Any]) -> dict[str, Any] | None:
    """Return the entry of an act that waits: it is complete, or tells of a plan's end."""
    if "plan_ended" not in waiting:
        return waiting
    ((fields, sums),) = read_fields(client, keys, [str(waiting["plan_ended"])])
    if not fields:
        return None
    return {
        "kind": fields["act"],
        "at_ms": int(fields["ended_ms"]),
        "operator": fields["operator"],
        "reason": fields["reason"],
        "count": sums.jobs["verdict/redriven"] + sums.jobs["verdict/discarded"],
        "money": plain_money(sums.money.get("done", {})),
        "phase": "finished" if fields.state == "finished" else "given_up",
        "operation": waiting["plan_ended"],
        "name": fields["name"],
        "filter": fields["filter"],
        "verdicts": verdicts_of(sums),
    }
