"""Caches whole chunks of versions on disk within a size limit, and decides which chunks are evicted.

    store() -> memory -> queue -> one thread -> file and row -> index
    read_now()/read(): memory -> open file -> file

The index (which chunks there are, how recently used) lives in memory and is read from the database at start. An
error of the disk is a miss, never a failing read: the bytes are downloaded then.
"""

import logging
import math
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from procorefs.cache.chunk_files import CachedOpen, ChunkFile, DamagedChunk, read_small_now
from procorefs.cache.chunk_memory import RecentChunks
from procorefs.cache.chunk_store import (
    CacheInUse,
    ChunkStore,
    NewChunk,
    StoreDamaged,
    chunk_path,
)
from procorefs.cache.chunks import (
    MIB,
    SNIFF_BYTES,
    ChunkKey,
    checksum_of,
    length_of,
    number_of,
    record,
    version_of,
)
from procorefs.storage.blocking_work import WorkerThread

log = logging.getLogger(__name__)

Chunk = bytes | bytearray | memoryview

MEMORY_BYTES = 16 * MIB
"""Of small and new chunks."""

OPEN_FILES = 64
"""Descriptors of big chunks."""

_BLOCK_BYTES = 4096
"""Files take whole blocks of the disk."""

_BATCH_BYTES = 16 * MIB
"""Written in one transaction."""

_BATCH_CHUNKS = 128
_PAUSE_S = 30.0
"""Without writing after the disk refused."""

_QUIET_S = 600.0
_READ_THREADS = 8


class CacheStats(msgspec.Struct, frozen=True):
    """What `status` shows: bytes on disk, their limit, and how many reads did or did not find their chunk."""

    bytes: int
    limit: int
    hits: int
    misses: int


@dataclass(slots=True)
class _Pending:
    """A chunk to be written; `done` is called when its memory is no longer needed for that."""

    key: ChunkKey
    data: Chunk
    done: Callable[[], None]


