"""Reads versions from the cache, else from downloads that all their readers share; decides how far to read ahead.

A read returns exactly the bytes asked for or raises ProcoreError: never another version's bytes, zeros, or less.
"""

import trio

from procorefs.cache.chunk_cache import Chunk, ChunkCache
from procorefs.cache.chunk_memory import MemoryBudget
from procorefs.cache.chunks import (
    KIB,
    MIB,
    SNIFF_BYTES,
    ChunkKey,
    block_at,
    block_key,
    block_start,
    block_stop,
    chunk_at,
    chunk_key,
    chunk_length,
    chunk_start,
    chunk_stop,
)
from procorefs.cache.shared_download import Shared, Transfer
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import Version

STREAMS = 12
"""Requests at once, of all versions."""

_SPARE_STREAMS = 4
"""Of these, only for readers that wait: reading ahead never takes them."""

_BUDGET_BYTES = 48 * MIB
"""Of chunks that are being downloaded or written; with the cache's memory 64 MiB in all."""

_WINDOW_BYTES = 64 * MIB
"""How far one reader's downloads run ahead."""

_SMALL_WINDOW_BYTES = 4 * MIB
"""The same when chunks only stay in memory."""

_LARGE_CACHE_BYTES = 512 * MIB
"""A smaller one does not hold what runs ahead of a few readers."""

SLACK_BYTES = MIB
"""The kernel reads ahead in parallel and slightly out of order: this is still "in one go"."""

_SETTLED_BYTES = 4 * MIB
"""A reader that has read so much in one go after a jump reads on: chunks are as long. Images in a PDF are shorter.

After more jumps it takes as many times as much: a PDF viewer jumps to each page's object first, then it reads a few
pages one after the other.
"""

_MOST_JUMPS = 4
"""More jumps count as so many."""

_EAGER_BYTES = 256 * KIB
"""Until a reader has read so much in one go after its first jump, twice as much is fetched ahead, and after
more jumps as much: each request waits."""

_SPARSE = 4
"""A reader that reads less than one byte of so many that it passes jumps, however short its jumps are."""

_SMALL_BYTES = MIB
"""A version of at most this size is downloaded whole: another request costs more than its bytes."""


class ContentReader:
    """Opens versions for reading and runs their downloads. `source` streams ranges of versions."""

    def __init__(self, cache: ChunkCache, source: Downloads) -> None:
        self.cache = cache
        self._nursery: trio.Nursery | None = None
        self._transfers: dict[tuple[int, int], Transfer] = {}
        """By version id and size."""
        self.budget = MemoryBudget(_BUDGET_BYTES)
        self._shared = Shared(
            source=source,
            cache=cache,
            budget=self.budget,
            slots=trio.Semaphore(STREAMS),
            spare_slots=_SPARE_STREAMS,
            nursery=lambda: self._nursery,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the cache and the downloads until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.cache.run)
                self._nursery = nursery
                task_status.started()
        finally:
            self._nursery = None

    def open(self, version: Version) -> "Reader":
        """A reader of one version; never fails and costs nothing until it reads."""
        key = (version.id, version.size_bytes)
        transfer = self._transfers.get(key)
        if transfer is None:
            transfer = self._transfers[key] = Transfer(version, self._shared, self._forget)
        transfer.join(version)
        return Reader(self, transfer, version)

    @property
    def is_downloading(self) -> bool:
        """Whether a download runs."""
        return any(not transfer.is_quiet for transfer in self._transfers.values())

    @property
    def keeps_ahead(self) -> bool:
        """Whether what is downloaded ahead will still be there when it is read."""
        return self.cache.keeps and self.cache.limit_bytes >= _LARGE_CACHE_BYTES

    def holds(self, version: Version) -> bool:
        """Whether all bytes of the version are cached, as far as is known without looking at the disk."""
        size_bytes = version.size_bytes
        chunks = range(chunk_at(size_bytes - 1) + 1) if size_bytes else range(0)
        return all(
            self.cache.holds(chunk_key(version.id, number), chunk_length(number, size_bytes))
            for number in chunks
        )

    def holds_head(self, version: Version) -> bool:
        """The same for the first chunk, which a file manager reads."""
        length = chunk_length(0, version.size_bytes)
        return length <= 0 or self.cache.holds(chunk_key(version.id, 0), length)

    def _forget(self, transfer: Transfer) -> None:
        key = (transfer.version.id, transfer.version.size_bytes)
        if self._transfers.get(key) is transfer:
            del self._transfers[key]

    def window_limit(self) -> int:
        """How far downloads may run ahead of one reader now."""
        if self.keeps_ahead:
            return _WINDOW_BYTES
        return _SMALL_WINDOW_BYTES


