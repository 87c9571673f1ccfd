"""Renders pages with Jinja. Every value is escaped; a variable that a template lacks is an error, not a blank."""

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
"""The static files, with their content types. No other path is served."""

NAVIGATION = (
    ("/", "Overview"),
    ("/dead", "Dead letters"),
    ("/causes", "Causes"),
    ("/plans", "Plans"),
    ("/tenants", "Tenants"),
    ("/log", "Audit log"),
)

NOTICES: Mapping[str, str] = {
    "paused": "The tenant is paused. Requests in flight complete; nothing new is sent until it is resumed.",
    "resumed": "The tenant is resumed.",
    "unchanged": "Nothing changed: the tenant was in this state already.",
    "redriven": "The job is ready again, with a new set of attempts.",
    "edited": "The correction is stored and recorded in the audit log. The job is ready again.",
    "cancelled": "The job is cancelled: it will not be sent.",
    "discarded": "The job is discarded: it will never be sent.",
    "created": "The plan is created and no sale has changed yet. Review the list, then start the plan.",
    "started": "The plan is started.",
    "plan-paused": "The plan is paused. Jobs that already have a verdict are not affected.",
    "plan-resumed": "The plan is resumed.",
    "plan-cancelled": "The plan is cancelled. Jobs that already have a verdict are not affected.",
    "signed-out": "You are signed out.",
}
"""Notices after an action, by the code in the URL; text from the URL is never shown."""


@cache
def asset(name: str) -> bytes:
    """Return the content of a file of `ASSETS`."""
    return files(__package__).joinpath("static", name).read_bytes()


@cache
def _asset_url(name: str) -> str:
    return f"/static/{name}?v={hashlib.sha256(asset(name)).hexdigest()[:12]}"


def page(request: RequestContext, template: str, *, http_status: int = 200, **values: Any) -> Response:
    """Return a page."""
    notice = NOTICES.get(request.query.get("done", ""))
    html = (
        _environment()
        .get_template(template)
        .render(principal=request.principal_or_none, path=request.path, notice=notice, **values)
    )
    return HTMLResponse(html, http_status)


def problem(status: int, sentence: str, principal: Principal | None, path: str) -> Response:
    """Return the page for a refused or failed request."""
    html = (
        _environment()
        .get_template("problem.html")
        .render(principal=principal, path=path, notice=None, status=status, sentence=sentence)
    )
    return HTMLResponse(html, status)


def go_to(path: str, **query: str | None) -> Response:
    """Redirect after an action, so that reloading the page does not repeat it."""
    return RedirectResponse(address(path, **query), 303)


def address(path: str, **query: object) -> str:
    """Return a path with its query string; parameters that are None are left out."""
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
    """Return a UTC time as a `time` element; with `now_ms`, also how long ago or ahead it is."""
    hint = ""
    if now_ms is not None:
        apart_s = (now_ms - at_ms) / 1000
        hint = f"{readable_age(apart_s)} ago" if apart_s >= 0 else f"in {readable_age(-apart_s)}"
    made = Markup('<time datetime="{}">{}</time>').format(iso(at_ms), readable_moment(at_ms))
    return made + Markup(' <span class="ago">{}</span>').format(hint) if hint else made


def _amounts(money: Mapping[str, Decimal], most: int = 3) -> list[str]:
    """Return one sum per currency, the largest first; beyond `most`, how many more currencies there are."""
    parts = [readable_money({currency: amount}) for currency, amount in sorted(money.items(), key=_by_size)]
    if len(parts) > most:
        return [*parts[:most], f"and {len(parts) - most} more currencies"]
    return parts


def _by_size(item: tuple[str, Decimal]) -> tuple[bool, Decimal]:
    return item[0] == NO_CURRENCY, -item[1]
