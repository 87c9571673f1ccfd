"""The HTTP API under ``/api/v1``: what the pages do, as JSON. Models are the contract and make its document."""

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
    """One call whose parts fit their models."""

    request: RequestContext
    path: dict[str, str]
    query: Any
    """An instance of the endpoint's `query`."""
    body: Any
    """An instance of the endpoint's `body`."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation of the API."""

    method: Literal["GET", "POST"]
    path: str
    """Below `ROOT`; ``{name}`` stands for a part."""
    role: Role
    summary: str
    handler: Callable[[Deployment, Call], ResponseModel | Response]
    answer: type[ResponseModel] | None
    """None: JSON lines."""
    query: type[RequestModel] | None = None
    body: type[RequestModel] | None = None
    refusals: tuple[int, ...] = ()
    """Statuses of its own, besides those every operation may have."""
