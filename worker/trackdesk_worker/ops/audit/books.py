"""The books at one moment, compared with themselves, with the indexes, and with the sum of the records."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import redis

from trackdesk_producer.contract.job import JobClass, State
from trackdesk_producer.contract.keys import NAMES, Keys
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit.findings import Discrepancy, Findings, Kind
from trackdesk_worker.ops.audit.walk import Tally
from trackdesk_worker.store.ledger import ACCEPTED, HOLDING, Book, parse_book

_SINGLE = (State.SCHEDULED, State.IN_FLIGHT, State.DEAD)
"""States whose index holds the jobs of all tenants."""


@dataclass(frozen=True, slots=True)
class TenantSnapshot:
    """What stands beside one tenant's books."""

    ready: int
    has_turn: bool
    paused: bool
    listed: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Books and sizes of the indexes, all of one moment."""

    moves: int
    books: Mapping[str, Book]
    unreadable: tuple[str, ...]
    """Tenants whose books are no books."""
    tenants: Mapping[str, TenantSnapshot]
    indexed: Mapping[State, int]
    group_counts: Mapping[str, int]
    group_sizes: Mapping[str, int]


def read_moves(client: redis.Redis, keys: Keys) -> int:
    """Return the number that grows with every change of the books."""
    return _number(client.get(keys.moves))


def take_snapshot(client: redis.Redis, keys: Keys, tally: Tally) -> Snapshot:
    """Read everything the books are compared with in one transaction."""
    tenants = sorted(tally.tenants | {text(name) for name in client.smembers(keys.tenants)})
    groups = sorted(tally.groups | {text(name) for name in client.hkeys(keys.dead_groups)})
    with client.pipeline(transaction=True) as pipeline:
        pipeline.get(keys.moves)
        pipeline.hgetall(keys.dead_groups)
        for index in (keys.scheduled, keys.in_flight, keys.dead):
            pipeline.zcard(index)
        for group in groups:
            pipeline.zcard(keys.prefix + NAMES["dead_group"] + group)
        for tenant in tenants:
            pipeline.hgetall(keys.ledger(tenant))
            for job_class in JobClass:
                pipeline.zcard(keys.ready(tenant, job_class))
            pipeline.zscore(keys.turn, tenant)
            pipeline.hexists(keys.tenant(tenant), "paused")
            pipeline.sismember(keys.tenants, tenant)
        replies = iter(pipeline.execute(raise_on_error=False))
    moves, counts = next(replies), next(replies)
    indexed = {state: _number(next(replies)) for state in _SINGLE}
    sizes = {group: _number(next(replies)) for group in groups}
    books, unreadable, beside = {}, [], {}
    for tenant in tenants:
        book = _book(next(replies))
        if book is None:
            unreadable.append(tenant)
        else:
            books[tenant] = book
        ready = sum(_number(next(replies)) for _ in JobClass)
        turn, paused, listed = next(replies), next(replies), next(replies)
        beside[tenant] = TenantSnapshot(ready, turn is not None, bool(paused), bool(listed))
    return Snapshot(
        moves=_number(moves),
        books=books,
        unreadable=tuple(unreadable),
        tenants=beside,
        indexed=indexed,
        group_counts={text(group): _number(number) for group, number in counts.items() if text(group) in sizes},
        group_sizes=sizes,
    )


def check_books(snapshot: Snapshot, findings: Findings) -> None:
    """Compare the books with themselves and with the indexes. True at any moment, work or no work."""
    for tenant in snapshot.unreadable:
        findings.add(Discrepancy(Kind.BOOKS_UNREADABLE, "they hold something else than numbers", tenant=tenant))
    for tenant, book in snapshot.books.items():
        _check_balance(tenant, book, findings)
        beside = snapshot.tenants[tenant]
        if book.jobs[State.READY] != beside.ready:
            _disagree(findings, tenant, State.READY, book.jobs[State.READY], beside.ready, "are indexed")
        if beside.ready and not beside.paused and not beside.has_turn:
            detail = f"{beside.ready} jobs are ready, but the tenant has no turn; `trackdesk resume` gives it one"
            findings.add(Discrepancy(Kind.NO_TURN, detail, tenant=tenant))
        if not beside.listed:
            findings.add(Discrepancy(Kind.TENANT_UNLISTED, "it has books, but the list lacks it", tenant=tenant))
    if not snapshot.unreadable:
        for state, indexed in snapshot.indexed.items():
            counted = sum(book.jobs[state] for book in snapshot.books.values())
            if counted != indexed:
                _disagree(findings, None, state, counted, indexed, "are indexed")
    for group in sorted(snapshot.group_sizes.keys() | snapshot.group_counts.keys()):
        counted, indexed = snapshot.group_counts.get(group, 0), snapshot.group_sizes.get(group, 0)
        if counted != indexed:
            tenant, _, reason = group.partition(":")
            detail = f"{counted} dead letters are counted for {reason}, {indexed} are there"
            findings.add(Discrepancy(Kind.GROUP_MISCOUNTED, detail, tenant=tenant))


def check_sums(tally: Tally, snapshot: Snapshot, findings: Findings) -> None:
    """Compare the books with the sum of all records. Only for a walk during which nothing moved."""
    for tenant in sorted(snapshot.books.keys() | tally.tenants):
        book = snapshot.books.get(tenant)
        if book is None:
            continue
        for state in State:
            counted, there = book.jobs[state], tally.jobs[tenant, state.value]
            if counted != there:
                _disagree(findings, tenant, state, counted, there, "have a record")
            _check_money(tenant, state, book.money.get(state, {}), tally, findings)


def _check_balance(tenant: str, book: Book, findings: Findings) -> None:
    if book.residual_jobs:
        detail = (
            f"{book.jobs[ACCEPTED]} jobs were accepted, the states and the pruned hold "
            f"{book.jobs[ACCEPTED] - book.residual_jobs}"
        )
        findings.add(Discrepancy(Kind.BOOKS_UNBALANCED, detail, tenant=tenant))
    for currency, amount in book.residual_money.items():
        detail = f"{amount:f} {currency} of the money accepted is in no state"
        findings.add(Discrepancy(Kind.BOOKS_UNBALANCED, detail, tenant=tenant))
    for column in HOLDING:
        if book.jobs[column] < 0:
            detail = f"{column} counts {book.jobs[column]} jobs"
            findings.add(Discrepancy(Kind.BOOKS_DISAGREE, detail, tenant=tenant))


def _check_money(tenant: str, state: State, booked: Mapping[str, Decimal], tally: Tally, findings: Findings) -> None:
    found = tally.money.get((tenant, state.value), {})
    for currency in sorted(booked.keys() | found.keys()):
        books, there = booked.get(currency, Decimal()), found.get(currency, Decimal())
        if books != there:
            detail = f"the books say {books:f} {currency} are {state}, the records add up to {there:f}"
            findings.add(Discrepancy(Kind.BOOKS_DISAGREE, detail, tenant=tenant))


def _disagree(findings: Findings, tenant: str | None, state: State, counted: int, there: int, what: str) -> None:
    detail = f"the books say {counted} jobs are {state}, {there} {what}"
    findings.add(Discrepancy(Kind.BOOKS_DISAGREE, detail, tenant=tenant))


def _book(reply: Any) -> Book | None:
    try:
        return parse_book(reply)
    except (ValueError, KeyError, AttributeError):
        return None


def _number(reply: Any) -> int:
    """Return a number; what is none counts as 0, which disagrees with whatever it is compared with."""
    try:
        return int(reply)
    except (TypeError, ValueError):
        return 0
