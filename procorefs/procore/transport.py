"""The way httpx reaches the network: httpcore's pool, reading up to 1 MiB at once.

httpcore asks its stream for 64 KiB at a time, which halves the throughput of one download. Its public
`network_backend` lets a wrapped stream read more. The pool for https, and with it the costly loading of the
certificate authorities, is made when the first https address is asked for.
"""

import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore

from procorefs.procore._httpx import httpx

RECEIVE_BYTES = 1024 * 1024
MAX_CONNECTIONS = 128  # the rooms above limit themselves; this only stops a runaway
MAX_IDLE_CONNECTIONS = 32
IDLE_S = 20.0  # an idle connection is kept so long


class Direct(httpx.AsyncBaseTransport):
    """Requests over a pool of our own."""

    def __init__(self) -> None:
        self._pools: dict[bytes, httpcore.AsyncConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        answer = await self._pool(request.url.raw_scheme).handle_async_request(
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

    def _pool(self, scheme: bytes) -> httpcore.AsyncConnectionPool:
        pool = self._pools.get(scheme)
        if pool is None:
            pool = self._pools[scheme] = httpcore.AsyncConnectionPool(
                ssl_context=httpx.create_ssl_context() if scheme == b"https" else None,
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=IDLE_S,
                network_backend=_Network(httpcore.TrioBackend()),
            )
        return pool


class _Body(httpx.AsyncByteStream):
    """The pieces of an answer as they come."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401 - httpcore types it loosely
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = self._stream.__aiter__()
        return pieces

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    """trio's network, its streams wrapped."""

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
    """A connection that reads as much as there is."""

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
