"""Bytes of a version on their way out: sendfile for content files, a slice for invented ones; cut or slowed."""

import os
from pathlib import Path

import trio
from starlette.responses import Response

from procorefs.sandbox.faults.fault_rules import Faults
from procorefs.sandbox.storage.asgi_server import Message, Receive, Send

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
        self._stall_after: tuple[int, Faults] | None = None

    def cut_after(self, count: int) -> None:
        """End the connection after so many bytes of the body."""
        self._cut_after = count

    def stall_after(self, count: int, faults: Faults) -> None:
        """Send nothing more after so many bytes, until the gate is released."""
        self._stall_after = (count, faults)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            is_whole = await self._send_until_fault(receive, send)
            if not is_whole:
                await send({"type": "http.response.body", "body": b"", "more_body": True})
                await send({"type": "sandbox.abort"})
        await send({"type": "http.response.body", "body": b""})

    async def _send_until_fault(self, receive: Receive, send: Send) -> bool:
        """False: the connection is to end here."""
        start = self._start
        if self._stall_after is not None:
            count, faults = self._stall_after
            stop = min(start + count, self._end)
            await self._send_range(send, start, stop)
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            if not await faults.silent(receive):
                return False
            start = stop
        if self._cut_after is None:
            await self._send_range(send, start, self._end)
            return True
        await self._send_range(send, start, max(min(self._end, self._start + self._cut_after), start))
        return False

    async def _send_range(self, send: Send, start: int, end: int) -> None:
        if isinstance(self._source, bytes):
            for offset in range(start, end, self._step()):
                piece = self._source[offset : min(offset + self._step(), end)]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await self._pause()
            return
        fd = os.open(self._source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for offset in range(start, end, self._step()):
                count = min(self._step(), end - offset)
                await send({"type": "sandbox.file", "fd": fd, "offset": offset, "count": count})
                await self._pause()
        finally:
            os.close(fd)

    def _step(self) -> int:
        if self._bandwidth_bytes_s is None:
            return max(self._end - self._start, _PIECE_BYTES)
        return max(self._bandwidth_bytes_s // _SLOW_STEPS_PER_S, 1)

    async def _pause(self) -> None:
        if self._bandwidth_bytes_s is not None:
            await trio.sleep(1 / _SLOW_STEPS_PER_S)
