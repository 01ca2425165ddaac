"""The name of a chunk and what is known of it, an integer each, because an index may hold a million of them."""

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


_LENGTH_BITS = 32


def record(length: int, checksum: int | None = None) -> int:
    """What the index knows of a chunk: its length, and the CRC-32 that its file must have.

    `checksum` None: this process has written or checked the file.
    """
    return length if checksum is None else (checksum + 1) << _LENGTH_BITS | length


def length_of(entry: int) -> int:
    """The length in a record."""
    return entry & ((1 << _LENGTH_BITS) - 1)


def checksum_of(entry: int) -> int | None:
    """The checksum in a record."""
    return (entry >> _LENGTH_BITS) - 1 if entry >> _LENGTH_BITS else None
