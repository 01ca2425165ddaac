"""Bytes of a file on their way out, without a network."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from procorefs.procore.http.file_body import (
    READ_BYTES,
    SEND_BYTES,
    FilePart,
    SourceChanged,
    SourceFile,
    check,
)

SIZE = 2 * READ_BYTES + 12_345
BYTES = os.urandom(SIZE)


@pytest.fixture
def source() -> Iterator[SourceFile]:
    with tempfile.TemporaryFile() as file:
        file.write(BYTES)
        file.flush()
        yield SourceFile(file.fileno(), SIZE)


@pytest.mark.parametrize(
    ("offset", "size"), [(0, SIZE), (0, 0), (SIZE, 0), (7, READ_BYTES), (READ_BYTES, READ_BYTES + 12_345)]
)
async def test_a_part_between_head_and_tail(source: SourceFile, offset: int, size: int) -> None:
    told: list[int] = []
    part = FilePart(source, offset, size, told.append, head=b"<", tail=b">")
    for _ in range(2):  # every try begins anew
        told.clear()
        sizes, sent = [], b""
        async for piece in part:
            sizes.append(len(piece))
            sent += piece
        assert sent == b"<" + BYTES[offset : offset + size] + b">"
        assert len(sent) == part.length
        assert max(sizes) <= SEND_BYTES
        assert told[-1:] == ([size] if size else [])


async def _all_sizes(part: FilePart, sizes: list[int]) -> None:
    async for piece in part:
        sizes.append(len(piece))  # noqa: PERF401 - what came before an error counts


async def test_a_file_that_ends_early_or_goes_on(source: SourceFile) -> None:
    await check(source)
    for size in (SIZE - 1, SIZE + 1):
        os.truncate(source.fd, size)
        with pytest.raises(SourceChanged, match=str(size)):
            await check(source)
        sent: list[int] = []
        with pytest.raises(SourceChanged):
            await _all_sizes(FilePart(source, 0, SIZE, lambda _sent: None), sent)
        assert sum(sent) < SIZE
    assert issubclass(SourceChanged, ValueError)


async def test_only_the_last_segment_looks_for_the_end(source: SourceFile) -> None:
    part = FilePart(source, 0, READ_BYTES, lambda _sent: None)
    assert b"".join([bytes(piece) async for piece in part]) == BYTES[:READ_BYTES]
