"""Downloads from memory whose every step a test can see, stop and break, and the cache around them."""

import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.cache.reader import ContentReader, Reader
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.wire.models import Version, VersionId

KIB = 1024
MIB = 1024 * KIB


def version(version_id: int, size_bytes: int) -> Version:
    return Version(
        id=VersionId(version_id), number=1, size_bytes=size_bytes, created_at_s=0, url="http://127.0.0.1/"
    )


def content_of(one: Version, low: int, high: int) -> bytes:
    """The bytes [low, high) of a version: no two versions and no two nearby places look the same."""
    high = min(high, one.size_bytes)
    if low >= high:
        return b""
    block = random.Random(one.id).randbytes(100_003)  # a prime: no period of the grid
    skip = low % len(block)
    repeated = block * ((skip + high - low) // len(block) + 1)
    return repeated[skip : skip + high - low]


class Gate:
    """Stops a stream before the byte at `offset` until `open` is set."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.reached = trio.Event()
        self.open = trio.Event()


class MemorySource(Downloads):
    """Streams `content_of` in pieces; notes every request and how it ended."""

    def __init__(self, piece_bytes: int = 256 * 1024) -> None:
        self.piece_bytes = piece_bytes
        self.requests: list[tuple[int, int, int]] = []  # version id, start, end
        self.delivered_bytes = 0
        self.running = 0
        self.most_running = 0
        self.ended = trio.Event()  # replaced whenever a stream ends
        self.gates: list[Gate] = []
        self.failures: dict[int, Exception] = {}  # raised before the byte at that offset, once
        self.failed = trio.Event()
        self.is_held_back = False  # streams wait for the call budget
        self.short_by = 0  # streams end so many bytes early

    def ignores_ranges(self, _version: Version) -> bool:
        return False

    def waits_for_budget(self, _version: Version) -> bool:
        return self.is_held_back

    def gate(self, offset: int) -> Gate:
        self.gates.append(Gate(offset))
        return self.gates[-1]

    @asynccontextmanager
    async def stream(self, version: Version, start: int, end: int) -> AsyncIterator[AsyncIterator[bytes]]:
        assert 0 <= start < end <= version.size_bytes
        self.requests.append((version.id, start, end))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        pieces = self._pieces(version, start, end - self.short_by)
        try:
            yield pieces
        finally:
            self.running -= 1
            self.ended.set()
            self.ended = trio.Event()
            await pieces.aclose()

    async def _pieces(self, one: Version, position: int, end: int) -> AsyncGenerator[bytes]:
        while position < end:
            await trio.lowlevel.checkpoint()
            stop = await self._pass_gates(position, min(position + self.piece_bytes, end))
            piece = content_of(one, position, stop)
            position = stop
            self.delivered_bytes += len(piece)
            yield piece

    async def _pass_gates(self, position: int, stop: int) -> int:
        """Wait at a gate; otherwise end the piece where the next gate or failure lies."""
        for gate in self.gates:
            if gate.offset == position and not gate.open.is_set():
                gate.reached.set()
                await gate.open.wait()
        if position in self.failures:
            self.failed.set()
            raise self.failures.pop(position)
        marks = [gate.offset for gate in self.gates] + list(self.failures)
        return min([stop, *(mark for mark in marks if position < mark)])


@asynccontextmanager
async def running(
    directory: Path, source: MemorySource, limit_bytes: int = 512 * MIB
) -> AsyncIterator[tuple[ContentReader, ChunkCache]]:
    """A content reader that runs; its numbers are checked at the end."""
    cache = ChunkCache(directory, limit_bytes)
    content = ContentReader(cache, source)
    async with trio.open_nursery() as nursery:
        await nursery.start(content.run)
        yield content, cache
        await settled(content)
        cache.check()
        nursery.cancel_scope.cancel()
    assert source.running == 0
    assert content.budget.held_bytes == 0


async def settled(content: ContentReader) -> None:
    """Return when every chunk that came is on disk and no download runs."""
    with trio.fail_after(20):
        while content.budget.held_bytes or content.is_downloading:  # noqa: ASYNC110 (three kinds of work may go on)
            await trio.sleep(0.002)


async def read_all(reader: Reader, size: int, step: int = 128 * KIB) -> bytes:
    return b"".join([bytes(await reader.read(offset, step)) for offset in range(0, size, step)])
