"""Tenants and namespaces become host names and keys, so their characters are bounded; currencies are ISO's."""

import pytest

from trackdesk_producer.conversion.currencies import MINOR_UNITS
from trackdesk_producer.conversion.rules import check_namespace, check_tenant
from trackdesk_producer.errors import ConversionInvalid


@pytest.mark.parametrize("tenant", ["a", "7", "my-shop", "xn--caf-dma", "a" * 63])
def test_one_dns_label_is_a_tenant(tenant: str) -> None:
    assert check_tenant(tenant) == tenant


@pytest.mark.parametrize(
    "tenant",
    [
        "", " ", "-a", "a-", "My-Shop", "a.b", "a/b", "a#", "a?x", "a@b", "a:80", "a" * 64, "a\n", "a\x00", "ä",
        "shop.trackdesk.com", "YOUR_TENANT_ID", None, 5, b"shop", ["shop"],
    ],
)  # fmt: skip
def test_anything_else_is_no_tenant(tenant: object) -> None:
    with pytest.raises(ConversionInvalid) as refused:
        check_tenant(tenant)
    assert [problem.field for problem in refused.value.problems] == ["tenant"]


@pytest.mark.parametrize("namespace", ["trackdesk", "A.b_c-9", "x" * 64])
def test_plain_characters_make_a_namespace(namespace: str) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize("namespace", ["", "a b", "a}b", "{a", "a:b", "x" * 65, "a\n", "ä", None, 5])
def test_anything_else_is_no_namespace(namespace: object) -> None:
    with pytest.raises(ConversionInvalid, match=r"^namespace must be 1 to 64"):
        check_namespace(namespace)


def test_the_currencies_have_the_minor_units_of_iso_4217() -> None:
    assert len(MINOR_UNITS) == 171
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_UNITS)
    known = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3, "CLF": 4, "ISK": 0, "HUF": 2, "XOF": 0, "XCG": 2}
    assert known.items() <= MINOR_UNITS.items()
    assert not {"XXX", "XTS", "XAU", "DEM", "BTC"} & MINOR_UNITS.keys()
