"""Streams a part of a file as the body of a request, and ends the request when the file has not the announced size.

A file that turns out shorter or longer ends the request before its last byte is sent, so that no storage takes it for
whole. It is read in threads.
"""

import os
from collections.abc import AsyncIterator, Callable

import msgspec
import trio

from procorefs.procore.http.http_client import Outgoing

READ_BYTES = 1024 * 1024
"""At once, in one visit to a thread."""

SEND_BYTES = 256 * 1024
"""At once: the server must take so much within the time of silence."""

Progress = Callable[[int], None]
"""Called with the bytes sent so far in this try; the next try begins at 0."""


class SourceFile(msgspec.Struct, frozen=True):
    """A file that does not change while it is sent."""

    fd: int
    """Open for reading; its position is not used."""
    size_bytes: int
    """What it must have."""


class SourceChanged(ValueError):
    """The file has not the bytes that were announced."""


async def check(source: SourceFile) -> None:
    """Raises SourceChanged when the file is not as long as it says: before anything was sent."""
    size = (await trio.to_thread.run_sync(os.fstat, source.fd)).st_size
    if size != source.size_bytes:
        raise SourceChanged(f"the file has {size} bytes, not {source.size_bytes}")


class FilePart(Outgoing):
    """The bytes [offset, offset + size) of a source between a head and a tail."""

    def __init__(
        self,
        source: SourceFile,
        offset: int,
        size_bytes: int,
        progress: Progress,
        *,
        head: bytes = b"",
        tail: bytes = b"",
    ) -> None:
        self._source = source
        self._offset = offset
        self._size_bytes = size_bytes
        self._progress = progress
        self._head = head
        self._tail = tail

    @property
    def length(self) -> int:
        """Of all that goes out."""
        return len(self._head) + self._size_bytes + len(self._tail)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self._source, self._offset, self._size_bytes, self._progress, self._head, self._tail)


class _Pieces:
    """One pass over the bytes: head, what was read, tail; the next piece is asked for when the last was sent."""

    def __init__(
        self, source: SourceFile, offset: int, size_bytes: int, progress: Progress, head: bytes, tail: bytes
    ) -> None:
        self._source = source
        self._begin = self._at = offset
        self._end = offset + size_bytes
        self._progress = progress
        self._head = head
        self._tail = tail
        self._read = memoryview(b"")
        self._tells_progress = False

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if self._tells_progress:
            self._tells_progress = False
            self._progress(self._at - len(self._read) - self._begin)
        if self._head:
            head, self._head = self._head, b""
            return head
        if not self._read and self._at < self._end:
            await self._read_on()
        if self._read:
            piece, self._read = self._read[:SEND_BYTES], self._read[SEND_BYTES:]
            self._tells_progress = True
            return piece  # type: ignore[return-value]  # a view: h11 and the socket take it as it is
        if self._tail:
            tail, self._tail = self._tail, b""
            return tail
        raise StopAsyncIteration

    async def _read_on(self) -> None:
        """The next piece of the file; after the last one, check that the file ends there."""
        count = min(READ_BYTES, self._end - self._at)
        read = await trio.to_thread.run_sync(_exactly, self._source.fd, count, self._at)
        if self._at + count == self._source.size_bytes:
            await check(self._source)
        self._read, self._at = memoryview(read), self._at + count


def _exactly(fd: int, count: int, offset: int) -> bytes:
    """So many bytes from there. Raises SourceChanged when the file ends before."""
    first = os.pread(fd, count, offset)
    if len(first) == count:
        return first
    pieces = [first]
    while (missing := count - sum(map(len, pieces))) and pieces[-1]:
        pieces.append(os.pread(fd, missing, offset + count - missing))
    if missing:
        raise SourceChanged(f"the file ended at {offset + count - missing} bytes while it was sent")
    return b"".join(pieces)
