"""The console's pages on a real store: what they show, what they do, and that hostile text stays text."""

import html
import re
import uuid
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.console import Console, console_on
from tests.support.reads import read_audit_log
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.domain.claim import Verb
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops import tenant_actions
from trackdesk_worker.ops.audit_log import Operator

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}&lt;"


class Tags(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.sources: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.sources += [value or "" for name, value in attrs if name == "src"]
        self.attributes |= {name for name, _ in attrs}


@pytest.fixture
def shop(valkey: EmbeddedServer) -> Iterator[Shop]:
    with redis.Redis(port=valkey.port) as client:
        yield Shop(valkey, client, Keys(f"test-{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def console(valkey: EmbeddedServer, shop: Shop, tmp_path: Path) -> Iterator[Console]:
    with console_on(valkey, shop.keys, tmp_path / "people") as running:
        yield running


@pytest.fixture
def admin(console: Console) -> Iterator[httpx.Client]:
    with console.signed_in("admin") as client:
        yield client


def test_hostile_text_of_shops_and_operators_stays_text_on_every_page(shop: Shop, admin: httpx.Client) -> None:
    hostile: dict[str, Any] = {"conversionTypeCode": EVIL, "customerId": EVIL, "customParams": {"advS1": EVIL}}
    hostile |= {"couponCodes": [EVIL], "revenueOriginId": EVIL}
    shop.sell(EVIL, **hostile)
    (job,) = shop.claim()
    shop.settle([job], Verb.BURY, "type_not_found")
    entry = f'{{"kind":"attempt","at_ms":1,"attempt":"{EVIL[2:]}","outcome":"{EVIL[2:]}","excerpt":"{EVIL[2:]}"}}'
    shop.client.rpush(shop.keys.history(f"acme/{EVIL}"), entry)
    tenant_actions.pause(shop, "acme", Operator(EVIL, EVIL))
    made = admin.post("/plans", data={"filter_tenant": "acme", "name": EVIL, "reason": EVIL, "act": "redrive"})
    assert made.status_code == 303
    identity = {"id": f"acme/{EVIL}"}
    pages = [
        admin.get(path, params=params)
        for path, params in (
            ("/", {}), ("/tenants", {"find": EVIL}), ("/tenants", {}), ("/log", {}), ("/plans", {}), ("/causes", {}),
            ("/causes", {"reason": EVIL}), ("/dead", {}), ("/dead", {"external_id": EVIL, "type": EVIL}),
            ("/dead", {"state": EVIL}), ("/dead", {"since": EVIL}), ("/job", identity), ("/job", {"id": EVIL}),
            ("/job/edit", identity), ("/plans/new", {"reason": EVIL}), ("/plans/new", {}), ("/plan", {"id": EVIL}),
            ("/find", {"q": EVIL + "x"}), ("/sign-in", {"next": EVIL}), ("/" + EVIL, {}), ("/log", {"before": EVIL}),
            ("/log", {"done": EVIL}),
        )
    ]  # fmt: skip
    pages.append(admin.get(made.headers["location"]))
    pages.append(admin.post("/dead/person", data={"customer_id": EVIL}))
    pages.append(admin.post("/job/reveal", data={**identity, "reason": EVIL}))
    pages.append(admin.post("/job/edit", data={**identity, "field.couponCodes": EVIL + "2", f"field.{EVIL}": EVIL}))
    pages.append(admin.post("/tenants/pause", data={"tenant": EVIL, "reason": EVIL}))
    shown = 0
    for page in pages:
        assert page.status_code < 500, page.url
        tags = Tags()
        tags.feed(page.text)
        foreign = [source for source in tags.sources if not re.fullmatch(r"/static/\w+\.\w+\?v=\w+", source)]
        assert (foreign, tags.scripts) == ([], 0 if page.is_redirect else 1), page.url
        assert not {name for name in tags.attributes if name.startswith("on") or name == "style"}, page.url
        assert "<script>alert" not in page.text
        assert ">49<" not in page.text
        shown += EVIL in html.unescape(page.text)
    assert shown > 10, "the pages did not show what they were asked for"


def test_money_and_counts_are_exact_however_large(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o-1", amount={"value": "999999999999999.99"})
    shop.bury("o-2", amount={"value": "0.000000001"}, currency={"code": "KWD"})
    shop.bury("o-3", amount={"value": "7"}, currency={"code": "JPY"})
    for path in ("/", "/causes", "/dead"):
        page = admin.get(path).text
        for sum_ in ("999,999,999,999,999.99 EUR", "0.000000001 KWD", "7 JPY"):
            assert sum_ in page, path


def test_a_search_narrows_sorts_and_pages_without_losing_any(shop: Shop, admin: httpx.Client) -> None:
    shop.bury(*(f"o-{number:03}" for number in range(120)))
    shop.bury("large", amount={"value": "9000"}, tenant="bert")
    page = admin.get("/dead", params={"order": "largest"}).text
    assert page.index("large") < page.index("o-")
    assert "<strong>121</strong> jobs" in page
    seen: list[str] = []
    path: str | None = "/dead?tenant=acme"
    while path:
        page = admin.get(path).text
        seen += re.findall(r">(o-\d+)</a>", page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path = html.unescape(following[1]) if following else None
    assert sorted(seen) == [f"o-{number:03}" for number in range(120)]
    assert "No job matches." in admin.get("/dead", params={"min": "9001"}).text
    assert "write a time in UTC" in admin.get("/dead", params={"since": "soon"}).text


def test_a_search_for_a_customer_puts_no_customer_id_into_an_address(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o-1", customerId="jane@example.com")
    page = admin.post("/dead/person", data={"customer_id": "jane@example.com"})
    assert ">o-1</a>" in page.text
    assert "jane" not in "".join(re.findall(r'(?:href|action)="[^"]*"', page.text))
    assert ">o-1</a>" in admin.get("/dead", params={"customer_id": "nobody"}).text  # counts in the form alone


def test_a_dead_letter_is_corrected_after_a_look_at_the_difference(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o-1", conversionTypeCode="sael", customerId="jane@example.com")
    form = admin.get("/job/edit", params={"id": "acme/o-1"}).text
    assert "jane@" not in form
    change = {"id": "acme/o-1", "field.conversionTypeCode": "sale", "field.customerId": ""}
    seen = admin.post("/job/edit", data=change).text
    assert re.search(r"conversionTypeCode</th>\s*<td[^>]*>sael</td>\s*<td[^>]*>sale</td>", seen)
    assert seen.count('class="key before"') == 1, "only what was changed"
    expect = re.search(r'name="expect" value="(\w+)"', seen)
    assert expect is not None
    wrong = admin.post("/job/edit/redrive", data={**change, "expect": "0", "reason": "a slip"})
    assert (wrong.status_code, shop.state("o-1")) == (400, "dead")
    done = admin.post("/job/edit/redrive", data={**change, "expect": expect[1], "reason": "a slip"})
    assert done.headers["location"] == "/job?id=acme%2Fo-1&done=edited"
    assert shop.state("o-1") == "ready"
    assert b'"conversionTypeCode":"sale"' in shop.claim()[0].body
    assert read_audit_log(shop)[-1]["reason"] == "a slip"


def test_what_breaks_a_rule_is_reported_before_anything_happens(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o-1")
    page = admin.post("/job/edit", data={"id": "acme/o-1", "field.amount.value": "-5"}).text
    assert 'class="problem"' in page
    assert 'action="/job/edit/redrive"' not in page


def test_a_sale_that_was_never_sent_is_cancelled_and_another_is_not(shop: Shop, admin: httpx.Client) -> None:
    shop.sell("o-1")
    assert "Cancel the sale" in admin.get("/job?id=acme/o-1").text
    assert admin.post("/job/cancel", data={"id": "acme/o-1", "reason": "test order"}).status_code == 303
    assert shop.state("o-1") == "cancelled"
    shop.deliver("o-2")
    assert admin.post("/job/cancel", data={"id": "acme/o-2", "reason": "test order"}).status_code == 409


def test_a_discard_is_typed_out(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o-1")
    act = {"id": "acme/o-1", "reason": "test order"}
    assert admin.post("/job/discard", data={**act, "confirm": "o-2"}).status_code == 400
    assert shop.state("o-1") == "dead"
    assert admin.post("/job/discard", data={**act, "confirm": "o-1"}).status_code == 303
    assert shop.state("o-1") == "discarded"


def test_a_tenant_is_paused_with_a_reason_and_resumed(shop: Shop, admin: httpx.Client) -> None:
    shop.sell("o-1")
    assert admin.post("/tenants/pause", data={"tenant": "acme", "reason": ""}).status_code == 400
    assert admin.post("/tenants/pause", data={"tenant": "acme", "reason": "the shop tests"}).status_code == 303
    assert "acme is paused by admin-ann: the shop tests" in admin.get("/").text
    assert shop.claim() == []
    assert admin.post("/tenants/resume", data={"tenant": "acme", "reason": "over"}).status_code == 303
    assert len(shop.claim()) == 1
    assert admin.post("/tenants/pause", data={"tenant": "nobody", "reason": "x"}).status_code == 404


def test_a_job_is_found_from_the_bar_on_top(shop: Shop, admin: httpx.Client) -> None:
    shop.bury("o/1 ü?&#")
    found = admin.get("/find", params={"q": " o/1 ü?&# "})
    assert ">o/1 ü?&amp;#" in admin.get(found.headers["location"]).text
    assert "state=any" in admin.get("/find", params={"q": "nothing"}).headers["location"]


def test_letters_are_taken_out_whole_by_an_admin_and_that_is_on_record(shop: Shop, admin: httpx.Client) -> None:
    shop.bury(*(f"o-{number}" for number in range(30)), customerId="jane@example.com")
    shop.bury("other", tenant="bert")
    asked = {"filter_tenant": "acme", "format": "jsonl", "reason": "the API stays shut"}
    taken = admin.post("/dead/export", data=asked)
    assert len(taken.text.splitlines()) == 30
    assert taken.text.count("jane@example.com") == 30
    assert taken.headers["content-disposition"] == 'attachment; filename="dead-letters.jsonl"'
    assert admin.post("/dead/export", data={**asked, "format": "csv"}).text.startswith("tenant,")
    assert admin.post("/dead/export", data={**asked, "format": "xls"}).status_code == 400
    entries = [entry for entry in read_audit_log(shop) if entry["kind"] == "export"]
    assert [(entry["operator"], entry["phase"]) for entry in entries[:2]] == [
        ("admin-ann", "started"),
        ("admin-ann", "finished"),
    ]


def test_the_log_pages_back_to_its_first_entry(shop: Shop, admin: httpx.Client) -> None:
    shop.sell("o-1")
    for number in range(30):
        tenant_actions.pause(shop, "acme", Operator("ann", f"reason {number}"))
        tenant_actions.resume(shop, "acme", Operator("ann", f"reason {number}"))
    first = admin.get("/log").text
    assert "reason 29" in first
    older = re.search(r'href="(/log\?before=\d+)"', first)
    assert older is not None
    assert "reason 0<" in admin.get(older[1]).text
    assert len(admin.get("/log/export").text.splitlines()) == 60


STRANGE_ENTRIES = (
    *(b"{no json", b"[1,2]", b'"\xff"', b"[" * 100_000, b"{}", b'{"at_ms":"soon","jobs":5,"count":true,"money":7}'),
    *(b'{"at_ms":1e300}', b'{"at_ms":99999999999999999}', b'{"at_ms":-99999999999999999}', b'{"money":{"EUR":NaN}}'),
)


def test_the_log_shows_entries_that_something_else_wrote_and_those_beside_them(
    shop: Shop, console: Console, admin: httpx.Client
) -> None:
    shop.sell("o-1")
    tenant_actions.pause(shop, "acme", Operator("ann", "wrong prices"))
    shop.client.rpush(shop.keys.audit_log, *STRANGE_ENTRIES)
    with console.api("admin") as api:
        for found in (admin.get("/log"), api.get("/api/v1/log")):
            assert (found.status_code, "wrong prices" in found.text) == (200, True), found.url


def test_while_the_store_is_away_pages_say_so(own_server: EmbeddedServer, tmp_path: Path) -> None:
    with console_on(own_server, Keys("x"), tmp_path / "people") as console, console.signed_in("viewer") as viewer:
        own_server.kill()
        page = viewer.get("/")
        assert (page.status_code, "the store cannot be reached" in page.text.lower()) == (503, True)
        with console.api("viewer") as api:
            assert api.get("/api/v1/status").json()["error"] == "unavailable"
