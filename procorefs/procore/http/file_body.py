"""Bytes of a file on their way out: read in threads, piece by piece, and never other than what was announced.

A source that turns out shorter or longer than it said ends the request before its last byte is sent, so that no
storage takes it for whole.
"""

import os
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import msgspec
import trio

from procorefs.procore.http.http_client import Outgoing

READ_BYTES = 1024 * 1024
"""At once, in one visit to a thread."""

SEND_BYTES = 256 * 1024
"""At once: the server must take so much within the time of silence."""

Progress = Callable[[int], None]
"""Called with the bytes that went out so far in this try; a further try begins at 0 again."""


class Source(Protocol):
    """A file that does not change while it is sent."""

    @property
    def fd(self) -> int:
        """Open for reading; its position is not used."""

    @property
    def size_bytes(self) -> int:
        """What it must have."""


class OpenFile(msgspec.Struct, frozen=True):
    """The plain source."""

    fd: int
    size_bytes: int


class SourceChanged(ValueError):
    """The file has not the bytes that were announced."""


async def check(source: Source) -> None:
    """Raises SourceChanged when the file is not as long as it says: before anything was sent."""
    size = (await trio.to_thread.run_sync(os.fstat, source.fd)).st_size
    if size != source.size_bytes:
        raise SourceChanged(f"the file has {size} bytes, not {source.size_bytes}")


class FilePart(Outgoing):
    """The bytes [offset, offset + size) of a source between a head and a tail."""

    def __init__(
        self,
        source: Source,
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
    """One run over the bytes: head, what was read, tail; asked for the next when the last has gone out."""

    def __init__(
        self, source: Source, offset: int, size_bytes: int, progress: Progress, head: bytes, tail: bytes
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
        """The next piece of the file; with the last one, look whether the file ends there too."""
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
