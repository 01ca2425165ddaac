"""Defines the fixed grid of chunks that every version is cut into, and the integers that name and describe a chunk.

Small chunks come first, then 4 MiB each: the first bytes of a file, which a file manager reads, cost 64 KiB; a small
file is one chunk, and a big one has few database rows. Chunks on disk are named by their number: another grid needs
other names (chunk_store.py), or old chunks are taken for new ones. An index may hold a million chunks, so the name of
one and what is known of it are an integer each.

What a reader that jumps gets of a chunk is kept in blocks of 16 KiB, whose numbers no chunk has. No block lies in two
chunks.
"""

from collections.abc import Callable, Iterable
from typing import NewType

KIB = 1024
MIB = 1024 * KIB

SNIFF_BYTES = 64 * KIB
"""Chunk 0."""

CHUNK_BYTES = 4 * MIB
"""The longest chunk; from 4 MiB on every chunk."""

BLOCK_BYTES = 16 * KIB
"""What one jump costs. Measured with programs that list a PDF's pages or an archive: 32 KiB cost them as many requests
and nearly twice the bytes. The kernel asks for 4 to 16 KiB after a jump."""

_EARLY = (0, SNIFF_BYTES, 512 * KIB, CHUNK_BYTES)
"""Where chunks 0, 1, 2 and 3 start."""


def chunk_at(offset: int) -> int:
    """The number of the chunk that holds the byte at `offset`."""
    if offset >= CHUNK_BYTES:
        return offset // CHUNK_BYTES + 2
    if offset < SNIFF_BYTES:
        return 0
    return 1 if offset < _EARLY[2] else 2


def chunk_start(number: int) -> int:
    """The offset of a chunk's first byte."""
    return _EARLY[number] if number < 3 else (number - 2) * CHUNK_BYTES


def chunk_stop(number: int, size_bytes: int) -> int:
    """The offset after a chunk's last byte in a version of `size_bytes`."""
    return min(chunk_start(number + 1), size_bytes)


def chunk_length(number: int, size_bytes: int) -> int:
    """How many bytes a chunk of a version of `size_bytes` has; 0 or less: it has no such chunk."""
    return chunk_stop(number, size_bytes) - chunk_start(number)


def round_up(offset: int, size_bytes: int) -> int:
    """The first chunk boundary at or after `offset`, or the version's end."""
    if offset <= 0:
        return 0
    return chunk_stop(chunk_at(offset - 1), size_bytes)


def block_at(offset: int) -> int:
    """The number of the block that holds the byte at `offset`."""
    return offset // BLOCK_BYTES


def block_start(number: int) -> int:
    """The offset of a block's first byte."""
    return number * BLOCK_BYTES


def block_stop(number: int, size_bytes: int) -> int:
    """The offset after a block's last byte in a version of `size_bytes`."""
    return min(block_start(number + 1), size_bytes)


def outside_blocks(
    ranges: Iterable[tuple[int, int]], is_here: Callable[[int], bool]
) -> list[tuple[int, int]]:
    """The parts of ranges that lie in no block that `is_here`, as few as possible."""
    outside: list[tuple[int, int]] = []
    for low, high in ranges:
        for number in range(block_at(low), block_at(high - 1) + 1):
            if is_here(number):
                continue
            start, stop = max(block_start(number), low), min(block_start(number + 1), high)
            if outside and outside[-1][1] == start:
                start = outside.pop()[0]
            outside.append((start, stop))
    return outside


ChunkKey = NewType("ChunkKey", int)
"""Names the same bytes for ever: those of a version never change."""

_NUMBER_BITS = 51
"""2**63 bytes are fewer chunks and blocks than this counts."""


def chunk_key(version: int, number: int) -> ChunkKey:
    """The key of a version's chunk."""
    return ChunkKey(version << _NUMBER_BITS | number)


_BLOCKS = 1 << (_NUMBER_BITS - 1)
"""Added to the number of a block: neither chunks nor blocks of 2**63 bytes have so large numbers. Blocks of another
length need another one, or blocks on disk are taken for them (2**49: 32 KiB)."""


def block_key(version: int, number: int) -> ChunkKey:
    """The key of a version's block."""
    return chunk_key(version, _BLOCKS | number)


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
