"""From "alert: dead letters growing" to "cause fixed, redriven, verified", in a browser, with the console only.

`make screenshots` takes the pictures of docs/guides/dead-letters.md from here.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.console import CHROMIUM_FLAGS, Console, chromium, console_on
from tests.support.reads import read_audit_log
from tests.support.shop import sale
from tests.support.simulator import SimulatorProcess, simulator_process
from tests.support.waiting import wait_until
from tests.support.walk import PHONE, WIDE, Visitor, visitor
from tests.support.workers import Deployment, deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.ops.audit import audit

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SUMMER = [f"order-{number}" for number in range(1001, 1042)]
"""Sales of a conversion type that nobody has created in Trackdesk yet."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
        yield running
        running.close()


class Scene:
    """An incident: a shop sells with a type that Trackdesk does not know."""

    def __init__(self, run: Deployment, trackdesk: SimulatorProcess, console: Console) -> None:
        self.run = run
        self.trackdesk = trackdesk
        self.console = console

    def fix(self) -> None:
        """Create the conversion type in Trackdesk."""
        self.trackdesk.configure({"types": {"sale": {}, "summer": {}}})


@pytest.fixture
def scene(valkey: EmbeddedServer, keys: Keys, tmp_path: Path) -> Iterator[Scene]:
    with (
        simulator_process() as trackdesk,
        deployment(valkey, keys, tmp_path, trackdesk.base_url) as run,
        console_on(valkey, keys, tmp_path / "people") as console,
    ):
        for number in range(60):
            assert run.producer.enqueue(sale(f"good-{number}", amount={"value": f"{20 + number}.90"})).ok
        for number, external_id in enumerate(SUMMER):
            amount = {"value": f"{900 + 13 * number}.{10 + number}"}
            body = sale(external_id, conversionTypeCode="summer", amount=amount, customerId="jane@example.com")
            assert run.producer.enqueue(body).ok
        for number in range(3):
            assert run.producer.enqueue(sale(f"b-{number}", cid=f"blocked-{number}"), tenant="bert").ok
        run.start_worker()
        wait_until(lambda: run.unfinished() == 0, "the incident has happened")
        yield Scene(run, trackdesk, console)


def sign_in(person: Visitor, console: Console, role: str) -> None:
    person.open("/causes")  # the link in the alert
    person.fill("Token", console.tokens[role])
    person.click("button", "Sign in")
    assert person.page.url.endswith("/causes")