class Reader:
    """One open file. Reads may run in parallel and slightly out of order."""

    __slots__ = ("_ahead", "_cache", "_closed", "_content", "_size", "_transfer", "_version_id")

    def __init__(self, content: ContentReader, transfer: Transfer, version: Version) -> None:
        self._content = content
        self._cache = content.cache
        self._transfer = transfer
        self._version_id = version.id
        self._size = version.size_bytes
        self._ahead = ReadAhead()
        self._closed = False

    def read_now(self, offset: int, size_bytes: int) -> Chunk | None:
        """What `read` would return if it need not wait and all of it is in one chunk, else None."""
        end = min(offset + size_bytes, self._size)
        if offset >= end:
            return b""
        number = chunk_at(offset)
        if end > chunk_stop(number, self._size):
            return None
        data = self._now(number, offset, end)
        if data is not None:
            self._note(offset, end)
            self._look_ahead()
        return data

    async def read(self, offset: int, size_bytes: int) -> Chunk:
        """The bytes at `offset`: as many as asked for, or up to the end. Raises ProcoreError.

        Returns without a checkpoint when the bytes are cached.
        """
        end = min(offset + size_bytes, self._size)
        if offset >= end:
            return b""
        self._note(offset, end)
        number = chunk_at(offset)
        if end <= chunk_stop(number, self._size):
            data = self._now(number, offset, end)
            if data is None:
                data = await self._part(number, offset, end, end)
        else:
            data = await self._parts(offset, end)
        self._look_ahead()
        return data

    @property
    def is_read_through(self) -> bool:
        """Whether the end was read, or there is nothing to read."""
        return self._ahead.frontier >= self._size

    @property
    def has_read_head_only(self) -> bool:
        """Whether something was read, and nothing after the first chunk."""
        return 0 < self._ahead.frontier <= SNIFF_BYTES

    @property
    def size_bytes(self) -> int:
        """Of the version."""
        return self._size

    def close(self) -> None:
        """No more reads; downloads for this reader alone end soon."""
        if not self._closed:
            self._closed = True
            self._transfer.leave()

    def _note(self, offset: int, end: int) -> None:
        self._ahead.note(offset, end)
        self._transfer.last_read_at = trio.current_time()

    def _now(self, number: int, low: int, high: int) -> Chunk | None:
        start = chunk_start(number)
        key = chunk_key(self._version_id, number)
        data = self._cache.read_now(key, low - start, high - start, chunk_length(number, self._size))
        if data is None:
            data = self._transfer.peek(number, low, high)
        if data is None:
            data = self._blocks_now(low, high)
        if data is not None:
            self._cache.hits += 1
        return data

    def _blocks_now(self, low: int, high: int) -> Chunk | None:
        """Bytes [low, high), if their blocks can be had without waiting for the disk."""
        parts: list[Chunk] = []
        while low < high:
            key, start, stop = self._block(low)
            part = self._cache.read_now(key, low - start, min(stop, high) - start, stop - start)
            if part is None:
                return None
            parts.append(part)
            low = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _blocks(self, low: int, high: int) -> list[Chunk]:
        """The bytes from `low` on, up to the first block of [low, high) that is neither cached nor has arrived."""
        parts: list[Chunk] = []
        while low < high:
            key, start, stop = self._block(low)
            part = await self._cache.read(key, low - start, min(stop, high) - start, stop - start)
            if part is None:
                part = self._transfer.peek(chunk_at(low), low, min(stop, high))
            if part is None:
                break
            parts.append(part)
            low = stop
        return parts

    def _gap_end(self, low: int, high: int) -> int:
        """The start of the first cached block after that of `low`, which is not here; at most `high`."""
        _, _, stop = self._block(low)
        while stop < high:
            key, start, end = self._block(stop)
            if self._cache.holds(key, end - start):
                return start
            stop = end
        return high

    def _block(self, offset: int) -> tuple[ChunkKey, int, int]:
        """Key, first byte and end of the block at `offset`."""
        number = block_at(offset)
        return block_key(self._version_id, number), block_start(number), block_stop(number, self._size)

    async def _parts(self, offset: int, end: int) -> bytes:
        parts: list[Chunk] = []
        while offset < end:
            number = chunk_at(offset)
            stop = min(chunk_stop(number, self._size), end)
            data = self._now(number, offset, stop)
            parts.append(data if data is not None else await self._part(number, offset, stop, end))
            offset = stop
        return b"".join(parts)

    async def _part(self, number: int, low: int, high: int, end: int) -> Chunk:
        """Bytes [low, high) of one chunk, of a read up to `end`."""
        start, length = chunk_start(number), chunk_length(number, self._size)
        key = chunk_key(self._version_id, number)
        parts: list[Chunk] = []
        missed = False
        while True:
            data = await self._cache.read(key, low - start, high - start, length)
            if data is None:
                data = self._transfer.peek(number, low, high)
            if data is None:
                blocks = await self._blocks(low, high)
                parts += blocks
                low += sum(map(len, blocks))
                if low == high:
                    data = b""
            if data is not None:
                self._cache.hits += not missed
                break
            self._cache.misses += not missed
            missed = True
            stop = self._gap_end(low, high)  # blocks that are here are not downloaded again
            data = await self._transfer.wait_for(low, stop, max(end, self._goal()), jumps=self._jumps())
            if data is not None and stop == high:
                break
            if data is not None:
                parts.append(data)
                low = stop
        return data if not parts else b"".join([*parts, data])

    def _jumps(self) -> bool:
        return self._ahead.jumps and self._size > _SMALL_BYTES

    def _goal(self) -> int:
        return self._ahead.frontier + self._ahead.window(self._content.window_limit())

    def _look_ahead(self) -> None:
        ahead = self._ahead
        if ahead.covered >= self._size or not ahead.is_due(self._content.window_limit()):
            return
        try:
            ahead.covered = self._transfer.prefetch(
                max(ahead.covered, ahead.frontier), self._goal(), jumps=self._jumps()
            )
        except Unavailable:
            return  # closing: this read has its bytes


