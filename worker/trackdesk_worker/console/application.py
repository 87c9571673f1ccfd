"""The console as an ASGI application: its routes, and how errors become responses."""

import logging
import time
from collections.abc import Callable, Sequence

import redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from trackdesk_worker.console import rendering
from trackdesk_worker.console.access import AccessInvalid
from trackdesk_worker.console.api import ROOT
from trackdesk_worker.console.api.serving import api_routes
from trackdesk_worker.console.api.serving import problem as api_problem
from trackdesk_worker.console.auth import Authenticator, Refused, Rules, SignInNeeded
from trackdesk_worker.console.context import Deployment
from trackdesk_worker.console.pages import Page, dead, edit, job, log, overview, plans, sign_in, tenants
from trackdesk_worker.console.security_headers import SecurityHeaders
from trackdesk_worker.ops.audit_log import OperatorInvalid
from trackdesk_worker.ops.errors import OpsError
from trackdesk_worker.ops.lookup import SaleUnknown
from trackdesk_worker.ops.plans import PlanUnknown
from trackdesk_worker.ops.tenant_actions import TenantUnknown

PAGES: Sequence[Page] = (
    *overview.PAGES,
    *dead.PAGES,
    *job.PAGES,
    *edit.PAGES,
    *plans.PAGES,
    *tenants.PAGES,
    *log.PAGES,
)
"""Every page that requires a role."""

logger = logging.getLogger(__name__)


def console_routes(
    deployment: Deployment, rules: Rules, *, clock: Callable[[], float] = time.monotonic
) -> list[BaseRoute]:
    """Return the console's routes; the exporter serves them beside metrics and health."""
    authenticator = Authenticator(rules, clock=clock)

    async def absent(request: Request, _: Exception) -> Response:
        return _no(request, authenticator, 404, "this page does not exist")

    async def method_not_allowed(request: Request, _: Exception) -> Response:
        made = _no(request, authenticator, 405, f"this address does not support {request.method}")
        made.headers["Allow"] = ", ".join(sorted(_methods(app.routes, request.url.path)))
        return made

    app = Starlette(
        routes=[
            *(_route(deployment, authenticator, page) for page in PAGES),
            *sign_in.routes(authenticator),
            *api_routes(deployment, authenticator, explain),
            Route("/static/{name}", _static),
        ],
        middleware=[Middleware(SecurityHeaders, site=rules.site)],
        exception_handlers={404: absent, 405: method_not_allowed},
    )
    app.router.redirect_slashes = False
    return [Mount("/", app=app)]


def _methods(routes: Sequence[BaseRoute], path: str) -> set[str]:
    """Return the methods of a path, over all routes that match it."""
    matching = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    return {method for route in matching for method in route.methods or ()}


def _no(request: Request, authenticator: Authenticator, status: int, sentence: str) -> Response:
    if request.url.path.startswith(ROOT):
        return api_problem(status, sentence)
    return rendering.problem(status, sentence, authenticator.peek(request), request.url.path)


def _route(deployment: Deployment, authenticator: Authenticator, page: Page) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            checked = await authenticator.admit(request, page.role, api=False)
            return await authenticator.run(lambda: page.handler(deployment, checked))
        except SignInNeeded:
            return sign_in.needed(request, authenticator)
        except Exception as error:
            return refusal(error, request, authenticator)

    return Route(page.path, endpoint, methods=[page.method], name=f"{page.method} {page.path}")


def refusal(error: Exception, request: Request, authenticator: Authenticator) -> Response:
    """Return the error page. An unexpected error is logged with its traceback; the page does not show it."""
    status, sentence, headers = explain(error)
    made = rendering.problem(status, sentence, authenticator.peek(request), request.url.path)
    made.headers.update(headers)
    return made


def explain(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Return the HTTP status, the message and the headers for an error."""
    match error:
        case Refused():
            return error.status, error.sentence, error.headers
        case SaleUnknown() | TenantUnknown() | PlanUnknown():
            return 404, str(error), {}
        case AccessInvalid():
            return 503, "the console's token file is invalid; see the console's log", {}
        case OpsError() | OperatorInvalid():
            return 400, str(error), {}
        case redis.RedisError():
            logger.warning("the store did not answer a request: %s", type(error).__name__)
            return 503, "the store cannot be reached; deliveries resume when it is back, then reload this page", {}
        case _:
            logger.error("a request failed", exc_info=error)
            return 500, "an internal error occurred; see the console's log", {}


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in rendering.ASSETS or request.method not in ("GET", "HEAD"):
        raise HTTPException(404)
    headers = {"Cache-Control": "public, max-age=86400"}
    return Response(rendering.asset(name), media_type=rendering.ASSETS[name], headers=headers)
