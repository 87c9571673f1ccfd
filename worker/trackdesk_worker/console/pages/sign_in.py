"""Public pages: sign in and sign out."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trackdesk_worker.console import rendering
from trackdesk_worker.console.auth import Authenticator, Refused, RequestContext
from trackdesk_worker.console.sessions import COOKIE, LIFE_S


def routes(authenticator: Authenticator) -> list[Route]:
    """Return the routes."""

    async def form(request: Request) -> Response:
        try:
            checked = await authenticator.admit(request, None, api=False)
        except Refused as error:
            return _form(request, authenticator, error)
        return _form(request, authenticator, None, to=_within(checked.query.get("next", "/")))

    async def sign_in(request: Request) -> Response:
        try:
            checked = await authenticator.admit(request, None, api=False)
            secret = authenticator.sign_in(request, checked.form.get("token", "").strip())
        except Refused as error:
            return _form(request, authenticator, error)
        answer = rendering.go_to(_within(checked.form.get("next", "/")))
        answer.set_cookie(
            COOKIE,
            secret,
            max_age=LIFE_S,
            path="/",
            httponly=True,
            samesite="strict",
            secure=authenticator.rules.site.secure(request.url.scheme),
        )
        return answer

    async def sign_out(request: Request) -> Response:
        try:
            await authenticator.admit(request, None, api=False)
        except Refused as error:
            return _form(request, authenticator, error)
        authenticator.sign_out(request)
        answer = rendering.go_to("/sign-in", done="signed-out")
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    return [
        Route("/sign-in", form, methods=["GET"]),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
    ]


def needed(request: Request, authenticator: Authenticator) -> Response:
    """Return the response to a request without a principal.

    The session cookie is SameSite=Strict, so a link from another site (an alert, a chat) comes without it. Such a
    request gets a page that redirects to the same address; this second request carries the cookie.
    """
    cross = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if cross and request.method == "GET" and authenticator.sessions is not None:
        return rendering.page(_visit(request), "pass_on.html", to=_within(_own(request)))
    if request.method != "GET" or authenticator.sessions is None:
        sentence = (
            "sign in first" if authenticator.sessions is not None else "not authenticated: use the proxy's address"
        )
        return rendering.problem(401, sentence, None, request.url.path)
    return rendering.go_to("/sign-in", next=_own(request))


def _form(request: Request, authenticator: Authenticator, error: Refused | None, to: str = "/") -> Response:
    answer = rendering.page(
        _visit(request),
        "sign_in.html",
        http_status=200 if error is None else error.status,
        error=None if error is None else error.sentence,
        to=to,
        possible=authenticator.sessions is not None,
    )
    answer.headers.update({} if error is None else error.headers)
    return answer


def _visit(request: Request) -> RequestContext:
    return RequestContext(request.url.path, dict(request.query_params), {}, b"", None)


def _own(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _within(address: str) -> str:
    """Return `address` if it is on this console, else ``/``: no open redirects."""
    parts = urlsplit(address)
    inside = address.startswith("/") and not address.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return address if inside and address.isprintable() and len(address) < 4096 else "/"
