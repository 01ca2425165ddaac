"""Bounds the memory of chunks: those kept after a read or a download, and those that are being downloaded."""

from collections import OrderedDict, deque

import trio

from procorefs.cache.chunks import SNIFF_BYTES, ChunkKey

_OVERHEAD_BYTES = 512
"""Of an entry and its buffer: many tiny chunks count, too."""


class RecentChunks:
    """Whole chunks by key, at most `limit_bytes` of them. Their bytes never change, so readers get slices of them."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._chunks: OrderedDict[ChunkKey, memoryview] = OrderedDict()

    def get(self, key: ChunkKey) -> memoryview | None:
        """The chunk, which becomes the most recent."""
        chunk = self._chunks.get(key)
        if chunk is not None:
            self._chunks.move_to_end(key)
        return chunk

    def put(self, key: ChunkKey, data: bytes | bytearray | memoryview) -> None:
        """Keep a chunk; forgets the least recently used ones for it."""
        self.forget(key)
        self._chunks[key] = memoryview(data)
        self.held_bytes += len(data) + _OVERHEAD_BYTES
        while self.held_bytes > self.limit_bytes and len(self._chunks) > 1:
            self._forget_size(self._chunks.popitem(last=False)[1])

    def forget(self, key: ChunkKey) -> None:
        """Let go of a chunk, if it is there."""
        chunk = self._chunks.pop(key, None)
        if chunk is not None:
            self._forget_size(chunk)

    def __contains__(self, key: ChunkKey) -> bool:
        return key in self._chunks

    def _forget_size(self, chunk: memoryview) -> None:
        self.held_bytes -= len(chunk) + _OVERHEAD_BYTES


class MemoryBudget:
    """The bytes that downloads may hold at once. Waiting is first come, first served, and can be cancelled.

    A download finishes what it holds without needing more, so the queue always moves.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._queue: deque[tuple[int, trio.Event]] = deque()

    async def acquire(self, size_bytes: int) -> None:
        """Take `size_bytes`. What is as small as a sniff goes ahead of the queue: it must not wait for big files."""
        if size_bytes <= SNIFF_BYTES or (not self._queue and self._fits(size_bytes)):
            self.held_bytes += size_bytes
            return
        entry = (size_bytes, trio.Event())
        self._queue.append(entry)
        try:
            await entry[1].wait()
        except trio.Cancelled:
            if entry[1].is_set():
                self.release(size_bytes)
            else:
                self._queue.remove(entry)
                self._serve()
            raise

    def release(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self.held_bytes -= size_bytes
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._fits(self._queue[0][0]):
            size_bytes, ready = self._queue.popleft()
            self.held_bytes += size_bytes
            ready.set()

    def _fits(self, size_bytes: int) -> bool:
        return self.held_bytes == 0 or self.held_bytes + size_bytes <= self.limit_bytes
