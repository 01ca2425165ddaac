"""Decides whether a request may see the page: token, Host and Origin; adds the security headers to each answer.

The token is in the first address; the answer sets a cookie for the session and removes the token from the address.
Prometheus sends the token as a bearer token. A browser sends the cookie to any port of this host, so it is no token,
and ends with the server. Host and Origin are checked, so that no page of another site can use the browser's cookie.
"""

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "procorefs"

HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """Wraps an application; lets requests with the token pass."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._hosts = {f"{host}:{port}" for host in _LOOPBACK}

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
        if not is_own_host(request.headers, self._hosts):
            return PlainTextResponse("This address is for this machine only.", 403)
        given = request.query_params.get("token")
        if given is not None and request.method == "GET" and _is_same(given, self._token):
            answer = RedirectResponse(request.url.path, 303)
            answer.set_cookie(COOKIE, self._session, httponly=True, samesite="strict")
            return answer
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _is_same(bearer, self._token) and request.method == "GET":
            return None
        if _is_same(request.cookies.get(COOKIE, ""), self._session):
            return None
        return PlainTextResponse(
            "Open the address that `procorefs serve` printed, or run `procorefs open`.", 401
        )


def _is_same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode(), secret.encode())


def is_own_host(headers: Mapping[str, str], hosts: set[str]) -> bool:
    """Whether Host, and Origin if there is one, name this server."""
    origin = headers.get("origin")
    return headers.get("host", "") in hosts and (origin is None or urlsplit(origin).netloc in hosts)
