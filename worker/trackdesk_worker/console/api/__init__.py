"""The HTTP API under ``/api/v1``: the pages' functions as JSON. The OpenAPI document is generated from the models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from starlette.responses import Response

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.api.models import RequestModel, ResponseModel
from trackdesk_worker.console.auth import RequestContext
from trackdesk_worker.console.context import Deployment

ROOT = "/api/v1"


@dataclass(frozen=True, slots=True)
class Call:
    """One call with validated parts."""

    request: RequestContext
    path: dict[str, str]
    query: Any
    """An instance of the endpoint's `query` model."""
    body: Any
    """An instance of the endpoint's `body` model."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    method: Literal["GET", "POST"]
    path: str
    """Relative to `ROOT`; ``{name}`` is a parameter."""
    role: Role
    summary: str
    handler: Callable[[Deployment, Call], ResponseModel | Response]
    answer: type[ResponseModel] | None
    """None: a stream of lines."""
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    refusals: tuple[int, ...] = ()
    """Error statuses besides those of every operation."""
