"""What looks like a mistake brings a warning, and is accepted."""

from typing import Any

import pytest

from trackdesk_producer.conversion.model import parse_conversion

SALE = {"conversionTypeCode": "sale", "cid": "6F1C6C3E-58e2-4bd5-9b0f-3f1d8a2c7e10"}

WARNED = {
    "nothing to warn about": ({"amount": "100.50", "currency": "EUR"}, []),
    "no money at all": ({}, []),
    "cid that is no UUID": ({"cid": "abc"}, ["cid does not look like a UUID"]),
    "externalCid of any form": ({"cid": None, "externalCid": "abc", "revenueOriginId": "o"}, []),
    "amount without currency": ({"amount": "1"}, ["amount.value is given without currency.code"]),
    "currency without amount": ({"currency": "EUR"}, ["currency.code is given without amount.value"]),
    "zero": ({"amount": "0", "currency": "EUR"}, ["amount.value is zero"]),
    "zero with decimals": ({"amount": "00.00", "currency": "EUR"}, ["amount.value is zero"]),
    "a hundred": ({"amount": "100", "currency": "EUR"}, []),
    "three decimals of EUR": ({"amount": "1.005", "currency": "EUR"}, ["has 3 decimals, but EUR has 2"]),
    "decimals of JPY": ({"amount": "1.5", "currency": "JPY"}, ["has 1 decimals, but JPY has 0"]),
    "three decimals of KWD": ({"amount": "1.005", "currency": "KWD"}, []),
    "several at once": ({"cid": "abc", "amount": "0.0"}, ["cid", "without currency.code", "zero"]),
}


@pytest.mark.parametrize(("added", "words"), WARNED.values(), ids=WARNED)
def test_a_conversion_is_accepted_with_warnings(added: dict[str, Any], words: list[str]) -> None:
    said = parse_conversion(SALE | added).warnings()
    assert len(said) == len(words)
    assert all(word in sentence for word, sentence in zip(words, said, strict=True))
