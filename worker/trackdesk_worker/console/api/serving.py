"""Converts requests to calls and results to responses. Every error has the shape of `ErrorBody`."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trackdesk_producer.conversion.rules import check_tenant
from trackdesk_producer.errors import ConversionInvalid
from trackdesk_worker.console.api import ROOT, Call, Endpoint, jobs, plans, state
from trackdesk_worker.console.api.models import ErrorBody, ResponseModel
from trackdesk_worker.console.api.openapi import document
from trackdesk_worker.console.auth import MAX_FIELDS, SAFE, Authenticator, Refused, RequestContext
from trackdesk_worker.console.context import Deployment

ENDPOINTS: Sequence[Endpoint] = (*state.ENDPOINTS, *jobs.ENDPOINTS, *plans.ENDPOINTS)

ERROR_CODES = {
    400: "invalid", 401: "unauthenticated", 403: "forbidden", 404: "not_found",
    405: "method_not_allowed", 408: "request_timeout",
    409: "conflict", 413: "too_large", 415: "wrong_type", 429: "rate_limited", 503: "unavailable",
}  # fmt: skip

Explain = Callable[[Exception], tuple[int, str, dict[str, str]]]


def api_routes(deployment: Deployment, authenticator: Authenticator, explain: Explain) -> list[Route]:
    """Return the routes of the API; `explain` gives the status, message and headers of an error."""
    routes = [_route(deployment, authenticator, endpoint, explain) for endpoint in ENDPOINTS]
    return [*routes, Route(f"{ROOT}/openapi.json", _document, methods=["GET"])]


def problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error response."""
    body = ErrorBody(error=ERROR_CODES.get(status, "failed"), message=sentence)
    return JSONResponse(body.model_dump(), status, headers=headers)


@cache
def openapi() -> dict[str, Any]:
    """Return the API's OpenAPI document."""
    return document(ENDPOINTS, version=version("trackdesk-worker"))


async def _document(_: Request) -> Response:
    return JSONResponse(openapi())


def _route(deployment: Deployment, authenticator: Authenticator, endpoint: Endpoint, explain: Explain) -> Route:
    async def serve(request: Request) -> Response:
        try:
            checked = await authenticator.admit(request, endpoint.role, api=True)
            call = _call(endpoint, request, checked)
            return _answer(await authenticator.run(lambda: endpoint.handler(deployment, call)))
        except Exception as error:
            return problem(*explain(error))

    return Route(ROOT + endpoint.path, serve, methods=[endpoint.method], name=f"{endpoint.method} {endpoint.path}")


def _answer(made: ResponseModel | Response) -> Response:
    if isinstance(made, Response):
        return made
    return Response(made.model_dump_json(), media_type="application/json")


def _call(endpoint: Endpoint, request: Request, checked: RequestContext) -> Call:
    """Validate path, query and body.

    Raises:
        Refused: a part is invalid.
    """
    path = {name: str(value) for name, value in request.path_params.items()}
    if "tenant" in path:
        try:
            check_tenant(path["tenant"])
        except ConversionInvalid as error:
            raise Refused(404, f"no tenant can have this name: {error}") from error
    query = body = None
    pairs = parse_qsl(checked.raw_query, keep_blank_values=True)[:MAX_FIELDS]
    if endpoint.query is not None:
        if len({name for name, _ in pairs}) != len(pairs):
            raise Refused(400, "the query contains a parameter twice")
        query = _fit(lambda: endpoint.query.model_validate(dict(pairs)) if endpoint.query else None)
    if endpoint.body is not None:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise Refused(415, "send the body as application/json")
        body = _fit(lambda: endpoint.body.model_validate_json(checked.body, strict=True) if endpoint.body else None)
    elif request.method not in SAFE and checked.body:
        raise Refused(400, "this operation takes no body")
    return Call(checked, path, query, body)


def _fit(parse: Callable[[], BaseModel | None]) -> BaseModel | None:
    try:
        return parse()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        sentence = f"{where}: {first['msg']}" if where else first["msg"]
        raise Refused(400, sentence[:1000]) from error


def as_json(value: object) -> str:
    """Return a value as the text of the committed document."""
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
