"""Readers that jump: they get small blocks, which are kept, and lose nothing of a reader's speed when they read on."""

from pathlib import Path

import pytest

from procorefs.cache.chunk_cache import MEMORY_BYTES
from procorefs.cache.chunks import chunk_key
from procorefs.cache.reader import ContentReader, Reader
from procorefs.cache.shared_download import JUMPS_PER_CHUNK
from procorefs.procore.wire.models import Version
from tests.support.content_source import KIB, MIB, MemorySource, content_of, running, settled, version

BLOCK = 32 * KIB
PLACES = (300 * MIB + 5, 17 * MIB, 399 * MIB, 103 * MIB)


def forget_memory(content: ContentReader) -> None:
    content.cache.memory.put(chunk_key(-1, 0), bytes(MEMORY_BYTES))
    content.cache.memory.forget(chunk_key(-1, 0))


async def read_and_compare(reader: Reader, one: Version, *offsets: int, size: int = 4096) -> None:
    for offset in offsets:
        assert bytes(await reader.read(offset, size)) == content_of(one, offset, offset + size)


async def test_a_jump_costs_one_block_which_is_kept(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 400 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *PLACES)
        await settled(content)
        assert source.delivered_bytes == len(PLACES) * BLOCK
        forget_memory(content)
        await read_and_compare(reader, one, *PLACES)  # from the disk
        reader.close()
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *(place + 8 * KIB for place in PLACES))
        reader.close()
    assert source.delivered_bytes == len(PLACES) * BLOCK


async def test_a_read_over_the_edge_of_a_kept_block_is_right(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=5000), version(1, 40 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        edge = 9 * MIB + BLOCK
        await read_and_compare(reader, one, edge - 4096)
        await settled(content)
        await read_and_compare(reader, one, edge - 3000, edge - 60 * KIB, size=100 * KIB)
        reader.close()
    assert source.delivered_bytes <= 16 * BLOCK


async def test_the_end_of_a_large_file_costs_no_more_than_what_is_read_of_it(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 1024 * MIB - 100)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, one.size_bytes - 8192, size=8192)
        reader.close()
    assert source.delivered_bytes <= 2 * BLOCK


async def test_many_jumps_into_one_chunk_fetch_all_of_it(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 400 * MIB)
    order = [12 * MIB + (n * 37 % 64) * 64 * KIB for n in range(64)]
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in order:
            await read_and_compare(reader, one, 200 * MIB)  # far away: each of the others is a jump
            await read_and_compare(reader, one, offset)
        reader.close()
        await settled(content)
    assert len(source.requests) <= JUMPS_PER_CHUNK + 3
    assert source.delivered_bytes <= 4 * MIB + (JUMPS_PER_CHUNK + 1) * BLOCK + source.piece_bytes


async def test_short_jumps_ahead_do_not_fetch_what_they_pass(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 400 * MIB)
    offsets = range(0, 100 * MIB, MIB - 8192)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *offsets)
        reader.close()
    assert source.delivered_bytes <= MIB + 2 * BLOCK * len(offsets)


@pytest.mark.parametrize("start", [100 * MIB, 101 * MIB + 12345])
async def test_reading_on_after_a_jump_soon_asks_for_large_ranges(tmp_path: Path, start: int) -> None:
    source, one = MemorySource(piece_bytes=MIB), version(1, 400 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, 0)
        await read_and_compare(reader, one, *range(start, start + 64 * MIB, 128 * KIB), size=128 * KIB)
        reader.close()
    assert len(source.requests) <= 30
    assert max(end - low for _, low, end in source.requests) >= 8 * MIB


async def test_a_small_file_is_fetched_whole_wherever_it_is_read_first(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 500 * KIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, 480 * KIB, 200 * KIB, 70 * KIB)
        reader.close()
    assert len(source.requests) <= 2


async def test_what_came_of_an_abandoned_download_is_kept(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=64 * KIB), version(1, 40 * MIB)
    gate = source.gate(2 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *range(0, MIB, 128 * KIB), size=128 * KIB)
        await gate.reached.wait()
        reader.close()  # the chunk has a second to become whole
        await settled(content)
        gate.open.set()
        before = source.delivered_bytes
        reader = content.open(one)
        await read_and_compare(reader, one, *range(0, MIB, 128 * KIB), size=128 * KIB)
        reader.close()
        assert source.delivered_bytes == before
