"""Bytes: of versions, in the chunk cache and the downloads that fill it; and of files being written, in `staging`.

A `Reader` asks the `ChunkCache` for each chunk, and the version's `Transfer` for what is not there; a transfer
streams ranges from a `ByteSource` and hands every chunk that became whole to the cache.
"""

from procorefs.content.cache import CacheStats, ChunkCache
from procorefs.content.reader import ContentReader, Reader
from procorefs.content.source import ByteSource

__all__ = ["ByteSource", "CacheStats", "ChunkCache", "ContentReader", "Reader"]
