"""Reads plans: one, the newest, and the jobs of one with their verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trackdesk_producer.contract.record import JobRecord, State, external_id_of, tenant_of
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit_log import Act
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.store import plans as stored
from trackdesk_worker.store.dead_letters.index_query import read_hits
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import Book, Money
from trackdesk_worker.store.plans import PlanFields

DONE = {Act.REDRIVE: "redriven", Act.DISCARD: "discarded"}
"""The verdict of a job that was redriven or discarded."""
ENDED = ("finished", "cancelled", "failed")


class PlanInvalid(OpsError):
    """A plan that cannot be created, or an action that its state does not allow; the message says what to do."""


class PlanUnknown(OpsError):
    """There is no such plan, or it was pruned long after its end."""


class PlanUnreadable(OpsError):
    """What is stored under the plan's keys is not a plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan. Times are Unix milliseconds."""

    id: str
    name: str
    act: Act
    state: str
    """``listing``, ``ready``, ``running``, ``paused``, ``finished``, ``cancelled`` or ``failed``."""
    problem: str | None
    """Why the plan failed, or was paused by the system; None if nothing stopped it."""
    operator: str
    reason: str
    filter: str
    """The filter in words."""
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
        """Jobs that were redriven or discarded."""
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
        """Whether it has ended."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Item:
    """One job of a plan."""

    job_id: str
    tenant: str
    external_id: str
    verdict: str
    """``pending`` while there is none."""
    at_ms: int
    """When it got its verdict; of a pending one, when it died."""
    state_now: State | None
    """None if the sale was pruned."""


@dataclass(frozen=True, slots=True)
class Items:
    """One page of a plan's jobs, and the cursor of the next."""

    items: tuple[Item, ...]
    cursor: str | None


def read(store: JobStore, plan_id: str) -> Plan:
    """Return a plan.

    Raises:
        PlanUnknown: if there is none.
        PlanUnreadable: if what is stored is not a plan.
    """
    (found,) = stored.read_fields(store, [plan_id])
    if found is not None and not found[0]:
        raise PlanUnknown(f"there is no plan {plan_id!r}; `trackdesk plan list` shows those that are known")
    plan = _plan(plan_id, found)
    if plan is None:
        raise PlanUnreadable(
            f"plan {plan_id} cannot be read: something other than the workers changed {store.keys.plan(plan_id)} or "
            f"{store.keys.plan_sums(plan_id)}. Run `trackdesk audit`, then make a new plan for what is still dead"
        )
    return plan


def recent(store: JobStore, *, limit: int = 50, after: str | None = None) -> list[Plan]:
    """Return plans, the newest first, behind the plan `after`; those that cannot be read are left out."""
    raw: Any
    if after is None:
        raw = store.client.zrevrange(store.keys.plans, 0, limit - 1)
    else:
        place: Any = store.client.zrevrank(store.keys.plans, after)
        raw = [] if place is None else store.client.zrevrange(store.keys.plans, int(place) + 1, int(place) + limit)
    ids = [text(plan_id) for plan_id in raw]
    found = zip(ids, stored.read_fields(store, ids), strict=True)
    made = (_plan(plan_id, one) for plan_id, one in found)
    return [plan for plan in made if plan is not None]


def items(
    store: JobStore,
    plan_id: str,
    *,
    verdict: str | None = None,
    limit: int = 100,
    after: str | None = None,
) -> Items:
    """Return jobs of a plan with their verdicts and current states: refused and skipped ones first, pending ones last.

    Args:
        verdict: only ``redriven``/``discarded``, ``skipped``, ``refused`` or ``pending`` (of an ended plan:
            ``cancelled``).

    Raises:
        PlanInvalid: if `verdict` or `after` is not valid.
        PlanUnknown: if there is no such plan.
    """
    plan = read(store, plan_id)
    waiting = "cancelled" if plan.ended else "pending"
    parts = {"refused": ["refused"], "skipped": ["skipped"], DONE[plan.act]: ["done"], waiting: []}
    raw: Any = store.client.smembers(store.keys.plan_tenants(plan_id))
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
        entries = _slice(store, store.keys.plan_items(plan_id, name), name, first, limit - len(found) + 1)
        for offset, entry in enumerate(entries):
            if len(found) == limit:
                cursor = f"{first + offset}:{name}"
                break
            found.append((name, text(entry)))
        if cursor is not None:
            break
    return Items(tuple(_items(store, found, waiting)), cursor)


def _plan(plan_id: str, found: tuple[PlanFields, Book] | None) -> Plan | None:
    """Return the plan, None if there is none or it cannot be read."""
    if found is None:
        return None
    try:
        return _parse_plan(plan_id, *found)
    except (LookupError, ValueError):
        return None


def _parse_plan(plan_id: str, fields: PlanFields, sums: Book) -> Plan:
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
        problem=fields.get("problem"),
        operator=fields["operator"],
        reason=fields["reason"],
        filter=fields["filter"],
        created_ms=int(fields["created_ms"]),
        started_ms=moment("started_ms"),
        ended_ms=moment("ended_ms"),
        listed=sums.jobs["listed"],
        verdicts=stored.verdicts_of(sums),
        money_listed=sums.money.get("listed", {}),
        money_done=sums.money.get("done", {}),
        by_reason=by("reason"),
        by_tenant=by("tenant"),
    )


def _slice(store: JobStore, key: str, part: str, first: int, most: int) -> list[bytes]:
    """Return entries from `first` on. Verdicts are only appended; pending jobs are removed from the front, so they are
    counted and listed from the end."""
    raw: Any
    if part.startswith("pending:"):
        raw = store.client.lrange(key, -first - most, -first - 1)
        return list(reversed(raw))
    raw = store.client.lrange(key, first, first + most - 1)
    return list(raw)


def _parse_cursor(cursor: str) -> tuple[str, int]:
    place, _, part = cursor.partition(":")
    if not (place.isascii() and place.isdigit() and len(place) < 10 and part):
        raise PlanInvalid("the cursor is not from a page of this plan's jobs")
    return part, int(place)


def _items(store: JobStore, found: list[tuple[str, str]], waiting: str) -> list[Item]:
    read_so_far = []
    for part, entry in found:
        at_ms, _, rest = entry.partition(" ")
        verdict, identity = (waiting, rest) if part.startswith("pending:") else tuple(rest.split(" ", 1))
        read_so_far.append((identity, verdict, int(at_ms)))
    now: dict[str, JobRecord] = {
        hit.id: hit.record for hit in read_hits(store, [identity for identity, _, _ in read_so_far])
    }
    return [
        Item(
            identity, tenant_of(identity), external_id_of(identity), verdict, at_ms,
            now[identity].state if identity in now else None,
        )
        for identity, verdict, at_ms in read_so_far
    ]  # fmt: skip
