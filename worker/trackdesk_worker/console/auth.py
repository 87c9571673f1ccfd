"""The gate: who asks, whether they may, and whether a page of ours sent the form. Before any handler runs.

A handler is a plain function of the deployment and a `RequestContext`; it blocks on the store in a worker thread.
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
"""Requests that use the store at the same time; more wait, and beyond `WAITING` are turned away."""
WAITING = 64
SAFE = ("GET", "HEAD")

log = logging.getLogger(__name__)
T = TypeVar("T")


class Method(StrEnum):
    """How somebody proved who they are."""

    LOCAL = "local"
    """By being on this machine, where no tokens are set up."""
    TOKEN = "token"  # noqa: S105 - a word, not one
    SESSION = "session"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    name: str
    role: Role
    method: Method


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request that passed the gate."""

    path: str
    query: Mapping[str, str]
    """Of names given more than once, the last."""
    form: Mapping[str, str]
    body: bytes
    principal_or_none: Principal | None
    """None only on pages that are open to all."""
    raw_query: str = ""

    @property
    def principal(self) -> Principal:
        """The visitor of a page that has a rule."""
        if self.principal_or_none is None:
            raise RuntimeError("a page without a rule asked who its visitor is")
        return self.principal_or_none


class Refused(Exception):
    """The request is not carried out; the message is one plain sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


class SignInNeeded(Refused):
    """Nobody is signed in."""

    def __init__(self) -> None:
        super().__init__(401, "sign in first", headers={"WWW-Authenticate": "Bearer"})


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about access."""

    site: Site
    file: AccessFile | None
    user_header: str
    proxy_role: Role
    local: Principal | None
    """Who callers on this machine are while nothing is set up; None: nobody gets in without proof."""


class Authenticator:
    """Lets requests in. Belongs to the event loop."""

    def __init__(self, rules: Rules, *, clock: Callable[[], float]) -> None:
        self.rules = rules
        self.sessions = None if rules.file is None else Sessions(rules.file, clock=clock)
        self._failures = Allowance(10, 1 / 6, clock=clock)
        self._requests = Allowance(240, 40, clock=clock)
        self._threads: anyio.CapacityLimiter | None = None
        self._waiting = 0

    async def admit(self, request: Request, role: Role | None, *, api: bool) -> RequestContext:
        """Return what handlers need of the request.

        Raises:
            Refused: with the status and the sentence to answer.
        """
        self._count(request)
        changes = request.method not in SAFE
        if changes and not api and not self._own_page(request):
            raise Refused(
                403, "this form was not sent from a page of this console; open the page here and send it again"
            )
        principal = None if role is None else self._who(request, api=api)
        if role is not None:
            if principal is None:
                raise SignInNeeded
            if not principal.role.covers(role):
                raise Refused(403, f"this needs the role {role}; {principal.name} has the role {principal.role}")
            # A browser proves a proxy's user or a local one by itself, also for pages of others.
            by_browser = principal.method is not Method.TOKEN and self.rules.site.browser_sent(request.headers)
            if changes and api and by_browser and not self._own_page(request):
                raise Refused(403, "a page of another site must not use this API")
        body = await _read_body(request) if changes else b""
        form = {} if api else _read_form(request, body)
        query = dict(parse_qsl(request.url.query, keep_blank_values=False, max_num_fields=None)[:MAX_FIELDS])
        return RequestContext(request.url.path, query, form, body, principal, request.url.query)

    async def run(self, work: Callable[[], T]) -> T:
        """Run blocking work in a worker thread; few at once, so that visitors cannot use the store up."""
        if self._threads is None:
            self._threads = anyio.CapacityLimiter(AT_ONCE)
        if self._waiting >= WAITING:
            raise Refused(503, "too many requests at once; try again in a moment", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._waiting -= 1

    def sign_in(self, request: Request, token: str) -> str:
        """Open a session; return what its cookie holds.

        Raises:
            Refused: the token is nobody's, or there were too many wrong ones.
        """
        if self.sessions is None:
            raise Refused(404, "this console knows no tokens, so there is nothing to sign in to")
        return self.sessions.open(self._by_token(request, token))

    def sign_out(self, request: Request) -> None:
        """End the session of a request, if it has one."""
        if self.sessions is not None:
            self.sessions.close(request.cookies.get(COOKIE, ""))

    def peek(self, request: Request) -> Principal | None:
        """Return who asks, for pages that are open to all."""
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
                    "this request came through a proxy, and this console takes who is on its machine for its operator: "
                    "set TRACKDESK_CONSOLE_TOKENS or TRACKDESK_CONSOLE_PROXIES",
                )
            return self.rules.local
        return None

    def _named_by_proxy(self, request: Request) -> Principal | None:
        """Read the user's name; one header that holds one name, anything else is nobody."""
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
            raise Refused(401, "this token is not known", headers={"WWW-Authenticate": "Bearer"})
        return person

    def _count(self, request: Request) -> None:
        address = self._address(request)
        if wait_s := self._requests.wait_s(address):
            raise Refused(429, f"too many requests; try again in {wait_s} s", headers={"Retry-After": str(wait_s)})
        self._requests.take(address)

    def _address(self, request: Request) -> str:
        """Return whom a limit counts: the peer, or whom a trusted proxy names last."""
        peer = "-" if request.client is None else request.client.host
        if self.rules.site.trusts(peer):
            return request.headers.get("x-forwarded-for", peer).rpartition(",")[2].strip()[:64] or peer
        return peer

    def _own_page(self, request: Request) -> bool:
        return self.rules.site.sent_by_own_page(request.headers, request.url.scheme)


def _shut(error: AccessInvalid) -> Refused:
    log.error("nobody can be let in: %s", error)
    return Refused(503, "the console's file of tokens cannot be used; its log says why")


async def _read_body(request: Request) -> bytes:
    """Read the body, bounded in size and time.

    Raises:
        Refused: it is too large or too slow.
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
        raise Refused(408, f"the request was not complete within {BODY_WITHIN_S:g} s") from error
    except ClientDisconnect as error:
        raise Refused(400, "the request ended before it was complete") from error
    return bytes(body)


def _read_form(request: Request, body: bytes) -> dict[str, str]:
    """Read a form as browsers send plain ones.

    Raises:
        Refused: it is of another type, is no UTF-8 or has too many fields.
    """
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise Refused(415, "a form has to be sent as application/x-www-form-urlencoded")
    try:
        pairs: Sequence[tuple[str, str]] = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_FIELDS
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise Refused(400, f"the form is not valid: more than {MAX_FIELDS} fields, or no UTF-8") from error
    return dict(pairs)
