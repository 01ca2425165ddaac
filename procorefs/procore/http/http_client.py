"""Sends requests: checks addresses, follows redirects itself, and sends the token to one origin only.

No other module sends with httpx. Failures of the network become `ProcoreError`s here.
"""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

from procorefs.procore.errors import Malformed, error_of_network
from procorefs.procore.http._httpx import httpx
from procorefs.procore.http.addresses import AddressRule, redirected
from procorefs.procore.http.bodies import FAILURES, Response, short_body, whole_body
from procorefs.procore.http.transport import Transport

MAX_REDIRECTS = 5
CONNECT_S = 10.0
REDIRECTS = frozenset({301, 302, 303, 307, 308})
Headers = httpx.Headers


class Outgoing(httpx.AsyncByteStream):
    """A body that is made while it is sent.

    `__aiter__` must not return a generator: when the server answers early, only the garbage collector would close it.
    """


def bearer(token: str) -> dict[str, str]:
    """The header with a token."""
    return {"Authorization": f"Bearer {token}"}


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or default


class Http:
    """Requests with the rules of this module."""

    def __init__(self, client: httpx.AsyncClient, token_origin: tuple[str, str, int]) -> None:
        self._client = client
        self._token_origin = token_origin
        self._addresses = AddressRule(token_origin[1])

    def takes_token(self, url: str) -> bool:
        """Whether it is at the API's own origin, the only one that may see a token."""
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

        `own_headers` (the token) go to the API's origin alone: a redirect to another
        origin drops them for good.
        """
        for _ in range(MAX_REDIRECTS + 1):
            if not self._addresses.accepts(url):
                raise Malformed(f"Could not {action}: Procore names an address that may not be fetched")
            own_headers = own_headers if self.takes_token(url) else {}
            sent = {**headers, **own_headers}
            async with self._exchange("GET", url, action, sent, silence_s) as response:
                location = response.headers.get("location")
                if response.status_code not in REDIRECTS or not location:
                    yield response
                    return
                await short_body(response)  # a connection that was read to its end is reused
                url = redirected(url, location)
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
        if not self._addresses.accepts(url):
            raise Malformed(f"Could not {action}: Procore names an address that may not be used")
        async with self._exchange(method, url, action, headers, silence_s, body=body) as response:
            yield response

    async def post_form(
        self, url: str, form: Mapping[str, str], *, action: str, silence_s: float
    ) -> tuple[int, bytes]:
        """POST a form, following nothing; for the login service. Raises Unavailable, Silent, Malformed."""
        accept = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        async with self._exchange("POST", url, action, accept, silence_s, form) as response:
            return response.status_code, await whole_body(response, action)

    async def get_with_token(
        self, url: str, token: str, *, action: str, silence_s: float
    ) -> tuple[int, bytes]:
        """GET with a token, following nothing; for the login service. Raises Unavailable, Silent, Malformed."""
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"} | bearer(token)
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
            raise error_of_network(action, error, urlsplit(url).hostname or "the server") from _shown_cause(
                error
            )


@asynccontextmanager
async def open_http(api_url: str) -> AsyncIterator[Http]:
    """Connections until the context ends; TLS is always verified, proxies come from the environment."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they would log signed addresses
    async with httpx.AsyncClient(
        transport=Transport(), follow_redirects=False, headers={"User-Agent": "procorefs"}
    ) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield Http(client, origin_of(api_url))


def _shown_cause(error: Exception) -> Exception | None:
    """The cause to keep in a traceback: httpx's message may hold a signed address."""
    return None if isinstance(error, httpx.InvalidURL) else error
