import time

import pytest

from trackdesk_worker.trackdesk.messages import Meaning, meaning_of


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("click not found", Meaning.SOURCE_NOT_FOUND),
        ("Source for CID 123 was NOT FOUND", Meaning.SOURCE_NOT_FOUND),
        ("conversion type for this click not found", Meaning.TYPE_NOT_FOUND),
        ("pricing for conversion type not configured", Meaning.PRICING_NOT_CONFIGURED),
        ("conversion type not configured for offer", Meaning.TYPE_NOT_CONFIGURED),
        ("amount is required", Meaning.AMOUNT_MISSING),
        ("source has expired", Meaning.SOURCE_EXPIRED),
        ("conversion limit for this click exceeded", Meaning.CONVERSION_LIMIT),
        ("limit of conversions reached", Meaning.CONVERSION_LIMIT),
        ("You have reached the limit of 1 conversion per click", Meaning.CONVERSION_LIMIT),
        ("daily conversion limit reached", Meaning.CONVERSION_LIMIT),
        ("limit reached", Meaning.LIMIT_REACHED),
        ("limit per click reached", Meaning.LIMIT_REACHED),
        ("limit exceeded", Meaning.LIMIT_EXCEEDED),
        ("conversion rate limit exceeded", None),
        ("conversion limit of 5 per second exceeded", None),
        ("limit of conversion requests reached", None),
        ("api request limit reached", None),
        ("monthly plan limit reached", None),
        ("5 per second limit exceeded", None),
        ("token expired", None),
        ("source ip blocked", None),
        ("", None),
        ("something new", None),
    ],
)
def test_a_message_is_read_by_its_telling_words(message: str, meaning: Meaning | None) -> None:
    assert meaning_of(message) is meaning


def test_a_hostile_message_costs_milliseconds_at_most() -> None:
    started = time.process_time()
    meaning_of("limit source type currency offer missing pricing " * 300)
    assert time.process_time() - started < 0.05
