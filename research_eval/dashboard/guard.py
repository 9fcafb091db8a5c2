"""What is refused before anything is read: every request passes here first."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from research_eval.dashboard.answers import ProblemError, problem_answer

MAX_TARGET = 16_000
"""Characters of path and query: fifty runs with names of any sort, and a filter."""

LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
COOKIE = "research_eval_dashboard"

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may ask.

    Attributes:
        hosts: Names that a request may give as its host, without port.
        any_address: Whether numeric addresses are hosts too; a page of another site cannot make a
            browser take one of those for its own name.
        token: What a browser must have shown once; None on a machine of one's own.
    """

    hosts: Collection[str] = LOOPBACK
    any_address: bool = False
    token: str | None = None

    def knows(self, host: str) -> bool:
        """Return whether a `Host` header names this server."""
        name = re.sub(r":[0-9]{1,5}$", "", host.lower())
        return name in self.hosts or (self.any_address and _is_address(name))


class Guard:
    """Refuses, and puts the headers of a strict page on every answer.

    Args:
        app: What answers.
        admission: Who may ask.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def strict_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            answer = self._shown_token(scope) or self._app
        except ProblemError as problem:
            answer = problem_answer(problem)
        await answer(scope, receive, strict_send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._admission.knows(hosts[0]):
            raise ProblemError(
                421, "this server is not called so; open it under the address that it printed"
            )
        if scope["method"] not in ("GET", "HEAD"):
            raise ProblemError(405, "the dashboard only reads: GET and HEAD are all it knows")
        if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET:
            raise ProblemError(414, f"an address has at most {MAX_TARGET:,} characters")
        _refuse_other_sites(scope["path"], headers)

    def _shown_token(self, scope: Scope) -> ASGIApp | None:
        """Return None if the browser is known, or the answer that makes it known.

        Raises:
            ProblemError: If it shows no token, or a wrong one.
        """
        token = self._admission.token
        if token is None or _same(_cookie(Headers(scope=scope)), token):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if not any(name == "token" and _same(value, token) for name, value in query):
            raise ProblemError(401, "open the address that the dashboard printed, with its token")
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = quote("/" + scope["path"].lstrip("/"))
        answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
        return answer


def _refuse_other_sites(path: str, headers: Headers) -> None:
    """Refuse what the page of another site makes a browser ask; following a link is no such thing.

    Raises:
        ProblemError: If it is such a request.
    """
    site = headers.get("sec-fetch-site", "none")
    is_link = headers.get("sec-fetch-mode") == "navigate" and not path.startswith("/api/")
    is_framed = headers.get("sec-fetch-dest", "document") != "document"
    if site not in ("none", "same-origin") and (not is_link or is_framed):
        raise ProblemError(403, "pages of other sites may link here, and nothing else")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers["host"]:
        raise ProblemError(403, "pages of other sites may link here, and nothing else")


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())
