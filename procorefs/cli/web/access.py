"""Decides whether a request may see the page: code, cookie or token, user, Host and Origin; adds security headers.

The first address has a code; the answer sets a cookie for the session and removes the code from the address. Other
users of the machine can read the code in the list of processes, and a browser sends the cookie to any port of this
host: both serve only processes of this user, and end with the server. Prometheus, which may run as another user, sends
the token as a bearer token, and sees the metrics alone. Host and Origin are checked, so that no page of another site
can use the browser's cookie.

A socket file admits only its user and root by its mode. Something forwards to it from a port that is not known here,
and that other users of that machine may reach: code, cookie, Host and Origin are checked as on loopback.
"""

import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from procorefs.cli.support.local_peers import Address

COOKIE = "procorefs"

# With `no-referrer`, browsers send `Origin: null` with a form, which is no origin of ours.
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}

METRICS = "/metrics"

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_FORWARDED = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.ASCII)
"""The Host of a request that was forwarded to a socket file."""


class Access(NamedTuple):
    """Who may see the page."""

    port: int | None
    """On loopback; None: a socket file is served."""
    code: str
    """In the first address."""
    token: str
    """Prometheus'."""
    is_own_user: Callable[[Address, Address], bool]
    """Whether the process at the first address, connected to the second one, is of this user."""


class Guard:
    """Wraps an application; lets requests of this user pass, and Prometheus."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._session = secrets.token_urlsafe(32)
        self._hosts = {f"{host}:{access.port}" for host in _LOOPBACK}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items()),
                ]
            await send(message)

        answer = self._refusal(Request(scope))
        await (self._app if answer is None else answer)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """The answer to a request that may not pass; None: it may."""
        if not self._is_own_host(request.headers):
            return PlainTextResponse("This address is for this machine only.", 403)
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and request.method == "GET" and request.url.path == METRICS:
            return None if _is_same(bearer, self._access.token) else PlainTextResponse("Wrong token.", 401)
        if not self._is_own_user(request):
            return PlainTextResponse("This address is for the user who runs `procorefs serve`.", 403)
        given = request.query_params.get("code")
        if given is not None and request.method == "GET" and _is_same(given, self._access.code):
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(COOKIE, self._session, httponly=True, samesite="strict")
            return answer
        if _is_same(request.cookies.get(COOKIE, ""), self._session):
            return None
        return PlainTextResponse(
            "Open the address that `procorefs serve` printed, or run `procorefs open`.", 401
        )

    def _is_own_host(self, headers: Mapping[str, str]) -> bool:
        if self._access.port is not None:
            return is_own_host(headers, self._hosts)
        host = headers.get("host", "")
        return _FORWARDED.fullmatch(host) is not None and is_own_host(headers, {host})

    def _is_own_user(self, request: Request) -> bool:
        if self._access.port is None:
            return True  # the mode of the socket file
        peer, here = request.client, request.scope.get("server")
        return (
            peer is not None and here is not None and self._access.is_own_user((peer.host, peer.port), here)
        )


def _is_same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode(), secret.encode())


def is_own_host(headers: Mapping[str, str], hosts: set[str]) -> bool:
    """Whether Host, and Origin if there is one, name this server."""
    origin = headers.get("origin")
    own_origins = {f"http://{host}" for host in hosts}
    return headers.get("host", "") in hosts and (origin is None or origin in own_origins)
