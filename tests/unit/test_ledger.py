"""Books in exact money: three integer limbs a column, read back as one Decimal."""

from collections import Counter
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackdesk_producer.contract.record import State
from trackdesk_worker.store.ledger import ACCEPTED, HOLDING, Book, add_money, parse_book, total

# The amounts a conversion may have, as their digits before and behind the point.
amounts = st.decimals(0, Decimal("999999999999999.999999999"), places=9, allow_nan=False)


def limbs(amount: Decimal, column: str) -> dict[str, int]:
    """Cut an amount as the scripts do: 10^9 units, units, 10^-9 units."""
    with localcontext(prec=60):
        nanos = int(amount.scaleb(9))
    return {
        f"{column}:2": nanos // 10**18,
        f"{column}:1": nanos // 10**9 % 10**9,
        f"{column}:0": nanos % 10**9,
    }


def as_hash(fields: Counter[str]) -> dict[bytes, bytes]:
    return {name.encode(): str(value).encode() for name, value in fields.items()}


@given(st.lists(st.tuples(amounts, st.sampled_from(["EUR", "JPY", "XXX"])), max_size=30))
def test_a_sum_of_limbs_is_the_sum_of_the_amounts_to_the_last_digit(booked: list[tuple[Decimal, str]]) -> None:
    fields: Counter[str] = Counter()
    want: dict[str, Decimal] = {}
    with localcontext(prec=60):
        for amount, currency in booked:
            fields.update(limbs(amount, f"ready:{currency}"))
            want[currency] = want.get(currency, Decimal()) + amount
    book = parse_book(as_hash(fields))
    assert book.money.get("ready", {}) == {currency: amount for currency, amount in want.items() if amount}


@given(st.lists(amounts, min_size=1, max_size=20))
def test_what_is_booked_out_again_leaves_nothing(booked: list[Decimal]) -> None:
    fields: Counter[str] = Counter()
    for amount in booked:
        fields.update(limbs(amount, "ready:EUR"))
    for amount in reversed(booked):
        fields.subtract(limbs(amount, "ready:EUR"))
    assert parse_book(as_hash(fields)).money["ready"] == {}


def test_a_hundred_million_of_the_largest_amounts_are_still_exact() -> None:
    number = 100_000_000
    fields = Counter({name: n * number for name, n in limbs(Decimal("999999999999999.999999999"), "dead:EUR").items()})
    assert max(fields.values()) < 2**63, "Redis' integers"
    book = parse_book(as_hash(fields))
    assert book.money["dead"]["EUR"] == Decimal("99999999999999999999999.9")


def test_limbs_of_different_signs_add_up() -> None:
    book = parse_book({b"ready:EUR:2": b"1", b"ready:EUR:1": b"-999999999", b"ready:EUR:0": b"-999999999"})
    assert book.money["ready"]["EUR"] == Decimal("0.000000001")


def test_counters_of_events_are_read_beside_the_states() -> None:
    book = parse_book(
        {b"accepted": b"3", b"ready": b"2", b"dead": b"1", b"delivered_paired": b"0", b"orphaned_entries": b"4"}
    )
    assert (book.jobs["accepted"], book.jobs["ready"], book.jobs["orphaned_entries"], book.jobs["nothing"]) == (
        3,
        2,
        4,
        0,
    )
    assert (book.residual_jobs, book.residual_money) == (0, {})


@pytest.mark.parametrize("column", HOLDING)
def test_every_holding_column_balances_what_was_accepted(column: str) -> None:
    sums = {"EUR": Decimal("1.5")}
    book = Book(Counter({ACCEPTED: 1, column: 1}), {ACCEPTED: sums, column: sums})
    assert (book.residual_jobs, book.residual_money) == (0, {})
    assert Book(Counter({ACCEPTED: 1}), {ACCEPTED: sums}).residual_money == sums
    assert Book(Counter({column: 1}), {column: sums}).residual_jobs == -1


def test_each_state_holds_jobs_and_each_end_has_its_pruned_column() -> None:
    assert set(HOLDING) == {*State, "pruned_delivered", "pruned_cancelled", "pruned_discarded"}


def test_money_at_risk_is_what_is_accepted_and_not_delivered() -> None:
    one = {"EUR": Decimal(1)}
    book = Book(Counter(), dict.fromkeys((ACCEPTED, *HOLDING), one))
    assert book.at_risk == {"EUR": Decimal(4)}, "ready, scheduled, in flight and dead"


def test_books_of_tenants_add_up() -> None:
    a = Book(Counter({"ready": 1}), {"ready": {"EUR": Decimal("0.1")}})
    b = Book(Counter({"ready": 2, "dead": 1}), {"ready": {"EUR": Decimal("0.2"), "USD": Decimal(1)}})
    whole = total([a, b])
    assert (whole.jobs, whole.money) == (
        Counter({"ready": 3, "dead": 1}),
        {"ready": {"EUR": Decimal("0.3"), "USD": Decimal(1)}},
    )
    assert total([]) == Book()


def test_sums_leave_out_zeros_and_stay_exact_beyond_the_default_precision() -> None:
    large = Decimal("999999999999999999999999999999.999999999")
    assert add_money([{"EUR": large}, {"EUR": Decimal("0.000000002")}, {"USD": Decimal(0)}]) == {
        "EUR": Decimal("1000000000000000000000000000000.000000001")
    }
