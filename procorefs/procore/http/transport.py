"""Connects httpx to the network through httpcore's pools, and reads up to 1 MiB at once.

httpcore reads 64 KiB at a time, and neither httpx nor httpcore has a setting for that; httpcore's public
`network_backend` lets a wrapped stream read more. Measured with one download over loopback on a busy machine of two
cores: 490 MB/s and 0.47 s of CPU a gigabyte with 1 MiB, 330 MB/s and 0.93 s with 64 KiB. httpx's own transport takes no
network backend, so the pools are built here. That for https, and with it the slow loading of the certificate
authorities, is built at the first https address.
"""

import importlib
import os
import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

import httpcore

from procorefs.procore.errors import Invalid
from procorefs.procore.http._httpx import httpx
from procorefs.procore.http.addresses import is_loopback

RECEIVE_BYTES = 1024 * 1024
"""Read at once."""

MAX_CONNECTIONS = 128
"""Far more than downloads, uploads and calls use together."""

MAX_IDLE_CONNECTIONS = 32
IDLE_S = 20.0
"""An idle connection is kept this long."""


class Transport(httpx.AsyncBaseTransport):
    """Requests over one pool for each scheme and proxy."""

    def __init__(self) -> None:
        self._pools: dict[tuple[bytes, str | None], httpcore.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = await self._pool(request.url).handle_async_request(
            httpcore.Request(
                request.method,
                url,
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    def _pool(self, url: httpx.URL) -> httpcore.AsyncConnectionPool:
        """The pool for an address. Raises Invalid when the environment names a proxy that cannot be used."""
        key = (url.raw_scheme, proxy_for(url.scheme, url.host))
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _new_pool(*key)
        return pool


def proxy_for(scheme: str, host: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY name for a host; never for loopback (NO_PROXY too)."""
    if is_loopback(host):
        return None
    named = getproxies_environment()
    proxy = named.get(scheme) or named.get("all")
    return proxy if proxy and not proxy_bypass_environment(host, named) else None


def _new_pool(scheme: bytes, proxy: str | None) -> httpcore.AsyncConnectionPool:
    try:
        return httpcore.AsyncConnectionPool(
            ssl_context=_ssl_context() if scheme == b"https" else None,
            proxy=_proxy(proxy) if proxy is not None else None,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_S,
            network_backend=_Network(httpcore.TrioBackend()),
        )
    except (ImportError, RuntimeError, ValueError, httpx.InvalidURL):
        variables = "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY"
        raise Invalid(f"The environment names a proxy that cannot be used: look at {variables}") from None


def _ssl_context() -> ssl.SSLContext:
    """Trust in the certificate authorities of certifi and of this machine, which a company's proxy may need.

    SSL_CERT_FILE or SSL_CERT_DIR name others, and then those alone.
    """
    context: ssl.SSLContext = httpx.create_ssl_context()
    if not (os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")):
        context.load_default_certs()
    return context


def _proxy(address: str) -> httpcore.Proxy:
    url = httpx.Proxy(address if "://" in address else f"http://{address}")  # checks the scheme
    if url.url.scheme.startswith("socks"):
        importlib.import_module("socksio")  # httpcore would miss it only at the first request
    return httpcore.Proxy(str(url.url), auth=url.raw_auth)


class _Body(httpx.AsyncByteStream):
    """The pieces of an answer."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - httpcore types it loosely
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = self._stream.__aiter__()
        return pieces

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    """trio's network with wrapped streams."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that reads up to RECEIVE_BYTES at once."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max(max_bytes, RECEIVE_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the base class says so
        return self._inner.get_extra_info(info)
