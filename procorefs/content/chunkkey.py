"""The name of a chunk: version and number in one integer, because an index may hold a million of them."""

from typing import NewType

ChunkKey = NewType("ChunkKey", int)  # names the same bytes for ever: those of a version never change

_NUMBER_BITS = 44  # 2**63 bytes are fewer chunks than this counts


def chunk_key(version: int, number: int) -> ChunkKey:
    """The key of a version's chunk."""
    return ChunkKey(version << _NUMBER_BITS | number)


def version_of(key: ChunkKey) -> int:
    """The version that a chunk belongs to."""
    return key >> _NUMBER_BITS


def number_of(key: ChunkKey) -> int:
    """The chunk's number in its version."""
    return key & ((1 << _NUMBER_BITS) - 1)
