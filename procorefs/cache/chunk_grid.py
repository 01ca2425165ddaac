"""The fixed grid that cuts every version into chunks: small ones first, then 4 MiB each.

A file manager's sniff costs 64 KiB, a small file is one chunk, and a big one has few database rows.
Chunks on disk are named by their number: who changes these figures changes the names that `chunkstore` gives, too, or
old chunks are taken for new ones.
"""

KIB = 1024
MIB = 1024 * KIB

SNIFF_BYTES = 64 * KIB  # chunk 0
CHUNK_BYTES = 4 * MIB  # the longest chunk; from 4 MiB on every chunk
_EARLY = (0, SNIFF_BYTES, 512 * KIB, CHUNK_BYTES)  # where chunks 0, 1, 2 and 3 start


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
