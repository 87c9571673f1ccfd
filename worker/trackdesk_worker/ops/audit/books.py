"""The books at one moment, compared with themselves, with the indexes, and with the sum of the records."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trackdesk_producer.contract.record import JobClass, State
from trackdesk_producer.contract.scripts import text
from trackdesk_worker.ops.audit.discrepancies import Discrepancy, DiscrepancyKind, Findings
from trackdesk_worker.ops.audit.sums import BooksSnapshot, Tally, TenantIndexes
from trackdesk_worker.store.dead_letters.causes import Cause, cause_commands, parse_causes
from trackdesk_worker.store.job_store import JobStore
from trackdesk_worker.store.ledger import ACCEPTED, HOLDING, Book, add_money, parse_book
from trackdesk_worker.store.tenant_record import PAUSED

_SINGLE = (State.SCHEDULED, State.IN_FLIGHT, State.DEAD)
"""States whose index holds the jobs of all tenants."""


def read_moves(store: JobStore) -> int:
    """Return the counter that grows with every change of the books."""
    return _number(store.client.get(store.keys.moves))


def take_snapshot(store: JobStore, tally: Tally) -> BooksSnapshot:
    """Read in one transaction everything that the books are compared with."""
    tenants = sorted(tally.tenants | {text(name) for name in store.client.smembers(store.keys.tenants)})
    numbers = sorted(tally.causes | {text(number) for number in store.client.hkeys(store.keys.causes)})
    with store.client.pipeline(transaction=True) as pipeline:
        pipeline.get(store.keys.moves)
        for command in cause_commands(store.keys):
            pipeline.execute_command(*command)
        for index in (store.keys.scheduled, store.keys.in_flight, store.keys.dead):
            pipeline.zcard(index)
        for number in numbers:
            pipeline.zcard(store.keys.cause(number, "died"))
            pipeline.zcard(store.keys.cause(number, "amount"))
        for tenant in tenants:
            pipeline.hgetall(store.keys.ledger(tenant))
            for job_class in JobClass:
                pipeline.zcard(store.keys.ready(tenant, job_class))
            pipeline.zscore(store.keys.turn, tenant)
            pipeline.hexists(store.keys.tenant(tenant), PAUSED)
            pipeline.sismember(store.keys.tenants, tenant)
        replies = iter(pipeline.execute(raise_on_error=False))
    moves, names, cause_books = next(replies), next(replies), next(replies)
    indexed = {state: _number(next(replies)) for state in _SINGLE}
    sizes = {number: (_number(next(replies)), _number(next(replies))) for number in numbers}
    books, unreadable, beside = {}, [], {}
    for tenant in tenants:
        book = _book(next(replies))
        if book is None:
            unreadable.append(tenant)
        else:
            books[tenant] = book
        ready = sum(_number(next(replies)) for _ in JobClass)
        turn, paused, listed = next(replies), next(replies), next(replies)
        beside[tenant] = TenantIndexes(ready, turn is not None, bool(paused), bool(listed))
    return BooksSnapshot(
        moves=_number(moves),
        books=books,
        unreadable=tuple(unreadable),
        tenants=beside,
        indexed=indexed,
        causes=_causes(names, cause_books),
        cause_sizes=sizes,
    )


def check_books(snapshot: BooksSnapshot, findings: Findings) -> None:
    """Compare the books with themselves and with the indexes; this holds at any moment, also during deliveries."""
    for tenant in snapshot.unreadable:
        findings.add(
            Discrepancy(DiscrepancyKind.BOOKS_UNREADABLE, "they hold something other than numbers", tenant=tenant)
        )
    for tenant, book in snapshot.books.items():
        _check_balance(tenant, book, findings)
        beside = snapshot.tenants[tenant]
        if book.jobs[State.READY] != beside.ready:
            _disagree(findings, tenant, State.READY, book.jobs[State.READY], beside.ready, "are indexed")
        if beside.ready and not beside.paused and not beside.has_turn:
            detail = f"{beside.ready} jobs are ready, but the tenant has no turn; `trackdesk resume` gives it one"
            findings.add(Discrepancy(DiscrepancyKind.NO_TURN, detail, tenant=tenant))
        if not beside.listed:
            findings.add(
                Discrepancy(
                    DiscrepancyKind.TENANT_UNLISTED, "it has books, but the list of tenants lacks it", tenant=tenant
                )
            )
    if not snapshot.unreadable:
        for state, indexed in snapshot.indexed.items():
            counted = sum(book.jobs[state] for book in snapshot.books.values())
            if counted != indexed:
                _disagree(findings, None, state, counted, indexed, "are indexed")
    _check_causes(snapshot, findings)


def _check_causes(snapshot: BooksSnapshot, findings: Findings) -> None:
    """Compare the causes' books with their indexes, and their sum with the tenants' books."""
    for number, (by_time, by_amount) in snapshot.cause_sizes.items():
        cause = snapshot.causes.get(number)
        counted = cause.jobs if cause else 0
        if not counted == by_time == by_amount:
            what = f"the reason {cause.reason}" if cause else f"cause {number}, which has no name"
            detail = (
                f"{counted} dead letters are counted for {what}, {by_time} are there by time, {by_amount} by amount"
            )
            findings.add(Discrepancy(DiscrepancyKind.CAUSE_MISCOUNTED, detail, tenant=cause.tenant if cause else None))
    for tenant, book in snapshot.books.items():
        causes = [cause for cause in snapshot.causes.values() if cause.tenant == tenant]
        jobs, money = sum(cause.jobs for cause in causes), add_money(cause.money for cause in causes)
        if jobs != book.jobs[State.DEAD] or money != book.money.get(State.DEAD, {}):
            dead, at_stake = book.jobs[State.DEAD], _money_text(book.money.get(State.DEAD, {}))
            summed = f"{jobs} dead letters and {_money_text(money)}"
            detail = f"its causes add up to {summed}, its books hold {dead} and {at_stake}"
            findings.add(Discrepancy(DiscrepancyKind.CAUSE_MISCOUNTED, detail, tenant=tenant))


def _money_text(money: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{amount:f} {currency}" for currency, amount in sorted(money.items())) or "no money"


def check_sums(tally: Tally, snapshot: BooksSnapshot, findings: Findings) -> None:
    """Compare the books with the sum of all records; only for a walk during which no job changed."""
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
        findings.add(Discrepancy(DiscrepancyKind.BOOKS_UNBALANCED, detail, tenant=tenant))
    for currency, amount in book.residual_money.items():
        detail = f"{amount:f} {currency} of the money accepted is in no state"
        findings.add(Discrepancy(DiscrepancyKind.BOOKS_UNBALANCED, detail, tenant=tenant))
    for column in HOLDING:
        if book.jobs[column] < 0:
            detail = f"{column} counts {book.jobs[column]} jobs"
            findings.add(Discrepancy(DiscrepancyKind.BOOKS_DISAGREE, detail, tenant=tenant))


def _check_money(tenant: str, state: State, booked: Mapping[str, Decimal], tally: Tally, findings: Findings) -> None:
    found = tally.money.get((tenant, state.value), {})
    for currency in sorted(booked.keys() | found.keys()):
        books, there = booked.get(currency, Decimal()), found.get(currency, Decimal())
        if books != there:
            detail = f"the books say {books:f} {currency} are {state}, the records add up to {there:f}"
            findings.add(Discrepancy(DiscrepancyKind.BOOKS_DISAGREE, detail, tenant=tenant))


def _disagree(findings: Findings, tenant: str | None, state: State, counted: int, there: int, what: str) -> None:
    detail = f"the books say {counted} jobs are {state}, {there} {what}"
    findings.add(Discrepancy(DiscrepancyKind.BOOKS_DISAGREE, detail, tenant=tenant))


def _book(reply: Any) -> Book | None:
    try:
        return parse_book(reply)
    except (ValueError, KeyError, AttributeError):
        return None


def _causes(names: Any, books: Any) -> dict[str, Cause]:
    try:
        return {cause.number: cause for cause in parse_causes(names, books)}
    except (ValueError, KeyError, AttributeError):  # an unreadable value counts as 0, which disagrees
        return {}


def _number(reply: Any) -> int:
    """Return a number; anything else counts as 0, which disagrees with the other side."""
    try:
        return int(reply)
    except (TypeError, ValueError):
        return 0
