"""HTTP as we allow it: checked addresses, redirects by hand, the token to one origin only, big reads.

Nothing above this module touches httpx. Failures of the network leave it as `ProcoreError`s.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import httpcore
import trio

from procorefs.procore.errors import Malformed, error_of_network
from procorefs.procore.http._httpx import httpx
from procorefs.procore.http.addresses import acceptable_url
from procorefs.procore.http.transport import Transport

MAX_REDIRECTS = 5
SHORT_BODY_BYTES = 16 * 1024  # enough of an error or a redirect
MAX_BODY_BYTES = 256 * 1024 * 1024  # of an API answer, decompressed; a page of 2,000 documents has some 3 MiB
CONNECT_S = 10.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
FAILURES = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)

Headers = httpx.Headers
Response = httpx.Response


class Outgoing(httpx.AsyncByteStream):
    """A body that is made while it is sent. `__aiter__` returns no generator: one that is left early, because the
    server answered before it had everything, would be the garbage collector's to close."""


def bearer(token: str) -> dict[str, str]:
    """The header that says who asks."""
    return {"Authorization": f"Bearer {token}"}


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: who would get a token sent there."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or default


class Http:
    """Requests by the rules of this house."""

    def __init__(self, client: httpx.AsyncClient, token_origin: tuple[str, str, int]) -> None:
        self._client = client
        self._token_origin = token_origin

    def takes_token(self, url: str) -> bool:
        """Is it at the API's own origin, the only one that may see a bearer token?"""
        return origin_of(url) == self._token_origin

    @asynccontextmanager
    async def get(
        self,
        url: str,
        *,
        action: str,
        headers: Mapping[str, str],
        own_headers: Mapping[str, str],
        silence_s: float,
    ) -> AsyncIterator[Response]:
        """GET with redirects followed; the body is read inside. Raises Unavailable, Silent, Malformed.

        `own_headers` (the token) go to the API's origin alone: they are dropped at the first step away from
        it and never come back.
        """
        for _ in range(MAX_REDIRECTS + 1):
            if not acceptable_url(url):
                raise Malformed(f"Could not {action}: Procore names an address that may not be fetched")
            own_headers = own_headers if self.takes_token(url) else {}
            sent = {**headers, **own_headers}
            async with self._exchange("GET", url, action, sent, silence_s) as response:
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or not location:
                    yield response
                    return
                await short_body(response)  # a connection that was read to the end is used again
                url = urljoin(url, location)
        raise Malformed(f"Could not {action}: the server redirects more than {MAX_REDIRECTS} times")

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        *,
        action: str,
        headers: Mapping[str, str],
        body: "bytes | Outgoing",
        silence_s: float,
    ) -> AsyncIterator[Response]:
        """A request with a body, following nothing. Raises Unavailable, Unreachable, Silent, Malformed.

        An `Outgoing` body needs a Content-Length among the headers.
        """
        if not acceptable_url(url):
            raise Malformed(f"Could not {action}: Procore names an address that may not be used")
        async with self._exchange(method, url, action, headers, silence_s, body=body) as response:
            yield response

    async def post_form(
        self, url: str, form: Mapping[str, str], *, action: str, silence_s: float
    ) -> tuple[int, bytes]:
        """POST a form, following nothing; for the login service. Raises Unavailable, Silent, Malformed."""
        accept = {"Accept": "application/json"}
        async with self._exchange("POST", url, action, accept, silence_s, form) as response:
            return response.status_code, await whole_body(response, action)

    async def get_with_token(
        self, url: str, token: str, *, action: str, silence_s: float
    ) -> tuple[int, bytes]:
        """GET with a token, following nothing; for the login service. Raises Unavailable, Silent, Malformed."""
        headers = {"Accept": "application/json"} | bearer(token)
        async with self._exchange("GET", url, action, headers, silence_s) as response:
            return response.status_code, await whole_body(response, action)

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        url: str,
        action: str,
        headers: Mapping[str, str],
        silence_s: float,
        form: Mapping[str, str] | None = None,
        body: "bytes | Outgoing | None" = None,
    ) -> AsyncIterator[Response]:
        """One request, one answer; failures while the caller reads the body are translated here too."""
        timeout = httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s), pool=None)
        try:
            content = body if isinstance(body, bytes) else None
            request = self._client.build_request(
                method, url, headers=headers, data=form, content=content or None, timeout=timeout
            )
            if isinstance(body, Outgoing):
                request.stream = body
            response = await self._client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
        except FAILURES as error:
            raise error_of_network(action, error, urlsplit(url).hostname or "the server") from _tame(error)


@asynccontextmanager
async def body_pieces(response: Response, *, raw: bool) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it comes, as it was sent or decoded. Who leaves early closes the connection.

    The libraries' nested generators are then run to their end, which on a closed connection comes at once:
    abandoned, they would be left to the garbage collector.
    """
    pieces = response.aiter_raw() if raw else response.aiter_bytes()
    try:
        yield pieces
    finally:
        with trio.CancelScope(shield=True), suppress(*FAILURES):
            await response.aclose()
            async for _ in pieces:
                pass


async def whole_body(response: Response, action: str) -> bytes:
    """The decoded body. Raises Malformed when it is beyond all measure."""
    received = []
    size_bytes = 0
    async with body_pieces(response, raw=False) as pieces:
        async for piece in pieces:
            received.append(piece)
            size_bytes += len(piece)
            if size_bytes > MAX_BODY_BYTES:
                raise Malformed(f"Could not {action}: Procore's answer is too large")
    return b"".join(received)


async def short_body(response: Response) -> bytes:
    """The beginning of a body of which only a few words matter."""
    received = b""
    async with body_pieces(response, raw=False) as pieces:
        async for piece in pieces:
            received += piece
            if len(received) > SHORT_BODY_BYTES:
                break
    return received


@asynccontextmanager
async def open_http(api_url: str) -> AsyncIterator[Http]:
    """Connections for as long as the context lasts; TLS always verified, proxies of the environment obeyed."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they would log signed addresses
    async with httpx.AsyncClient(
        transport=Transport(), follow_redirects=False, headers={"User-Agent": "procorefs"}
    ) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield Http(client, origin_of(api_url))


def _tame(error: Exception) -> Exception | None:
    """The cause to keep in a traceback: httpx's own words may hold addresses with signatures."""
    return None if isinstance(error, httpx.InvalidURL) else error
