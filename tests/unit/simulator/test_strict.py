"""The strict profile refuses what a gateway drops or accepts loosely; the loose one takes the same sale."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.simulator import sale
from trackdesk_simulator import ManualClock, SimulatorConfig
from trackdesk_simulator.engine import Engine
from trackdesk_simulator.ledger import Ledger
from trackdesk_simulator.reply import Reply

ODD: dict[str, dict[str, Any]] = {
    "an unknown field": {"custmerId": "c"},
    "an unknown custom parameter": {"customParams": {"advS6": "x"}},
    "an unknown status": {"status": "CONVERSION_STATUS_APROVED"},
    "an exponent": {"amount": {"value": "1e3"}},
    "a sign": {"amount": {"value": "-1.00"}},
    "a blank in the amount": {"amount": {"value": " 100"}},
    "more digits than the currency has": {"amount": {"value": "100.505"}},
    "a fraction of a yen": {"amount": {"value": "100.5"}, "currency": {"code": "JPY"}},
    "a currency in lower case": {"currency": {"code": "eur"}},
    "an amount without a currency": {"currency": None},
    "a currency without an amount": {"conversionTypeCode": "lead", "amount": None},
    "a blank externalId": {"externalId": "  "},
    "an empty externalId": {"externalId": ""},
    "a blank before the cid": {"cid": " c-1"},
    "a line feed in the externalId": {"externalId": "o-1\n"},
}


def answer(body: dict[str, Any], *, method: str = "POST", **settings: Any) -> tuple[Reply, Ledger]:
    ledger = Ledger()
    engine = Engine(SimulatorConfig.model_validate(settings), ledger=ledger, clock=ManualClock(1_767_225_600.0))
    tenant = engine.tenant("acme")
    assert tenant is not None
    return engine.receive(
        tenant, method, query(body) if method == "GET" else "", json.dumps(body).encode(), None
    ), ledger


def query(body: dict[str, Any]) -> str:
    flat: dict[str, str] = {}
    for name, value in body.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return urlencode(flat)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_only_the_strict_profile_refuses(changes: dict[str, Any], method: str) -> None:
    body = sale("o-1", **changes)
    loose, _ = answer(body, method=method)
    strict, ledger = answer(body, method=method, strict=True)
    assert loose.status == 200
    assert (strict.status, json.loads(strict.body)["code"], len(ledger)) == (400, 3, 0)


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_sale_as_the_guide_describes_it_passes_the_strict_profile(method: str) -> None:
    body = sale("o-1", customParams={"advS1": "x"}, status="CONVERSION_STATUS_TEST", revenueOriginId="r-1")
    reply, ledger = answer(body, method=method, strict=True)
    assert (reply.status, len(ledger)) == (200, 1)


def test_absent_and_structured_fields_pass_the_strict_profile() -> None:
    body = sale("o-1", couponCodes=["X"], qualified=True, revenueOriginId="r-1") | {
        "customParams": None,
        "status": None,
    }
    assert answer(body, strict=True)[0].status == 200


def test_a_network_tenant_records_one_externalid_once_per_revenue_origin() -> None:
    for settings, rows in (({}, 1), ({"network": True}, 2)):
        ledger = Ledger()
        engine = Engine(SimulatorConfig.model_validate(settings), ledger=ledger, clock=ManualClock(1_767_225_600.0))
        tenant = engine.tenant("acme")
        assert tenant is not None
        for origin in ("r-1", "r-2", "r-2"):
            engine.receive(tenant, "POST", "", json.dumps(sale("o-1", revenueOriginId=origin)).encode(), None)
        assert [row.revenue_origin_id for row in ledger] == ["r-1", "r-2"][:rows]
        assert ledger.duplicates_refused == 3 - rows