class ChunkCache:
    """Chunks by (version id, chunk number), so never stale. Used on one trio loop; `run` must run."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.hits = 0
        """Counted by the reader, a read at a time."""
        self.misses = 0
        self._directory = directory
        self._store = ChunkStore(directory)
        self.memory = RecentChunks(MEMORY_BYTES)
        self._index: OrderedDict[ChunkKey, int] = OrderedDict()
        """Records; least recently used first."""
        self._bytes = 0
        """What the index's chunks and those being written take on disk."""
        self._files: OrderedDict[ChunkKey, ChunkFile] = OrderedDict()
        """Big ones; least recently used first."""
        self._opening: Counter[ChunkKey] = Counter()
        """Read in threads right now: not to be evicted."""
        self._opener = CachedOpen()
        self._threads = trio.CapacityLimiter(_READ_THREADS)
        self._loaded = trio.Event()
        """The index is what the disk has."""
        self._pending: OrderedDict[ChunkKey, _Pending] = OrderedDict()
        """In order of arrival, written by `run`."""
        self._discarded: list[ChunkKey] = []
        """To be deleted from disk before anything is written."""
        self._work = trio.Event()
        self._usable = False
        """The store is open."""
        self._paused_until = -math.inf
        """Trio time."""
        self._quiet_until = -math.inf
        """Trio time; the same failure is told once in a while, not per chunk."""

    def stats(self) -> CacheStats:
        """The figures for `status`."""
        return CacheStats(bytes=self._bytes, limit=self.limit_bytes, hits=self.hits, misses=self.misses)

    def set_limit(self, limit_bytes: int) -> None:
        """Change the size limit; what is too much now is deleted, the least recently used first."""
        self.limit_bytes = limit_bytes
        self._discarded += self._make_room(0)
        if self._discarded:
            self._work.set()

    @property
    def keeps(self) -> bool:
        """Whether chunks that are stored now are kept; otherwise only the last few in memory are."""
        return self._usable and trio.current_time() >= self._paused_until

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the index and write what is stored, until cancelled. Ready at once: reads wait for the index."""
        thread = WorkerThread("chunk-cache")
        try:
            task_status.started()
            await self._load(thread)
            if self._usable:
                await thread.do(self._store.sweep, self._index)
            while True:
                await self._work.wait()
                self._work = trio.Event()
                while self._usable and (self._pending or self._discarded):
                    await self._write_some(thread)
                    await trio.lowlevel.checkpoint()
        finally:
            self._usable = False
            self._drop_pending()
            self._close_files()
            with trio.CancelScope(shield=True):
                await thread.do(self._store.close)
            thread.stop()

    def holds(self, key: ChunkKey, length: int) -> bool:
        """Whether the chunk of `length` bytes is cached, as far as is known without the disk."""
        # in the order of `read_now`, which finds what is said to be here
        chunk: Chunk | None = self.memory.get(key)
        if chunk is None and key in self._pending:
            chunk = self._pending[key].data
        if chunk is not None:
            return len(chunk) == length
        return self._is_indexed(key, length)

    def read_now(self, key: ChunkKey, low: int, high: int, length: int) -> Chunk | None:
        """Bytes [low, high) of the chunk of `length` bytes, or None: not here, or not without waiting for the disk."""
        file = self._files.get(key)
        if file is not None:
            self._index.move_to_end(key)
            return file.read_now(low, high)
        chunk = self.memory.get(key)
        if chunk is None:
            pending = self._pending.get(key)
            if pending is None:
                return self._read_small_now(key, low, high, length)
            chunk = memoryview(pending.data)
        elif key in self._index:
            self._index.move_to_end(key)
        return chunk[low:high] if len(chunk) == length else None

    async def read(self, key: ChunkKey, low: int, high: int, length: int) -> Chunk | None:
        """Bytes [low, high) of the chunk of `length` bytes, or None: it is not here. Waits for the disk."""
        if not self._loaded.is_set():
            await self._loaded.wait()
        data = self.read_now(key, low, high, length)
        if data is not None:
            return data
        entry = self._index.get(key)
        if entry is None:
            return None
        if length_of(entry) != length:
            self._discard(key, f"it has {length_of(entry)} bytes and not {length}")
            return None
        self._opening[key] += 1
        try:
            return await self._read_in_thread(key, low, high, length)
        finally:
            self._opening[key] -= 1
            if not self._opening[key]:
                del self._opening[key]

    def store(self, key: ChunkKey, data: Chunk, done: Callable[[], None]) -> None:
        """Keep a whole chunk, whose buffer must not change any more; `done` is called once, now or when written."""
        self.memory.put(key, data)
        entry = self._index.get(key)
        if (
            (entry is not None and length_of(entry) == len(data))
            or key in self._pending
            or not self._has_room_for(data)
        ):
            done()
            return
        self._pending[key] = _Pending(key, data, done)
        self._work.set()

    def check(self) -> None:
        """Raise AssertionError when the numbers do not fit the chunks; for tests."""
        assert self._bytes == sum(_cost(length_of(entry)) for entry in self._index.values())
        assert self._bytes <= self.limit_bytes
        assert len(self._files) <= OPEN_FILES
        assert self._files.keys() <= self._index.keys()

    # Reading

    def _path(self, key: ChunkKey) -> str:
        return f"{self._directory}/{chunk_path(key)}"

    def _read_small_now(self, key: ChunkKey, low: int, high: int, length: int) -> Chunk | None:
        entry = self._index.get(key)
        if entry is None or length_of(entry) != length or length > SNIFF_BYTES:
            return None
        try:
            chunk = read_small_now(self._opener, self._path(key), length, checksum_of(entry))
        except DamagedChunk as error:
            self._discard(key, str(error))
            return None
        if chunk is None:
            return None
        self._index[key] = record(length)
        self._index.move_to_end(key)
        self.memory.put(key, chunk)
        return memoryview(chunk)[low:high]

    async def _read_in_thread(self, key: ChunkKey, low: int, high: int, length: int) -> Chunk | None:
        try:
            file = self._files.get(key) or await self._open_file(key, length)
            file.hold()
            try:
                whole = length <= SNIFF_BYTES
                start, stop = (0, length) if whole else (low, high)
                data = file.read_now(start, stop)
                if data is None:
                    data = await trio.to_thread.run_sync(file.read, start, stop, limiter=self._threads)
            finally:
                file.release()
        except (DamagedChunk, OSError) as error:
            if self._is_indexed(key, length):  # else it was evicted or replaced meanwhile, which is no damage
                self._discard(key, str(error))
            return None
        if not whole:
            return data
        if self._is_indexed(key, length):
            self.memory.put(key, data)
            self._close_file(key)
        return memoryview(data)[low:high]

    def _is_indexed(self, key: ChunkKey, length: int) -> bool:
        entry = self._index.get(key)
        return entry is not None and length_of(entry) == length

    async def _open_file(self, key: ChunkKey, length: int) -> ChunkFile:
        path, checksum = self._path(key), checksum_of(self._index[key])
        file = await trio.to_thread.run_sync(ChunkFile.open, path, length, checksum, limiter=self._threads)
        # no await from here: the file must be in `_files` or closed
        if not self._is_indexed(key, length):
            file.drop()
            raise DamagedChunk("was replaced")
        self._index[key] = record(length)
        self._index.move_to_end(key)
        other = self._files.get(key)
        if other is not None:
            file.drop()
            return other
        self._files[key] = file
        self._close_surplus_files()
        return file

    def _close_surplus_files(self) -> None:
        while len(self._files) > OPEN_FILES:
            self._files.popitem(last=False)[1].drop()

    def _close_file(self, key: ChunkKey) -> None:
        file = self._files.pop(key, None)
        if file is not None:
            file.drop()

    def _close_files(self) -> None:
        for file in self._files.values():
            file.drop()
        self._files.clear()

    def _discard(self, key: ChunkKey, reason: str) -> None:
        log.info("Cached chunk %d of version %d is not used: %s.", number_of(key), version_of(key), reason)
        self._forget(key)
        self._discarded.append(key)
        self._work.set()

    def _forget(self, key: ChunkKey) -> None:
        self._bytes -= _cost(length_of(self._index.pop(key)))
        self.memory.forget(key)
        self._close_file(key)

    # Writing

    async def _load(self, thread: WorkerThread) -> None:
        try:
            self._index, self._bytes = await thread.do(self._open_store)
            self._usable = True
            self._discarded += self._make_room(0)
            if self._discarded:
                self._work.set()
        except (OSError, sqlite3.Error, CacheInUse) as error:
            log.warning("No chunk cache in %s: files are read without one (%s).", self._directory, error)
        finally:
            self._loaded.set()
        if not self._usable:
            self._drop_pending()

    def _open_store(self) -> tuple[OrderedDict[ChunkKey, int], int]:
        """In the thread's thread, for there can be many chunks."""
        index = self._store.open()
        return index, sum(_cost(length_of(entry)) for entry in index.values())

    async def _write_some(self, thread: WorkerThread) -> None:
        batch = self._next_batch()
        cost = sum(_cost(len(item.data)) for item in batch)
        deletes = self._discarded + self._make_room(cost)
        self._discarded = []
        if self._bytes + cost > self.limit_bytes:  # everything else is being read
            self._finish(batch, set())
            batch = []
            cost = 0
        self._bytes += cost
        stored: set[ChunkKey] = set()
        try:
            stored, failure = await thread.do(
                self._store.apply, deletes, [NewChunk(item.key, item.data) for item in batch]
            )
            self._note_failure(failure)
        except OSError as error:
            self._note_failure(error)
        except StoreDamaged as error:
            await self._replace_store(thread, error)
            cost = 0
        self._bytes -= cost
        self._finish(batch, stored)

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size_bytes = 0
        for item in self._pending.values():
            if batch and size_bytes + len(item.data) > min(_BATCH_BYTES, self.limit_bytes):
                break
            batch.append(item)
            size_bytes += len(item.data)
            if len(batch) == _BATCH_CHUNKS:
                break
        return batch

    def _finish(self, batch: list[_Pending], stored: set[ChunkKey]) -> None:
        for item in batch:
            if item.key in stored:
                replaced = self._index.get(item.key)  # stored while this one waited, with another length
                self._bytes += _cost(len(item.data)) - (
                    _cost(length_of(replaced)) if replaced is not None else 0
                )
                self._index[item.key] = record(len(item.data))
            if self._pending.pop(item.key, None) is not None:
                item.done()

    async def _replace_store(self, thread: WorkerThread, error: StoreDamaged) -> None:
        self._close_files()
        self._index.clear()
        self._bytes = 0
        try:
            await thread.do(self._store.reopen, error)
            await thread.do(self._store.sweep, self._index)
        except (OSError, sqlite3.Error) as failure:
            self._usable = False
            log.warning("The chunk cache in %s cannot be created again (%s).", self._directory, failure)
            self._drop_pending()

    def _make_room(self, cost: int) -> list[ChunkKey]:
        """Take the least recently used chunks out of the index until `cost` more fits; none that is being read."""
        evicted: list[ChunkKey] = []
        excess = self._bytes + cost - self.limit_bytes
        if excess <= 0:
            return evicted
        for key, entry in self._index.items():
            if key in self._opening:
                continue
            evicted.append(key)
            excess -= _cost(length_of(entry))
            if excess <= 0:
                break
        for key in evicted:
            self._forget(key)
        return evicted

    def _has_room_for(self, data: Chunk) -> bool:
        if self._loaded.is_set() and not self.keeps:
            return False
        return _cost(len(data)) <= self.limit_bytes

    def _note_failure(self, error: OSError | None) -> None:
        if error is None:
            return
        now = trio.current_time()
        self._paused_until = now + _PAUSE_S
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_S
            log.warning(
                "The chunk cache in %s cannot be written (%s): files are read without it until it can.",
                self._directory,
                error.strerror or error,
            )

    def _drop_pending(self) -> None:
        while self._pending:
            self._pending.popitem(last=False)[1].done()


def _cost(length: int) -> int:
    return (length + _BLOCK_BYTES - 1) // _BLOCK_BYTES * _BLOCK_BYTES