class ReadAhead:
    """How far ahead of one reader to download: as far again as it has read in one go, and less if it has jumped.

    A seek starts it over, so random access downloads little more than asked for.
    """

    __slots__ = ("_jump_count", "_read_bytes", "covered", "frontier", "run_bytes")

    def __init__(self) -> None:
        self.frontier = 0
        """The end of what was read in one go."""
        self.run_bytes = 0
        """How much that was, with the gaps; without the read that jumped there."""
        self.covered = 0
        """Up to here everything was cached or asked for when we last looked."""
        self._jump_count = 0
        """Since it last read on for long; no more than matter."""
        self._read_bytes = 0
        """How much of it was really read."""

    def note(self, offset: int, end: int) -> None:
        """Take a read of [offset, end) into account."""
        frontier = self.frontier
        if not frontier - SLACK_BYTES <= offset <= frontier + SLACK_BYTES:
            # who goes back to the beginning reads all of it, as players and unpackers do after a look at the end
            self._jump_count = min(self._jump_count + 1, _MOST_JUMPS) if offset else 0
            self._read_bytes = 0
            self.frontier = self.covered = end
            self.run_bytes = 0
        elif end > frontier:
            self.run_bytes += end - frontier  # a gap counts: its read comes late
            self.frontier = end
        self._read_bytes += end - offset
        if self.run_bytes >= _SETTLED_BYTES * self._jump_count and not self._is_sparse:
            self._jump_count = 0

    @property
    def jumps(self) -> bool:
        """Whether the reader reads pieces of the version rather than all of it."""
        return self._jump_count > 0 or self._is_sparse

    @property
    def _is_sparse(self) -> bool:
        return self._read_bytes * _SPARSE < self.run_bytes

    def window(self, limit_bytes: int) -> int:
        """How many bytes ahead of the frontier are wanted."""
        if self._is_sparse:
            return 0
        if self._jump_count == 0:
            return min(self.run_bytes, limit_bytes)
        is_eager = self._jump_count == 1 and self.run_bytes < _EAGER_BYTES
        least = 2 * self.run_bytes if is_eager else min(self.run_bytes, _EAGER_BYTES)
        return min(max(self.run_bytes // self._jump_count, least), limit_bytes)

    def is_due(self, limit_bytes: int) -> bool:
        """Whether less than half of the window is covered, so that one request fills a good part of it."""
        return self.frontier + self.window(limit_bytes) // 2 >= self.covered
