"""Downloads the ranges of one version that its readers wait for or will read next; all its readers share them.

    readers --demand/prefetch--> streams --pieces--> partial chunks --whole chunks--> cache
    readers <------------------- waiters <----------'

A stream is one task in the content reader's nursery that asks the source for one range. What arrives goes into a
partial chunk and at once to the readers that wait for it. Invariants:

- the ranges that streams still have to bring do not overlap, and each waiter's missing bytes are in them; when a stream
  is shortened or ends, the waiters look again (`_look_again`);
- a partial chunk exists only while a stream has bytes to bring for it, and holds its length of the memory budget; the
  blocks of one that does not become whole are kept for readers, who look for them before they wait. Streams do not
  count on them, so a block that is lost or evicted is only downloaded again;
- all state is changed between awaits of the one loop, and read again after each await.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cachetools
import trio

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.cache.chunk_memory import MemoryBudget
from procorefs.cache.chunks import (
    KIB,
    MIB,
    block_at,
    block_key,
    block_start,
    block_stop,
    chunk_at,
    chunk_key,
    chunk_length,
    chunk_start,
    chunk_stop,
    outside_blocks,
    round_up,
)
from procorefs.cache.partial_chunk import PartialChunk, Stream, Waiter, without
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.errors import Malformed, ProcoreError, Silent, Unavailable
from procorefs.procore.wire.models import Version

log = logging.getLogger(__name__)

STREAM_BYTES = 32 * MIB
"""The longest range of one request (a request may cost a redirect, too)."""

STREAMS_PER_VERSION = 4
_NEAR_BYTES = 2 * MIB
"""A running stream is waited for when it is so close; else a request of its own is faster."""

_HEAD_BYTES = 128 * KIB
"""A chunk is fetched from its start when the wanted bytes are so close to it."""

_ALIGN_BYTES = 64 * KIB
JUMPS_PER_CHUNK = 16
"""Requests for blocks of one chunk; then a program reads so many places of it that the whole chunk is cheaper."""

_IDLE_S = 10.0
"""Downloading ahead ends after this time without a read."""

PATIENCE_S = 28.0
"""Readers wait this long without a byte, all tries and streams taken together: with the two seconds that an open may
have waited for a poll, a program has its answer within half a minute."""

_REPEAT_S = 1.0
"""A read that comes this soon after one that failed does not wait again: the kernel repeats a failed read-ahead by
itself, for a single page."""

_BUDGET_LOOK_S = 1.0
_LINGER_S = 1.0
"""After the last close a chunk may still become whole for this time."""


@dataclass(slots=True, frozen=True)
class Shared:
    """What all transfers share."""

    source: Downloads
    cache: ChunkCache
    budget: MemoryBudget
    slots: trio.Semaphore
    """Streams at once, of all versions."""
    spare_slots: int
    """This many are left to readers that wait: downloading ahead does not take them."""
    nursery: Callable[[], trio.Nursery | None]


class Transfer:
    """Downloads of one version."""

    def __init__(self, version: Version, shared: Shared, on_idle: Callable[["Transfer"], None]) -> None:
        self.version = version
        self.last_read_at = 0.0
        """Trio time; the readers keep it."""
        self._size = version.size_bytes
        self._shared = shared
        self._cache = shared.cache
        self._on_idle = on_idle
        self._readers = 0
        self._streams: list[Stream] = []
        self._slots = trio.Semaphore(STREAMS_PER_VERSION)
        self._partial: dict[int, PartialChunk] = {}
        """By chunk number."""
        self._jumps: cachetools.LRUCache[int, int] = cachetools.LRUCache(maxsize=1024)
        """Requests for blocks, by chunk number; a forgotten one costs as many again."""
        self._waiters: list[Waiter] = []
        self._silent_since_s = 0.0
        """Trio time: while there are waiters, they have waited since then without a byte."""
        self._waited_until_s = float("-inf")
        """Trio time: the last wait that ended."""

    # For readers

    def join(self, version: Version) -> None:
        """One more reader; its version may know a fresher address."""
        self.version = version
        self._readers += 1
        for stream in self._streams:
            stream.scope.deadline = float("inf")

    def leave(self) -> None:
        """One reader less; after the last, downloads end with the chunk they are in, or soon."""
        self._readers -= 1
        if self._readers == 0 and not self._waiters:
            self._abandon()

    def peek(self, number: int, low: int, high: int) -> memoryview | None:
        """Bytes [low, high) of the version, which lie in that chunk, if they have arrived."""
        chunk = self._partial.get(number)
        return chunk.slice(low, high) if chunk is not None else None

    def prefetch(self, low: int, goal: int, *, jumps: bool) -> int:
        """Have what follows `low` downloaded up to the end of goal's chunk; up to where that is so now.

        `jumps`: up to the end of goal's block.
        """
        if self._takes_whole_bodies():
            return low
        if jumps:
            low, target = block_start(block_at(low)), self._block_end(goal)
            gaps = outside_blocks(self._missing(low, target), self._is_block_cached)
        else:
            low, target = chunk_start(chunk_at(low)), round_up(goal, self._size)
            gaps = self._missing(low, target)
        for start, stop in gaps:
            if not self._start_ahead(start, stop):
                return start
        return target

    async def wait_for(self, low: int, high: int, goal: int, *, jumps: bool) -> memoryview | None:
        """Bytes [low, high) of one chunk as soon as they have come; None: look again. Raises ProcoreError.

        What follows up to `goal` is downloaded with them. `jumps`: the reader will hardly read the rest of the chunk.
        """
        now_s = trio.current_time()
        if not self._waiters and now_s > self._waited_until_s + _REPEAT_S:
            self._silent_since_s = now_s
        self._check_patience()
        self._demand(low, high, goal, jumps)
        if self._is_cached(chunk_at(low)):
            await trio.lowlevel.checkpoint()
            return None  # it came into the cache meanwhile
        waiter = Waiter(low, high)
        self._waiters.append(waiter)
        try:
            await self._wait_for_byte(waiter)
        finally:
            self._waiters.remove(waiter)
            self._waited_until_s = trio.current_time()
            if self._readers == 0 and not self._waiters:
                self._abandon()
        if waiter.error is not None:
            raise waiter.error
        return waiter.data

    async def _wait_for_byte(self, waiter: Waiter) -> None:
        """Raises Silent when no byte has come for too long."""
        while not waiter.ready.is_set():
            self._check_patience()
            left_s = self._silent_since_s + PATIENCE_S - trio.current_time()
            with trio.move_on_after(left_s if left_s > 0 else _BUDGET_LOOK_S):
                await waiter.ready.wait()

    def _check_patience(self) -> None:
        if trio.current_time() < self._silent_since_s + PATIENCE_S:
            return
        if not self._shared.source.waits_for_budget(self.version):
            raise Silent(f"Could not read the file: no byte came within {PATIENCE_S:.0f} s")

    @property
    def is_idle(self) -> bool:
        """Whether it has no readers and no downloads."""
        return self._readers == 0 and not self._streams and not self._waiters

    @property
    def is_quiet(self) -> bool:
        """Whether no download runs."""
        return not self._streams

    # Which ranges to ask for

    def _demand(self, low: int, high: int, goal: int, jumps: bool) -> None:
        """Start what [low, high) lacks, which a reader waits for, and continue to `goal`."""
        if self._takes_whole_bodies():
            for start, stop in self._missing(0, self._size):
                if start < high:
                    self._start(start, stop)
            return
        self._cut_distant_streams(low)
        for start, stop in self._to_demand(low, high, goal, jumps):
            if start < high:
                self._start(start, min(stop, start + STREAM_BYTES))
            elif not self._start_ahead(start, stop):
                break

    def _to_demand(self, low: int, high: int, goal: int, jumps: bool) -> list[tuple[int, int]]:
        """The ranges that bring what [low, high) lacks and what follows up to about `goal`."""
        number, target = chunk_at(low), max(high, goal)
        if not jumps or number == 0:
            return self._missing(self._begin_of(low), round_up(target, self._size))
        if goal <= high:  # it does not read on
            self._jumps[number] = self._jumps.get(number, 0) + 1
        if self._jumps.get(number, 0) > JUMPS_PER_CHUNK:
            return self._missing(chunk_start(number), round_up(target, self._size))
        last = block_at(high - 1)
        return outside_blocks(
            self._missing(block_start(block_at(low)), self._block_end(target)),
            lambda block: block > last and self._is_block_cached(block),  # a cached one may prove unreadable
        )

    def _takes_whole_bodies(self) -> bool:
        """Whether the storage ignores ranges: then one stream brings everything, and none is cut or runs ahead."""
        return self._shared.source.ignores_ranges(self.version)

    def _begin_of(self, low: int) -> int:
        """Where to begin for bytes at `low`: at the chunk's start if that is near."""
        start = chunk_start(chunk_at(low))
        return start if low - start <= _HEAD_BYTES else low // _ALIGN_BYTES * _ALIGN_BYTES

    def _block_end(self, offset: int) -> int:
        """The end of the block of the byte before `offset`."""
        return block_stop(block_at(offset - 1), self._size)

    def _is_block_cached(self, number: int) -> bool:
        length = block_stop(number, self._size) - block_start(number)
        return self._cache.holds(block_key(self.version.id, number), length)

    def _missing(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of [low, high) that are neither here nor on their way, as few ranges as possible."""
        gaps: list[tuple[int, int]] = []
        while low < high:
            number = chunk_at(low)
            stop = min(chunk_stop(number, self._size), high)
            for gap in self._missing_in_chunk(number, low, stop):
                if gaps and gaps[-1][1] == gap[0]:
                    gaps[-1] = (gaps[-1][0], gap[1])
                else:
                    gaps.append(gap)
            low = stop
        return gaps

    def _missing_in_chunk(self, number: int, low: int, high: int) -> list[tuple[int, int]]:
        if self._is_cached(number):
            return []
        chunk = self._partial.get(number)
        gaps = chunk.spans.gaps(low, high) if chunk is not None else [(low, high)]
        for stream in self._streams:
            gaps = [part for gap in gaps for part in without(gap, stream.position, stream.end)]
        return gaps

    def _is_cached(self, number: int) -> bool:
        return self._cache.holds(chunk_key(self.version.id, number), chunk_length(number, self._size))

    def _cut_distant_streams(self, low: int) -> None:
        for stream in self._streams:
            if stream.position + _NEAR_BYTES < low < stream.end:
                stream.end = self._begin_of(low)
                self._look_again()

    # Streams

    def _start_ahead(self, start: int, stop: int) -> bool:
        """Start as many streams as the range takes, if there is room for them beside what readers wait for."""
        while start < stop:
            if self._shared.slots.value <= self._shared.spare_slots:
                return False
            if len(self._streams) >= STREAMS_PER_VERSION - 1:
                return False
            end = min(stop, start + STREAM_BYTES)
            self._start(start, end)
            start = end
        return True

    def _start(self, start: int, end: int) -> None:
        nursery = self._shared.nursery()
        if nursery is None:
            raise Unavailable("The mount is closing: nothing is downloaded any more")
        stream = Stream(start, end)
        self._streams.append(stream)
        nursery.start_soon(self._run, stream)

    async def _run(self, stream: Stream) -> None:
        error: Exception | None = Unavailable("The mount is closing: the download was ended")
        try:
            with stream.scope:
                await self._download(stream)
            error = None
        except ProcoreError as problem:
            error = problem
        except Exception as problem:  # a bug in the source must not end the mount: its readers get the error
            log.exception("Downloading version %d failed with an unexpected error", self.version.id)
            error = problem
        finally:
            self._end(stream, error)

    async def _download(self, stream: Stream) -> None:
        async with self._slots, self._shared.slots:
            await self._pull(stream)
            head = self._head_of_last_chunk(stream)
            if head is not None:  # a read in the middle of a chunk: complete it, so that it can be kept
                stream.position, stream.end = head
                await self._pull(stream)

    async def _pull(self, stream: Stream) -> None:
        asked_end = stream.end
        if stream.position >= asked_end:
            return
        async with self._shared.source.stream(self.version, stream.position, asked_end) as pieces:
            async for piece in pieces:
                stream.has_begun = True
                await self._take(stream, piece)
                if stream.position >= stream.end and stream.end < asked_end:
                    return  # shortened; otherwise the source ends by itself, which keeps its connection usable
                if self._is_unwanted(stream):
                    return
        if stream.position < stream.end:
            missing = stream.end - stream.position
            raise Malformed(f"The download of version {self.version.id} ended {missing} bytes too early")

    async def _take(self, stream: Stream, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest and stream.position < stream.end:
            number = chunk_at(stream.position)
            chunk = self._partial.get(number)
            if chunk is None:
                await self._new_chunk(number)
                continue  # look again: the stream may be shorter now
            self._silent_since_s = trio.current_time()
            low = stream.position
            high = min(low + len(rest), stream.end, chunk.stop)
            chunk.view[low - chunk.start : high - chunk.start] = rest[: high - low]
            rest = rest[high - low :]
            stream.position = high
            chunk.spans.add(low, high)
            self._serve(chunk, low, high)
            if chunk.spans.covers(chunk.start, chunk.stop):
                self._finish(number, chunk)

    async def _new_chunk(self, number: int) -> None:
        start, stop = chunk_start(number), chunk_stop(number, self._size)
        await self._shared.budget.acquire(stop - start)
        if number in self._partial:
            self._shared.budget.release(stop - start)
        else:
            self._partial[number] = PartialChunk(start, stop)

    def _serve(self, chunk: PartialChunk, low: int, high: int) -> None:
        for waiter in self._waiters:
            if waiter.low < high and low < waiter.high and waiter.data is None:
                waiter.data = chunk.slice(waiter.low, waiter.high)
                if waiter.data is not None:
                    waiter.ready.set()

    def _finish(self, number: int, chunk: PartialChunk) -> None:
        del self._partial[number]
        size_bytes = chunk.stop - chunk.start
        key = chunk_key(self.version.id, number)
        self._cache.store(key, chunk.view.toreadonly(), lambda: self._shared.budget.release(size_bytes))

    def _head_of_last_chunk(self, stream: Stream) -> tuple[int, int] | None:
        """The first gap of a chunk that this stream leaves incomplete at its front, if there are readers.

        A chunk that lacks more than half, or has blocks in the cache, is not completed: it is kept in blocks.
        """
        if self._readers == 0 or self._is_unwanted(stream):
            return None
        for number, chunk in self._partial.items():
            gaps = self._missing_in_chunk(number, chunk.start, min(chunk.stop, stream.position))
            lacks_bytes = sum(high - low for low, high in gaps)
            if chunk.stop <= stream.position and 0 < 2 * lacks_bytes <= chunk.stop - chunk.start:
                return gaps[0] if outside_blocks(gaps, self._is_block_cached) == gaps else None
        return None

    def _is_unwanted(self, stream: Stream) -> bool:
        """Whether it only runs ahead of readers that no longer read."""
        if trio.current_time() < self.last_read_at + _IDLE_S:
            return False
        return not any(waiter.low < stream.end and stream.position < waiter.high for waiter in self._waiters)

    # Endings

    def _end(self, stream: Stream, error: Exception | None) -> None:
        self._streams.remove(stream)
        if error is not None:
            for waiter in self._waiters:
                if waiter.low < stream.end and stream.position < waiter.high and waiter.data is None:
                    waiter.error = error
                    waiter.ready.set()
            if not isinstance(error, Unavailable):
                log.debug("Download of version %d ended: %s", self.version.id, error)
        self._drop_incomplete()
        self._look_again()
        if self.is_idle:
            self._on_idle(self)

    def _drop_incomplete(self) -> None:
        """Forget partial chunks that no stream will complete, but keep the blocks of them that are here."""
        for number, chunk in list(self._partial.items()):
            if not any(s.position < chunk.stop and chunk.start < s.end for s in self._streams):
                del self._partial[number]
                self._keep_blocks(chunk)

    def _keep_blocks(self, chunk: PartialChunk) -> None:
        release = self._shared.budget.release
        left_bytes = chunk.stop - chunk.start
        for number, data in chunk.whole_blocks(self._size):
            left_bytes -= len(data)
            self._cache.store(block_key(self.version.id, number), data, partial(release, len(data)))
        release(left_bytes)

    def _look_again(self) -> None:
        for waiter in self._waiters:
            if waiter.data is None and self._missing(waiter.low, waiter.high):
                waiter.ready.set()

    def _abandon(self) -> None:
        deadline = trio.current_time() + _LINGER_S
        for stream in self._streams:
            if not stream.has_begun:
                stream.scope.cancel()
            stream.end = min(stream.end, round_up(stream.position, self._size))
            stream.scope.deadline = deadline
        if self.is_idle:
            self._on_idle(self)
