"""The pages, one module each. A page is a method, a path, the role it requires, and a handler."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.responses import Response

from trackdesk_worker.console.access import Role
from trackdesk_worker.console.auth import RequestContext
from trackdesk_worker.console.context import Deployment


@dataclass(frozen=True, slots=True)
class Page:
    """One page or one action."""

    method: Literal["GET", "POST"]
    path: str
    role: Role
    handler: Callable[[Deployment, RequestContext], Response]