@pytest.mark.parametrize(
    ("javascript", "size", "theme"),
    [(True, WIDE, "light"), (False, PHONE, "dark")],
    ids=["desk", "phone-without-script"],
)
def test_from_the_alert_to_fixed_redriven_and_verified(
    browser: Browser, scene: Scene, javascript: bool, size: tuple[int, int], theme: str
) -> None:
    run, console = scene.run, scene.console
    with visitor(browser, console.origin, javascript=javascript, size=size, theme=theme) as ann:  # type: ignore[arg-type]
        sign_in(ann, console, "operator")

        # What is wrong, and what to do about it.
        ann.click("link", "Overview")
        ann.wait_for("44 dead letters need a decision")
        if javascript:
            ann.picture("overview")
        ann.click("link", "View them by cause, with the fix for each.")
        first = ann.page.locator(".cause-card").first
        assert "Type not found" in first.inner_text()
        assert "41 sales" in first.inner_text()
        assert "Create the conversion type in Trackdesk" in first.inner_text()
        if javascript:
            ann.picture("causes")

        # One of them whole; the cause is fixed; this one is redriven first.
        ann.click("link", "View an example", first=True)
        assert "rejected: type not found" in ann.page.locator("main").inner_text()
        assert "jane@example.com" not in ann.page.content()
        if javascript:
            ann.picture("job")
        scene.fix()
        ann.fill("Reason", "trying one after the type was created", within="form[action='/job/redrive']")
        ann.click("button", "Redrive")
        one = ann.page.locator("h1").inner_text().split()[0]
        wait_until(lambda: run.producer.get(one).state == "delivered", "the first one is delivered")

        # The others as a plan.
        ann.click("link", "Causes")
        ann.click("link", "Redrive these sales", first=True)
        assert "40" in ann.page.locator("main").inner_text()
        if javascript:
            ann.picture("plan-new")
        ann.fill("Name, for example of the incident", "Type summer was missing")
        ann.fill("Reason", "the type exists since 11:20, one sale was tried")
        ann.click("button", "Review 40 sales")
        ann.wait_for("The list is frozen.")
        ann.click("button", "Start")
        ann.wait_for("40 of 40 decided, 40 redriven")
        ann.wait_for("delivered", within="#now")
        wait_until(lambda: run.unfinished() == 0, "all are delivered")
        ann.page.reload()
        assert ann.page.locator("#now tbody").inner_text().split() == ["delivered", "40"]
        assert "finished" in ann.page.locator("#progress").inner_text()
        if javascript:
            ann.picture("plan")

        # Verified: nothing of that cause is left, and the log says who did what.
        ann.click("link", "Causes")
        assert "Type not found" not in ann.page.locator("main").inner_text()
        ann.click("link", "Audit log")
        said = ann.page.locator("main").inner_text()
        assert "the type exists since 11:20" in said
        assert "operator-ann" in said
        if javascript:
            ann.picture("log")

    assert scene.trackdesk.exactly_once([*SUMMER, *(f"good-{n}" for n in range(60))], tenant="acme").ok
    assert audit(run.store).discrepancies == ()
    assert {entry["operator"] for entry in read_audit_log(run.store)} == {"operator-ann"}


def test_the_walk_can_be_done_by_keyboard_alone(browser: Browser, scene: Scene) -> None:
    with visitor(browser, scene.console.origin) as ann:
        sign_in(ann, scene.console, "operator")
        scene.fix()
        keyboard = ann.page.keyboard

        def focus() -> str:
            said: str = ann.page.evaluate(
                "() => { const e = document.activeElement; return (e.labels?.[0] ?? e).textContent.trim() }"
            )
            return said

        def tab_to(name: str) -> None:
            for _ in range(40):
                keyboard.press("Tab")
                if focus().startswith(name):
                    outline = ann.page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                    assert outline == "solid", f"the focus on {name!r} cannot be seen"
                    return
            raise AssertionError(f"no way to {name!r} by the tab key")

        ann.open("/causes")
        keyboard.press("Tab")
        assert focus() == "Skip to content"
        keyboard.press("Enter")
        tab_to("Redrive these sales")
        keyboard.press("Enter")
        ann.wait_for("Preview")
        tab_to("Name")
        keyboard.type("Type summer was missing")
        tab_to("Reason")
        keyboard.type("the type exists now")
        keyboard.press("Enter")
        ann.wait_for("The list is frozen")
        tab_to("Start")
        keyboard.press("Enter")
        ann.wait_for("41 of 41 decided, 41 redriven")


def test_every_page_is_fit_for_a_phone_and_for_the_dark(browser: Browser, scene: Scene) -> None:
    pages = ["/", "/dead?order=largest", "/causes", "/plans", "/plans/new?reason=type_not_found", "/tenants", "/log"]
    pages += ["/job?id=acme/order-1001", "/job?id=acme/good-1", "/nothing-there", "/job?id=acme/nobody"]
    for size, theme in ((PHONE, "light"), (WIDE, "dark")):
        with visitor(browser, scene.console.origin, size=size, theme=theme) as ann:  # type: ignore[arg-type]
            sign_in(ann, scene.console, "admin")
            for path in pages:
                ann.page.goto(scene.console.origin + path)
                ann.complaints[:] = [said for said in ann.complaints if "404" not in said]
                ann.check()
                if path == "/" and size == PHONE:
                    ann.picture("phone")
                if path == "/dead?order=largest" and size == WIDE:
                    ann.picture("dead-dark")
