"""Chunks in memory: the small and the new ones, the least recently used go first."""

from collections import OrderedDict

from procorefs.cache.chunks import ChunkKey


class RecentChunks:
    """Whole chunks by key, at most `limit_bytes` of them. Their bytes never change, so slices may be given away."""

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
        """Keep a chunk; forgets the oldest ones for it."""
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


_OVERHEAD_BYTES = 512  # of an entry and its buffer: many tiny chunks count too
