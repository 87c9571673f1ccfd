"""From values to HTML. Everything is escaped; what a template forgets to be given is an error, not a blank."""

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from trackdesk_producer.contract.record import NO_CURRENCY
from trackdesk_worker.console import spark
from trackdesk_worker.console.auth import Method, Principal, RequestContext
from trackdesk_worker.domain.money import readable_money
from trackdesk_worker.ops.timestamps import iso, readable_age, readable_moment

ASSETS: Mapping[str, str] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file that is served as it is; a path names one of these or nothing."""

NAVIGATION = (
    ("/", "Overview"),
    ("/dead", "Dead letters"),
    ("/causes", "Causes"),
    ("/plans", "Plans"),
    ("/tenants", "Tenants"),
    ("/log", "Audit log"),
)

SAID: Mapping[str, str] = {
    "paused": "The tenant is paused. Requests in flight end; nothing new is sent until somebody resumes it.",
    "resumed": "The tenant goes on.",
    "unchanged": "Nothing had to be changed.",
    "redriven": "The job is ready again, with a fresh attempt budget.",
    "edited": "The change is stored and on record, and the job is ready again.",
    "cancelled": "The job is cancelled: it will not be sent.",
    "discarded": "The job is given up for good.",
    "created": "The list is frozen. Nothing has been done yet: start the plan below.",
    "started": "The plan was started.",
    "plan-paused": "The plan was paused. What was moved already goes on.",
    "plan-resumed": "The plan was resumed.",
    "plan-cancelled": "The plan was cancelled. What was moved already stays moved.",
    "signed-out": "You are signed out.",
}
"""What a page says after an act, by the word in its address: never text from the address itself."""


@cache
def asset(name: str) -> bytes:
    """Return a file of `ASSETS`."""
    return files(__package__).joinpath("static", name).read_bytes()


@cache
def _asset_url(name: str) -> str:
    return f"/static/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


def page(request: RequestContext, template: str, *, http_status: int = 200, **values: Any) -> Response:
    """Return a page."""
    said = SAID.get(request.query.get("done", ""))
    html = (
        _environment()
        .get_template(template)
        .render(principal=request.principal_or_none, path=request.path, said=said, **values)
    )
    return HTMLResponse(html, http_status)


def problem(status: int, sentence: str, principal: Principal | None, path: str) -> Response:
    """Return the page that says why there is none."""
    html = (
        _environment()
        .get_template("problem.html")
        .render(principal=principal, path=path, said=None, status=status, sentence=sentence)
    )
    return HTMLResponse(html, status)


def go_to(path: str, **query: str | None) -> Response:
    """Send the browser on after an act, so that reloading does not repeat it."""
    return RedirectResponse(address(path, **query), 303)


def address(path: str, **query: object) -> str:
    """Return a path with its query; None leaves a name out."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "count": lambda number: f"{number:,}",
        "rate": lambda value: "–" if value is None else f"{value:,.0f}",
        "money": readable_money,
        "amounts": _amounts,
        "age": readable_age,
        "moment": _moment,
        "iso": iso,
        "words": lambda text: str(text).replace("_", " "),
    }
    made.globals |= {
        "navigation": NAVIGATION,
        "asset": _asset_url,
        "address": address,
        "Method": Method,
        "spark_lines": spark.lines,
        "SPARK_WIDTH": spark.WIDTH,
        "SPARK_HEIGHT": spark.HEIGHT,
    }
    return made


def _moment(at_ms: int, now_ms: int | None = None) -> Markup:
    """Return a time in UTC for people and machines, with how long ago or ahead it is."""
    hint = ""
    if now_ms is not None:
        apart_s = (now_ms - at_ms) / 1000
        hint = f"{readable_age(apart_s)} ago" if apart_s >= 0 else f"in {readable_age(-apart_s)}"
    made = Markup('<time datetime="{}">{}</time>').format(iso(at_ms), readable_moment(at_ms))
    return made + Markup(' <span class="ago">{}</span>').format(hint) if hint else made


def _amounts(money: Mapping[str, Decimal], most: int = 3) -> list[str]:
    """Return each currency's sum, the largest currencies by name first cut after `most`, then how many more."""
    parts = [readable_money({currency: amount}) for currency, amount in sorted(money.items(), key=_by_size)]
    if len(parts) > most:
        return [*parts[:most], f"and {len(parts) - most} more currencies"]
    return parts


def _by_size(item: tuple[str, Decimal]) -> tuple[bool, Decimal]:
    return item[0] == NO_CURRENCY, -item[1]
