"""The HTTP API on the running server: fuzzed from its own document, and used as a program would."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.console import Console, console_on
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.console.api.serving import as_json, openapi
from trackdesk_worker.local.embedded import EmbeddedServer

DOCUMENT = Path(__file__).parents[2] / "docs/reference/openapi.json"

REFUSALS = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "429"]
"""How what breaks the schema may be refused: 413 too, where a text beyond its maximum makes the body too large."""

schema = schemathesis.openapi.from_dict(
    openapi(),
    config=SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}),
)


@pytest.fixture(scope="module")
def served(valkey: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Console, Shop]]:
    keys, file = Keys(f"test-{uuid.uuid4().hex[:12]}"), tmp_path_factory.mktemp("api") / "people"
    # A clock that runs, so that the allowance of requests does not answer in place of the operations.
    clock = console_on(valkey, keys, file, clock=lambda: time.monotonic() * 1000)
    with redis.Redis(port=valkey.port) as client, clock as console:
        shop = Shop(valkey, client, keys)
        shop.bury("o-1", "o-2", customerId="jane@example.com")
        shop.bury("o-3", tenant="bert", reason="source_not_found", amount={"value": "12345678901234.56"})
        shop.sell("later")
        yield console, shop


@pytest.fixture
def api(served: tuple[Console, Shop]) -> Iterator[httpx.Client]:
    with served[0].api("admin") as client:
        yield client


@schema.parametrize()
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_api_is_what_its_document_says_whatever_is_sent(
    case: schemathesis.Case[Any], served: tuple[Console, Shop]
) -> None:
    token = {"Authorization": f"Bearer {served[0].tokens['admin']}"}
    # What the schema cannot say (an id's form, a plan that is there) may be refused with 400.
    case.call_and_validate(base_url=served[0].origin, headers=token, excluded_checks=[positive_data_acceptance])


def test_the_document_is_served_and_committed(api: httpx.Client) -> None:
    assert api.get("/api/v1/openapi.json").json() == openapi()
    assert DOCUMENT.read_text("utf-8") == as_json(openapi()), "write it: python -m docs.generate"


def test_a_search_goes_on_where_the_page_before_ended(api: httpx.Client) -> None:
    first = api.post("/api/v1/jobs/search", json={"tenant": "acme", "limit": 1, "order": "oldest"}).json()
    second = api.post(
        "/api/v1/jobs/search", json={"tenant": "acme", "limit": 1, "order": "oldest", "after": first["after"]}
    ).json()
    assert [first["jobs"][0]["external_id"], second["jobs"][0]["external_id"]] == ["o-1", "o-2"]
    assert (first["total"], second["after"]) == (2, None)
    assert first["jobs"][0]["amount"] == "100.50"


def test_a_search_by_customer_finds_without_showing(api: httpx.Client) -> None:
    answer = api.post("/api/v1/jobs/search", json={"customer_id": "jane@example.com"})
    assert {job["external_id"] for job in answer.json()["jobs"]} == {"o-1", "o-2"}
    assert "jane@" not in answer.text


def test_large_sums_come_as_they_are(api: httpx.Client) -> None:
    found = api.post("/api/v1/causes", json={"tenant": "bert"}).json()
    assert found["money"] == {"EUR": "12345678901234.56"}
    assert found["causes"][0]["remedy"].startswith("Trackdesk does not know the click")


def test_a_job_is_masked_revealed_on_record_and_redriven_once(api: httpx.Client, served: tuple[Console, Shop]) -> None:
    assert "jane@" not in api.get("/api/v1/job", params={"id": "acme/o-1"}).text
    act = {"id": "acme/o-1", "reason": "ticket 7"}
    assert api.post("/api/v1/job/reveal", json=act).json()["conversion"]["customerId"] == "jane@example.com"
    assert api.post("/api/v1/job/redrive", json=act).json() == {"changed": True}
    again = api.post("/api/v1/job/redrive", json=act)
    assert (again.status_code, again.json()["error"]) == (409, "conflict")
    assert served[1].state("o-1") == "ready"
    kinds = [entry["entry"]["kind"] for entry in api.get("/api/v1/log").json()["entries"]]
    assert {"reveal", "redrive"} <= set(kinds)
    lines = api.get("/api/v1/log/export").text.splitlines()
    assert len(lines) >= len(kinds)


def test_a_plan_is_previewed_made_started_and_tells_its_verdicts(api: httpx.Client) -> None:
    wanted = {"tenant": "bert"}
    seen = api.post("/api/v1/plan-preview", json=wanted).json()
    assert (seen["jobs"], seen["complete"]) == (1, True)
    make = {"filter": wanted, "name": "Clicks of bert", "reason": "the shop sent wrong clicks"}
    assert "review them again" in api.post("/api/v1/plans", json={**make, "expected": 7}).json()["message"]
    plan = api.post("/api/v1/plans", json={**make, "expected": 1}).json()
    assert (plan["state"], plan["listed"], plan["money_listed"]) == ("ready", 1, {"EUR": "12345678901234.56"})
    path = f"/api/v1/plans/{plan['id']}"
    assert api.post(f"{path}/start", json={}).json()["state"] == "running"
    assert api.post(f"{path}/pause", json={}).json()["state"] == "paused"
    assert api.get(f"{path}/items").json()["items"][0]["verdict"] == "pending"
    ended = api.post(f"{path}/cancel", json={"reason": "a test"}).json()
    assert (ended["state"], ended["verdicts"], ended["decided"]) == ("cancelled", {"cancelled": 1}, 1)
    assert plan["id"] in [one["id"] for one in api.get("/api/v1/plans").json()["plans"]]


def test_only_an_admin_plans_to_discard(api: httpx.Client, served: tuple[Console, Shop]) -> None:
    make = {"filter": {"tenant": "bert"}, "name": "Away", "reason": "x", "act": "discard"}
    with served[0].api("operator") as operator:
        assert operator.post("/api/v1/plans", json=make).status_code == 403
        plan = api.post("/api/v1/plans", json=make).json()
        assert operator.post(f"/api/v1/plans/{plan['id']}/start", json={"confirm_count": 1}).status_code == 403
    wrong = api.post(f"/api/v1/plans/{plan['id']}/start", json={"confirm_count": 2})
    assert (wrong.status_code, "not 2" in wrong.json()["message"]) == (400, True)
    api.post(f"/api/v1/plans/{plan['id']}/cancel", json={})


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/v1/jobs/search", {"limit": 0}, "limit"),
        ("/api/v1/jobs/search", {"nothing_such": 1}, "nothing_such"),
        ("/api/v1/jobs/search", {"since": "yesterday"}, "write a time in UTC"),
        ("/api/v1/jobs/search", {"after": "x"}, "cursor"),
        ("/api/v1/job/redrive", {"id": "acme/o-2", "reason": ""}, "reason"),
        ("/api/v1/job/discard", {"id": "acme/o-2", "reason": "x", "confirm": "o"}, "type the externalId"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_shape(
    api: httpx.Client, path: str, body: object, said: str
) -> None:
    answer = api.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json().keys() == {"error", "message"}
    assert said in answer.json()["message"]


def test_other_names_and_methods_are_answered_in_the_same_shape(api: httpx.Client) -> None:
    for answer, status in ((api.get("/api/v1/nothing"), 404), (api.put("/api/v1/status"), 405)):
        assert answer.status_code == status
        assert answer.json().keys() == {"error", "message"}
