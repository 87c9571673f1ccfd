"""Who gets into the console, and what they may do there, on the running server."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from starlette.routing import BaseRoute, Mount, Route

from tests.support.console import Console, console_on
from tests.support.reads import read_audit_log
from tests.support.shop import Shop
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.console import application
from trackdesk_worker.console.access import AccessInvalid, Role, grant, read_people, revoke
from trackdesk_worker.console.auth import MAX_BODY_BYTES
from trackdesk_worker.local.embedded import EmbeddedServer

OPEN = {
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("POST", "/sign-out"),
    ("GET", "/static/{name}"),
    ("GET", "/api/v1/openapi.json"),
}
"""What needs no right."""

RULES = {
    ("GET", "/"): "viewer",
    ("GET", "/dead"): "viewer",
    ("POST", "/dead/person"): "operator",
    ("POST", "/dead/export"): "admin",
    ("GET", "/causes"): "viewer",
    ("GET", "/find"): "viewer",
    ("GET", "/job"): "viewer",
    ("POST", "/job/reveal"): "operator",
    ("POST", "/job/redrive"): "operator",
    ("GET", "/job/edit"): "operator",
    ("POST", "/job/edit"): "operator",
    ("POST", "/job/edit/redrive"): "operator",
    ("POST", "/job/cancel"): "operator",
    ("POST", "/job/discard"): "admin",
    ("GET", "/plans"): "viewer",
    ("GET", "/plans/new"): "operator",
    ("POST", "/plans"): "operator",
    ("GET", "/plan"): "viewer",
    ("POST", "/plan/start"): "operator",
    ("POST", "/plan/pause"): "operator",
    ("POST", "/plan/resume"): "operator",
    ("POST", "/plan/cancel"): "operator",
    ("GET", "/tenants"): "viewer",
    ("POST", "/tenants/pause"): "operator",
    ("POST", "/tenants/resume"): "operator",
    ("GET", "/log"): "viewer",
    ("GET", "/log/export"): "operator",
    ("GET", "/api/v1/status"): "viewer",
    ("GET", "/api/v1/tenants"): "viewer",
    ("POST", "/api/v1/tenants/{tenant}/pause"): "operator",
    ("POST", "/api/v1/tenants/{tenant}/resume"): "operator",
    ("POST", "/api/v1/jobs/search"): "viewer",
    ("POST", "/api/v1/causes"): "viewer",
    ("POST", "/api/v1/dead/export"): "admin",
    ("GET", "/api/v1/job"): "viewer",
    ("POST", "/api/v1/job/reveal"): "operator",
    ("POST", "/api/v1/job/redrive"): "operator",
    ("POST", "/api/v1/job/edit-preview"): "operator",
    ("POST", "/api/v1/job/edit"): "operator",
    ("POST", "/api/v1/job/cancel"): "operator",
    ("POST", "/api/v1/job/discard"): "admin",
    ("GET", "/api/v1/plans"): "viewer",
    ("POST", "/api/v1/plan-preview"): "viewer",
    ("POST", "/api/v1/plans"): "operator",
    ("GET", "/api/v1/plans/{plan}"): "viewer",
    ("GET", "/api/v1/plans/{plan}/items"): "viewer",
    ("POST", "/api/v1/plans/{plan}/start"): "operator",
    ("POST", "/api/v1/plans/{plan}/pause"): "operator",
    ("POST", "/api/v1/plans/{plan}/resume"): "operator",
    ("POST", "/api/v1/plans/{plan}/cancel"): "operator",
    ("GET", "/api/v1/log"): "viewer",
    ("GET", "/api/v1/log/export"): "operator",
}
"""Every page and act, and who may: written down here by hand, so that a new one without a rule fails."""

ROLES = ("viewer", "operator", "admin")


class Served:
    """A console with people, on a namespace of its own, and the shop behind it."""

    def __init__(self, console: Console, shop: Shop, file: Path) -> None:
        self.console = console
        self.shop = shop
        self.file = file


@pytest.fixture(scope="module")
def served(valkey: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    keys, file = Keys(f"test-{uuid.uuid4().hex[:12]}"), tmp_path_factory.mktemp("access") / "people"
    with redis.Redis(port=valkey.port) as client, console_on(valkey, keys, file) as console:
        shop = Shop(valkey, client, keys)
        shop.bury("dead-1", customerId="jane@example.com", customParams={"advS1": "Jane Doe"})
        yield Served(console, shop, file)


def methods_of(routes: list[BaseRoute]) -> set[tuple[str, str]]:
    found = set()
    for route in routes:
        if isinstance(route, Mount):
            found |= methods_of(list(route.routes))
        else:
            assert isinstance(route, Route)
            found |= {(method, route.path) for method in (route.methods or {"GET"}) - {"HEAD"}}
    return found


def ask(client: httpx.Client, method: str, path: str) -> httpx.Response:
    path = path.replace("{plan}", "none").replace("{tenant}", "acme").replace("{verb}", "start")
    if path.startswith("/api/") and method == "POST":
        return client.request(method, path, json={})
    return client.request(method, path)


def test_every_route_has_a_rule_and_every_rule_a_route(served: Served) -> None:
    routes = application.console_routes(None, application.Rules(None, None, "", Role.VIEWER, None))  # type: ignore[arg-type, attr-defined]
    assert methods_of(routes) == RULES.keys() | OPEN


@pytest.mark.parametrize("rule", RULES, ids=" ".join)
def test_nobody_gets_anything_without_a_proof(served: Served, rule: tuple[str, str]) -> None:
    with served.console.client(headers={"Origin": served.console.origin}) as nobody:
        answer = ask(nobody, *rule)
        if rule[0] == "GET" and not rule[1].startswith("/api/"):
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in?next=")
        else:
            assert answer.status_code == 401
        assert "dead-1" not in answer.text


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_its_rule_says_and_nothing_else(served: Served, role: str) -> None:
    with served.console.signed_in(role) as pages, served.console.api(role) as api:
        for rule, wanted in RULES.items():
            answer = ask(api if rule[1].startswith("/api/") else pages, *rule)
            if ROLES.index(role) < ROLES.index(wanted):
                assert answer.status_code == 403, rule
                assert f"needs the role {wanted}" in answer.text
            else:
                assert answer.status_code not in (401, 403, 500), (rule, answer.text)


def test_a_viewer_is_offered_nothing_that_would_be_refused(served: Served) -> None:
    with served.console.signed_in("viewer") as viewer:
        for path in ("/tenants", "/job?id=acme/dead-1"):
            assert 'method="post"' not in viewer.get(path).text.replace('action="/sign-out" method="post"', "")
    with served.console.signed_in("operator") as operator:
        page = operator.get("/job?id=acme/dead-1").text
        assert "/job/redrive" in page
        assert "/job/discard" not in page


def test_personal_data_is_shown_only_when_asked_for_and_the_asking_is_on_record(served: Served) -> None:
    with served.console.signed_in("operator") as operator:
        before = operator.get("/job?id=acme/dead-1").text
        shown = operator.post("/job/reveal", data={"id": "acme/dead-1", "reason": "ticket 7"}).text
        for secret in ("jane@example.com", "Jane Doe"):
            assert secret not in before
            assert secret in shown
        refused = operator.post("/job/reveal", data={"id": "acme/dead-1", "reason": " "})
        assert refused.status_code == 400
        assert "jane@example.com" not in refused.text
    entry = read_audit_log(served.shop)[-1]
    assert (entry["kind"], entry["operator"], entry["reason"]) == ("reveal", "operator-ann", "ticket 7")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "own"},
        {},
    ],
    ids=str,
)
def test_a_form_from_any_other_page_changes_nothing(served: Served, headers: dict[str, str]) -> None:
    with served.console.signed_in("admin") as admin:
        del admin.headers["origin"]
        sent = {name: served.console.origin if value == "own" else value for name, value in headers.items()}
        for path, form in (
            ("/job/redrive", {"id": "acme/dead-1", "reason": "x"}),
            ("/job/reveal", {"id": "acme/dead-1", "reason": "x"}),
            ("/tenants/pause", {"tenant": "acme", "reason": "x"}),
            ("/sign-in", {"token": served.console.tokens["admin"]}),
            ("/sign-out", {}),
        ):
            answer = admin.post(path, data=form, headers=sent)
            assert answer.status_code == 403, path
            assert "set-cookie" not in answer.headers
        assert admin.get("/").status_code == 200
    assert served.shop.state("dead-1") == "dead"


def test_a_page_of_ours_is_believed_by_either_header(served: Served) -> None:
    with served.console.signed_in("operator") as operator:
        del operator.headers["origin"]
        for proof in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": served.console.origin}):
            answer = operator.post("/tenants/resume", data={"tenant": "acme", "reason": "x"}, headers=proof)
            assert answer.status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "localhost.evil.example", "127.0.0.1@evil.example"]
)
def test_another_name_that_points_here_is_not_answered(served: Served, host: str) -> None:
    with served.console.signed_in("viewer") as viewer:
        assert viewer.get("/", headers={"Host": host}).status_code in (400, 421)
    with served.console.client() as client:
        assert client.get("/metrics", headers={"Host": host or "x"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../access.py",
        "/static/%2e%2e/access.py",
        "/static/..%2f..%2fsettings.py",
        "/static/console.css%00.py",
        "//evil.example/",
        "/job/../../../../etc/passwd",
        "/%00",
        "/static/",
        "/..%5c..%5cetc",
    ],
)
def test_paths_lead_nowhere_but_to_pages(served: Served, path: str) -> None:
    with served.console.signed_in("admin") as admin:
        answer = admin.send(admin.build_request("GET", served.console.origin + path))
        assert answer.status_code in (400, 404)
        assert "import" not in answer.text
        assert "root:" not in answer.text


@pytest.mark.parametrize(
    "identity",
    ["acme/" + "x" * 3000, "../../x", "acme/../bert/dead-1", "acme/\x00", "acme", "/", "{x}:job:acme/dead-1", "ACME/é"],
)
def test_a_job_that_is_not_there_is_said_so_whatever_its_name(served: Served, identity: str) -> None:
    with served.console.signed_in("admin") as admin:
        assert admin.get("/job", params={"id": identity}).status_code == 404


def test_large_forms_are_refused_before_they_are_read(served: Served) -> None:
    with served.console.signed_in("operator") as operator:
        large = "id=" + "x" * MAX_BODY_BYTES
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert operator.post("/job/redrive", content=large, headers=form).status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(100):
                yield b"x" * 4096

        assert operator.post("/job/redrive", content=endless(), headers=form).status_code == 413
        assert operator.post("/job/redrive", content="&".join(["a=1"] * 500), headers=form).status_code == 400
        assert operator.post("/job/redrive", content=b"id=%ff%fe", headers=form).status_code == 400
        multipart = operator.post("/job/redrive", files={"id": ("x", b"y")})
        assert multipart.status_code == 415


def test_every_answer_carries_the_policy(served: Served) -> None:
    with served.console.signed_in("viewer") as viewer, served.console.client() as nobody:
        answers = [viewer.get(path) for path in ("/", "/job?id=acme/dead-1", "/nothing-there", "/static/console.js")]
        answers += [nobody.get("/"), nobody.get("/sign-in"), nobody.post("/job/redrive"), viewer.put("/")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        if not str(answer.url).endswith("console.js"):
            assert answer.headers["cache-control"] == "no-store"


def test_the_session_is_opaque_and_out_of_reach_of_scripts_and_other_sites(served: Served) -> None:
    with served.console.client(headers={"Origin": served.console.origin}) as client:
        cookie = client.post("/sign-in", data={"token": served.console.tokens["viewer"]}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie  # plain HTTP on loopback; the proxy's test has it
        assert "viewer" not in cookie
        assert client.get("/").status_code == 200
        assert client.post("/sign-out").status_code == 303
        client.cookies.set("trackdesk_session", cookie.partition("=")[2].partition(";")[0])
        assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "to", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/\n/x"]
)
def test_signing_in_never_leads_to_another_site(served: Served, to: str) -> None:
    with served.console.client(headers={"Origin": served.console.origin}) as client:
        answer = client.post("/sign-in", data={"token": served.console.tokens["viewer"], "next": to})
        assert answer.headers["location"] == "/"


def test_a_link_from_an_alert_finds_the_session_that_is_there(served: Served) -> None:
    with served.console.client() as nobody:
        page = nobody.get("/causes?x=1", headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code in (200, 404)
    with served.console.client() as nobody:
        page = nobody.get("/tenants?find=acme", headers={"Sec-Fetch-Site": "cross-site"})
    assert page.status_code == 200
    assert 'content="0;url=/tenants?find=acme"' in page.text


def test_a_token_taken_away_ends_its_sessions_and_a_wrong_file_lets_nobody_in(
    valkey: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    file = tmp_path / "people"
    with console_on(valkey, keys, file) as console, console.signed_in("viewer") as viewer, console.api("admin") as api:
        assert viewer.get("/").status_code == 200
        assert revoke(file, "viewer-ann")
        assert viewer.get("/").status_code == 303
        file.write_text("ann owner x y\n")
        with console.client(headers={"Origin": console.origin}) as client:
            answer = client.post("/sign-in", data={"token": console.tokens["admin"]})
        assert answer.status_code == 503
        file.unlink()
        assert api.get("/api/v1/status").status_code == 503


def test_guessing_is_slowed_down(valkey: EmbeddedServer, keys: Keys, tmp_path: Path) -> None:
    with console_on(valkey, keys, tmp_path / "people") as console, console.client() as client:
        form = {"Origin": console.origin}
        tried = [client.post("/sign-in", data={"token": f"tdk_{i}"}, headers=form).status_code for i in range(12)]
        assert tried == [401] * 10 + [429] * 2
        last = client.get("/api/v1/status", headers={"Authorization": "Bearer tdk_x"})
        assert last.status_code == 429
        assert int(last.headers["retry-after"]) > 0


def test_a_proxy_is_believed_only_from_its_address(valkey: EmbeddedServer, keys: Keys, tmp_path: Path) -> None:
    named = {"X-Forwarded-User": "ann"}
    with console_on(valkey, keys, console_proxies="10.9.8.7") as console, console.client(headers=named) as client:
        assert client.get("/").status_code == 401
        assert client.get("/api/v1/status").status_code == 401
    file = tmp_path / "people"
    grant(file, "ann", Role.ADMIN, with_token=False)
    given: dict[str, Any] = {"console_proxies": "127.0.0.0/8", "console_url": "https://desk.example.com"}
    with console_on(valkey, keys, file, **given) as console, console.client() as client:
        for forged in ([], [("x-forwarded-user", "ann"), ("x-forwarded-user", "bea")], [("x-forwarded-user", "<b>")]):
            assert client.get("/", headers=forged).status_code == 303
        page = client.get("/", headers={**named, "Host": "desk.example.com"})
        assert page.status_code == 200
        assert "admin" in page.text
        assert "viewer" in client.get("/", headers={"X-Forwarded-User": "bea"}).text
        form = {**named, "Origin": "https://desk.example.com"}
        assert (
            client.post("/sign-in", data={"token": console.tokens["viewer"]}, headers=form)
            .headers["set-cookie"]
            .endswith("; Secure")
        )


def test_without_tokens_only_this_machine_gets_in_and_never_through_a_proxy(valkey: EmbeddedServer, keys: Keys) -> None:
    with console_on(valkey, keys) as console, console.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "everyone on this machine acts as the operator <strong>ann</strong>" in page.text
        for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"):
            assert client.get("/", headers={header: "192.0.2.1"}).status_code == 403
        assert client.post("/job/discard", headers={"Origin": console.origin}).status_code == 403
        # A program on this machine needs no token; a page of another site in its browser is no program.
        assert client.get("/api/v1/status").status_code == 200
        answer = client.post(
            "/api/v1/tenants/acme/pause", json={"reason": "x"}, headers={"Origin": "https://evil.example"}
        )
        assert answer.status_code == 403


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ann viewer", "expected `name role sha256 created`"),
        ("ann owner - now", "the role is one of"),
        ("ann viewer abc now", "SHA-256"),
        ("an/n viewer - now", "a name has 1 to 64"),
        ("ann viewer - now\nann admin - now", "is listed twice"),
    ],
)
def test_a_wrong_line_of_the_file_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "people"
    file.write_text(line)
    with pytest.raises(AccessInvalid, match=said):
        read_people(file)


def test_the_file_holds_no_token_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "people"
    first, second = grant(file, "ann", Role.VIEWER), grant(file, "ann", Role.ADMIN)
    assert first != second
    assert str(second) not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_people(file).by_name["ann"].role is Role.ADMIN
    file.chmod(0o620)
    with pytest.raises(AccessInvalid, match="chmod go-w"):
        read_people(file)
