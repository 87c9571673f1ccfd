"""Authentication, authorization and CSRF checks, before any handler runs.

A handler is a plain function of the deployment and a `RequestContext`; it runs in a worker thread and may block.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request

from trackdesk_worker.console.access import AccessFile, AccessInvalid, Person, Role, is_name
from trackdesk_worker.console.rate_limit import Allowance
from trackdesk_worker.console.sessions import COOKIE, Sessions
from trackdesk_worker.console.site import Site, is_loopback, was_forwarded

MAX_BODY_BYTES = 64 * 1024
MAX_FIELDS = 200
BODY_WITHIN_S = 10.0
AT_ONCE = 8
"""Requests that run at the same time. More wait; beyond `WAITING` in total they are refused with 503."""
WAITING = 64
SAFE = ("GET", "HEAD")

log = logging.getLogger(__name__)
T = TypeVar("T")


class Method(StrEnum):
    """How a principal was authenticated."""

    LOCAL = "local"
    """From the loopback interface, where no tokens are set up."""
    TOKEN = "token"  # noqa: S105 - a name, not a secret
    SESSION = "session"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sent a request."""

    name: str
    role: Role
    method: Method


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One authorized request."""

    path: str
    query: Mapping[str, str]
    """Query parameters; of repeated names, the last."""
    form: Mapping[str, str]
    body: bytes
    principal_or_none: Principal | None
    """None only on public pages."""
    raw_query: str = ""

    @property
    def principal(self) -> Principal:
        """The principal of a page that requires a role."""
        if self.principal_or_none is None:
            raise RuntimeError("a public page has no principal")
        return self.principal_or_none


class Refused(Exception):
    """The request is refused; the message is one sentence for its sender."""

    def __init__(self, status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


class SignInNeeded(Refused):
    """The request is not authenticated."""

    def __init__(self) -> None:
        super().__init__(401, "sign in first", headers={"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True)
class Rules:
    """The access settings."""

    site: Site
    file: AccessFile | None
    user_header: str
    proxy_role: Role
    local: Principal | None
    """The principal of loopback requests while no tokens are set up; None: every request must authenticate."""


class Authenticator:
    """Admits requests. Not thread-safe: the event loop owns it."""

    def __init__(self, rules: Rules, *, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.sessions = None if rules.file is None else Sessions(rules.file, clock=clock)
        self._failures = Allowance(10, 1 / 6, clock=clock)
        self._requests = Allowance(240, 40, clock=clock)
        self._threads: anyio.CapacityLimiter | None = None
        self._waiting = 0

    async def admit(self, request: Request, role: Role | None, *, api: bool) -> RequestContext:
        """Authenticate and authorize a request, then read its body; return what handlers need.

        Raises:
            Refused: with the status and the message of the response.
        """
        self._count(request)
        changes = request.method not in SAFE
        if changes and not api and not self._own_page(request):
            raise Refused(
                403, "this form was not sent by this console: open the page on this console and submit it again"
            )
        principal = None if role is None else self._who(request, api=api)
        if role is not None:
            if principal is None:
                raise SignInNeeded
            if not principal.role.covers(role):
                raise Refused(403, f"this needs the role {role}; {principal.name} has the role {principal.role}")
            # Browsers attach proxy and local identities to requests of other sites too (CSRF).
            by_browser = principal.method is not Method.TOKEN and self.rules.site.browser_sent(request.headers)
            if changes and api and by_browser and not self._own_page(request):
                raise Refused(403, "the request comes from a page of another site, which may not use this API")
        body = await _read_body(request) if changes else b""
        form = {} if api else _read_form(request, body)
        query = dict(parse_qsl(request.url.query, keep_blank_values=False, max_num_fields=None)[:MAX_FIELDS])
        return RequestContext(request.url.path, query, form, body, principal, request.url.query)

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a worker thread, at most `AT_ONCE` at a time, to protect the store."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(AT_ONCE)
        if self._waiting >= WAITING:
            raise Refused(503, "too many concurrent requests; try again in a moment", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._waiting -= 1

    def sign_in(self, request: Request, token: str) -> str:
        """Open a session; return what its cookie holds.

        Raises:
            Refused: the token is unknown, or too many wrong tokens came from this address.
        """
        if self.sessions is None:
            raise Refused(404, "sign-in is not set up on this console: set TRACKDESK_CONSOLE_TOKENS")
        return self.sessions.open(self._by_token(request, token))

    def sign_out(self, request: Request) -> None:
        """End the session of a request, if it has one."""
        if self.sessions is not None:
            self.sessions.close(request.cookies.get(COOKIE, ""))

    def peek(self, request: Request) -> Principal | None:
        """Return the principal for public pages, or None."""
        try:
            return self._who(request, api=False)
        except Refused:
            return None

    def _who(self, request: Request, *, api: bool) -> Principal | None:
        authorization = request.headers.get("authorization")
        if authorization is not None and api:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise SignInNeeded
            person = self._by_token(request, token.strip())
            return Principal(person.name, person.role, Method.TOKEN)
        peer = None if request.client is None else request.client.host
        if self.rules.site.trusts(peer) and (named := self._named_by_proxy(request)) is not None:
            return named
        if not api and self.sessions is not None and (secret := request.cookies.get(COOKIE)):
            try:
                signed_in = self.sessions.find(secret)
            except AccessInvalid as error:
                raise _shut(error) from error
            return None if signed_in is None else Principal(signed_in.name, signed_in.role, Method.SESSION)
        if self.rules.local is not None and peer is not None and is_loopback(peer):
            if was_forwarded(request.headers):
                raise Refused(
                    403,
                    "this request came through a proxy, but this console accepts only local users: "
                    "set TRACKDESK_CONSOLE_TOKENS or TRACKDESK_CONSOLE_PROXIES",
                )
            return self.rules.local
        return None

    def _named_by_proxy(self, request: Request) -> Principal | None:
        """Return the user whom a trusted proxy names in exactly one valid header; else None."""
        names = request.headers.getlist(self.rules.user_header)
        if len(names) != 1 or not is_name(names[0]):
            return None
        try:
            listed = None if self.rules.file is None else self.rules.file.people().by_name.get(names[0])
        except AccessInvalid as error:
            raise _shut(error) from error
        return Principal(names[0], self.rules.proxy_role if listed is None else listed.role, Method.PROXY)

    def _by_token(self, request: Request, token: str) -> Person:
        address = self._address(request)
        if wait_s := self._failures.wait_s(address):
            raise Refused(429, f"too many wrong tokens; try again in {wait_s} s", headers={"Retry-After": str(wait_s)})
        try:
            person = None if self.rules.file is None else self.rules.file.by_token(token)
        except AccessInvalid as error:
            raise _shut(error) from error
        if person is None:
            self._failures.take(address)
            log.warning("a token was refused")
            raise Refused(401, "unknown token", headers={"WWW-Authenticate": "Bearer"})
        return person

    def _count(self, request: Request) -> None:
        address = self._address(request)
        if wait_s := self._requests.wait_s(address):
            raise Refused(429, f"too many requests; try again in {wait_s} s", headers={"Retry-After": str(wait_s)})
        self._requests.take(address)

    def _address(self, request: Request) -> str:
        """Return the address to rate-limit: the peer, or the last X-Forwarded-For entry of a trusted proxy."""
        peer = "-" if request.client is None else request.client.host
        if self.rules.site.trusts(peer):
            return request.headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()[:64] or peer
        return peer

    def _own_page(self, request: Request) -> bool:
        return self.rules.site.sent_by_own_page(request.headers, request.url.scheme)


def _shut(error: AccessInvalid) -> Refused:
    log.error("all access is refused: %s", error)
    return Refused(503, "the console's token file is invalid; see the console's log")


async def _read_body(request: Request) -> bytes:
    """Read the body, at most `MAX_BODY_BYTES` within `BODY_WITHIN_S`.

    Raises:
        Refused: it is too large, too slow or incomplete.
    """
    too_large = Refused(413, f"the request is larger than {MAX_BODY_BYTES} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 9 or int(declared) > MAX_BODY_BYTES):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise too_large
    except TimeoutError as error:
        raise Refused(408, f"the request body did not arrive within {BODY_WITHIN_S:g} s") from error
    except ClientDisconnect as error:
        raise Refused(400, "the client disconnected before the request was complete") from error
    return bytes(body)


def _read_form(request: Request, body: bytes) -> dict[str, str]:
    """Parse a URL-encoded form.

    Raises:
        Refused: it has another content type, is not UTF-8 or has too many fields.
    """
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refused(415, "send the form as application/x-www-form-urlencoded")
    try:
        pairs: Sequence[tuple[str, str]] = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_FIELDS
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise Refused(400, f"the form is invalid: it has more than {MAX_FIELDS} fields or is not UTF-8") from error
    return dict(pairs)
