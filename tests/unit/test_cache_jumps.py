"""Readers that jump: they get small blocks, which are kept, and lose nothing of a reader's speed when they read on."""

from pathlib import Path

import pytest

from procorefs.cache.chunk_cache import MEMORY_BYTES
from procorefs.cache.chunk_store import chunk_path
from procorefs.cache.chunks import block_at, block_key, chunk_key
from procorefs.cache.reader import ContentReader, Reader
from procorefs.cache.shared_download import JUMPS_PER_CHUNK
from procorefs.procore.wire.models import Version
from tests.support.content_source import KIB, MIB, MemorySource, content_of, running, settled, version

BLOCK = 16 * KIB
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
    assert source.delivered_bytes <= 512 * KIB


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
@pytest.mark.parametrize(("jump_count", "most_requests"), [(1, 30), (100, 60)])
async def test_reading_on_after_jumps_soon_asks_for_large_ranges(
    tmp_path: Path, start: int, jump_count: int, most_requests: int
) -> None:
    source, one = MemorySource(piece_bytes=MIB), version(1, 400 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *(n * 2 * MIB for n in range(jump_count)))
        await settled(content)
        source.requests.clear()
        await read_and_compare(reader, one, *range(start, start + 64 * MIB, 128 * KIB), size=128 * KIB)
        reader.close()
    assert len(source.requests) <= most_requests
    assert max(end - low for _, low, end in source.requests) >= 8 * MIB


async def test_a_viewer_that_looks_at_every_page_and_draws_some_fetches_hardly_more(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=64 * KIB), version(1, 80 * MIB)
    page, pages, drawn = 1300 * KIB, 60, 5
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, 0, one.size_bytes - 8 * KIB)
        await read_and_compare(reader, one, *(n * page for n in range(1, pages)))
        await settled(content)
        looked_bytes = source.delivered_bytes
        assert looked_bytes <= (pages + 5) * BLOCK
        await read_and_compare(reader, one, *range(64 * KIB, page, 128 * KIB), size=128 * KIB)
        await settled(content)
        assert source.delivered_bytes - looked_bytes <= page + 512 * KIB
        await read_and_compare(reader, one, *range(page, drawn * page, 128 * KIB), size=128 * KIB)
        reader.close()
        await settled(content)
    assert source.delivered_bytes - looked_bytes <= drawn * page * 5 / 4 + 512 * KIB
    assert len(source.requests) <= pages + 50


async def test_blocks_that_are_here_are_not_fetched_again_by_a_longer_read(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 40 * MIB)
    begin = 9 * MIB
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, begin, 0, begin + 3 * BLOCK, 0)
        await settled(content)
        before = source.delivered_bytes
        await read_and_compare(reader, one, begin, size=6 * BLOCK)
        reader.close()
        await settled(content)
        assert source.delivered_bytes - before == 4 * BLOCK


@pytest.mark.parametrize("has_block", [True, False])
async def test_a_chunk_whose_front_is_missing_is_completed_unless_it_is_kept_in_blocks(
    tmp_path: Path, *, has_block: bool
) -> None:
    source, one = MemorySource(), version(1, 40 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, 8 * MIB if has_block else 20 * MIB)
        await settled(content)
        before = source.delivered_bytes
        await read_and_compare(reader, one, 10 * MIB, size=2 * MIB)
        await settled(content)
        reader.close()
        assert source.delivered_bytes - before == (2 if has_block else 4) * MIB


async def test_blocks_lost_on_the_disk_are_fetched_again(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 40 * MIB)
    begin = 9 * MIB
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, *(place for n in range(4) for place in (begin + n * BLOCK, 0)))
        await settled(content)
        reader.close()
    for number in range(1, 4):
        (tmp_path / chunk_path(block_key(one.id, block_at(begin) + number))).unlink()
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await read_and_compare(reader, one, begin, size=6 * BLOCK)
        reader.close()


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
