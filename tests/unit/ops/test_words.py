"""What operators read: money, times, remedies, names on record."""

from decimal import Decimal

import pytest

from trackdesk_worker.domain.money import plain_amount, plain_money, readable_money
from trackdesk_worker.domain.outcome import Reason
from trackdesk_worker.ops.audit_log import Operator, OperatorInvalid
from trackdesk_worker.ops.remedies import REMEDIES, remedy
from trackdesk_worker.ops.timestamps import iso, parse_age_s, parse_moment, readable_age


def test_every_reason_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Reason)
    assert "dead show" in remedy("a_reason_of_a_later_version")


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("100.5", "EUR", "100.50"),
        ("100", "EUR", "100.00"),
        ("100.500000000", "EUR", "100.50"),
        ("0.000000001", "EUR", "0.000000001"),
        ("38210", "JPY", "38210"),
        ("1.5", "KWD", "1.500"),
        ("7.10", None, "7.1"),
        ("1000000", "XXX", "1000000"),
        ("-0.10", "EUR", "-0.10"),
    ],
)
def test_money_is_exact_with_the_digits_of_its_currency(amount: str, currency: str | None, text: str) -> None:
    assert plain_amount(Decimal(amount), currency) == text


def test_money_is_shown_to_people_with_thousands_and_to_programs_without() -> None:
    money = {"USD": Decimal(7), "EUR": Decimal("38210.5"), "XXX": Decimal("1.5")}
    assert readable_money(money) == "38,210.50 EUR + 7.00 USD + 1.5 without currency"
    assert plain_money(money) == {"EUR": "38210.50", "USD": "7.00", "XXX": "1.5"}
    assert readable_money({}) == "no money"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7 d", 604_800), ("1w", 604_800)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_age_s(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "5", "-5m", "5y", "5 minutes", "٥m", "9999999h"])
def test_anything_else_is_no_age(text: str) -> None:
    with pytest.raises(ValueError, match="a number and a unit"):
        parse_age_s(text)


@pytest.mark.parametrize("text", ["", "soon", "2026-01-31", "2026-01-31T18:30:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_without_its_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="UTC offset"):
        parse_moment(text)


def test_times_are_shown_in_utc() -> None:
    assert iso(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"
    assert parse_moment("2026-01-01T01:00:00+01:00").isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12, "12 s"), (60, "1 min"), (11_520, "3 h 12 min"), (86_400, "1 d"), (90_061, "1 d 1 h")],
)
def test_an_age_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert readable_age(seconds) == text


@pytest.mark.parametrize(("name", "reason"), [("", "x"), ("ann", " "), ("ann", "a\x1b[2Jb"), ("a" * 501, "x")])
def test_what_stands_on_record_is_printable_and_not_blank(name: str, reason: str) -> None:
    with pytest.raises(OperatorInvalid):
        Operator(name, reason)
