"""Reads bodies of answers, and decompresses them piece by piece with a bound on the memory that they take."""

import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import httpcore
import trio

from procorefs.procore.errors import Malformed
from procorefs.procore.http._httpx import httpx

SHORT_BODY_BYTES = 16 * 1024
"""Enough of an error or a redirect."""

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Of an API answer, decompressed; a page of 2,000 documents has some 3 MiB."""

MAX_JSON_VALUES = 2_000_000
"""In one answer: small values take some hundred bytes each in memory, and a few in the answer."""

_INFLATED_BYTES = 256 * 1024
"""Decompressed at a time."""

FAILURES = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)

Response = httpx.Response


@asynccontextmanager
async def body_pieces(response: Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it was sent. Leaving early closes the connection.

    The libraries' nested generators are then run to their end, which on a closed connection comes at once:
    abandoned, they would be left to the garbage collector.
    """
    pieces = response.aiter_raw()
    try:
        yield pieces
    finally:
        with trio.CancelScope(shield=True), suppress(*FAILURES):
            await response.aclose()
            async for _ in pieces:
                pass


class _Decoder:
    """Decompresses a body in pieces of bounded size. Raises Malformed for an encoding that was not asked for."""

    def __init__(self, response: Response, action: str) -> None:
        self._action = action
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise Malformed(f"Could not {action}: Procore's answer has an encoding that was not asked for")
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """What one piece of the body as it was sent holds. Raises Malformed."""
        if self._gzip is None:
            yield raw
            return
        while raw:
            try:
                yield self._gzip.decompress(raw, _INFLATED_BYTES)
            except zlib.error:
                raise Malformed(
                    f"Could not {self._action}: Procore's answer cannot be decompressed"
                ) from None
            raw = self._gzip.unconsumed_tail
            if self._gzip.unused_data:
                raise Malformed(f"Could not {self._action}: Procore's answer goes on behind its end")


async def whole_body(response: Response, action: str) -> bytes:
    """The decoded body. Raises Malformed when it is too large, or holds too many JSON values to keep in memory."""
    received = bytearray()
    decoder = _Decoder(response, action)
    async with body_pieces(response) as pieces:
        async for raw in pieces:
            for piece in decoder.pieces(raw):
                received += piece
                if len(received) > MAX_BODY_BYTES:
                    raise Malformed(f"Could not {action}: Procore's answer is too large")
    if sum(received.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise Malformed(f"Could not {action}: Procore's answer has too many parts")
    return bytes(received)


async def short_body(response: Response) -> bytes:
    """The beginning of a body of which only a few words matter; empty where it cannot be decoded."""
    received = b""
    with suppress(Malformed):
        decoder = _Decoder(response, "read an answer")
        async with body_pieces(response) as pieces:
            async for raw in pieces:
                for piece in decoder.pieces(raw):
                    received += piece
                    if len(received) > SHORT_BODY_BYTES:
                        return received[:SHORT_BODY_BYTES]
    return received
