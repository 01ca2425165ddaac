"""Bytes of a version on their way out: sendfile for content files, a slice for invented ones; cut or slowed."""

import os
from pathlib import Path

import trio
from starlette.responses import Response

from .wire import Message, Receive, Send

_PIECE_BYTES = 1024 * 1024
_SLOW_STEPS_PER_S = 20


class Bytes(Response):
    """A body of [start, end) of a file or of bytes."""

    def __init__(
        self,
        source: Path | bytes,
        start: int,
        end: int,
        *,
        status: int,
        headers: dict[str, str],
        bandwidth_bytes_s: int | None = None,
    ) -> None:
        super().__init__(None, status, {**headers, "Content-Length": str(end - start)})
        self._source = source
        self._start = start
        self._end = end
        self._bandwidth_bytes_s = bandwidth_bytes_s
        self._cut_after: int | None = None

    def cut_after(self, count: int) -> None:
        """End the connection after so many bytes of the body."""
        self._cut_after = count

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            end = self._end if self._cut_after is None else min(self._end, self._start + self._cut_after)
            await self._send_all(send, end)
            if end < self._end or self._cut_after is not None:
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                await send({"type": "sandbox.abort"})
        await send({"type": "http.response.body", "body": b""})

    async def _send_all(self, send: Send, end: int) -> None:
        if isinstance(self._source, bytes):
            for start in self._steps(end):
                piece = self._source[start : min(start + self._step(), end)]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await self._pause()
            return
        fd = os.open(self._source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start in self._steps(end):
                count = min(self._step(), end - start)
                await send({"type": "sandbox.file", "fd": fd, "offset": start, "count": count})
                await self._pause()
        finally:
            os.close(fd)

    def _steps(self, end: int) -> range:
        return range(self._start, end, self._step())

    def _step(self) -> int:
        if self._bandwidth_bytes_s is None:
            return max(self._end - self._start, _PIECE_BYTES)
        return max(self._bandwidth_bytes_s // _SLOW_STEPS_PER_S, 1)

    async def _pause(self) -> None:
        if self._bandwidth_bytes_s is not None:
            await trio.sleep(1 / _SLOW_STEPS_PER_S)
