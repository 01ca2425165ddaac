"""Readers and their downloads against a source in memory that can be stopped and broken anywhere."""

import random
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from procorefs.cache import shared_download
from procorefs.cache.chunk_cache import MEMORY_BYTES
from procorefs.cache.chunks import chunk_key
from procorefs.cache.reader import ContentReader, Reader
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import Version
from tests.support.content_source import (
    KIB,
    MIB,
    MemorySource,
    content_of,
    read_all,
    running,
    settled,
    version,
)


def forget_memory(content: ContentReader) -> None:
    content.cache.memory.put(chunk_key(-1, 0), bytes(MEMORY_BYTES))
    content.cache.memory.forget(chunk_key(-1, 0))


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 524289, 4 * MIB + 1, 21 * MIB + 5])
async def test_a_file_is_read_whole_and_then_from_the_cache(tmp_path: Path, size: int) -> None:
    source, one = MemorySource(), version(5, size)
    async with running(tmp_path, source) as (content, cache):
        reader = content.open(one)
        assert await read_all(reader, size + 1) == content_of(one, 0, size)
        assert bytes(await reader.read(size, 10)) == b""
        assert bytes(await reader.read(size + 5, 10)) == b""
        reader.close()
        await settled(content)
        assert source.delivered_bytes == size  # nothing twice
        before = len(source.requests)
        forget_memory(content)
        reader = content.open(one)
        assert await read_all(reader, size, step=MIB) == content_of(one, 0, size)
        reader.close()
        assert len(source.requests) == before
        if size:
            assert cache.stats().hits > 0
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        assert await read_all(reader, size) == content_of(one, 0, size)
        reader.close()
    assert len(source.requests) == before


async def test_a_sniff_costs_one_small_request(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=16 * KIB), version(1, 500 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        assert bytes(await reader.read(0, 16 * KIB)) == content_of(one, 0, 16 * KIB)
        reader.close()
    assert source.requests == [(1, 0, 64 * KIB)]


async def test_sequential_reading_asks_for_ever_larger_ranges(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=MIB), version(1, 200 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in range(0, one.size_bytes, MIB):
            assert len(await reader.read(offset, MIB)) == MIB
        reader.close()
    ranges = sorted(source.requests)
    assert len(ranges) <= 20
    # how large in the end depends on how far the reader is ahead of the downloads, which is a matter of scheduling
    assert 16 * MIB < max(end - start for _, start, end in ranges) <= 32 * MIB
    assert source.delivered_bytes == one.size_bytes
    assert 2 <= source.most_running <= 4


async def test_a_read_is_answered_before_its_chunk_is_whole(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 40 * MIB)
    gate = source.gate(128 * KIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        with trio.fail_after(5):
            assert bytes(await reader.read(0, 128 * KIB)) == content_of(one, 0, 128 * KIB)
            await gate.reached.wait()
        gate.open.set()
        reader.close()


async def test_readers_share_a_download_and_one_cancelled_leaves_the_others_served(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 3 * MIB)
    gate = source.gate(0)
    got: list[bytes] = []
    async with running(tmp_path, source) as (content, _):
        scope = trio.CancelScope()

        async def impatient(reader: Reader) -> None:
            with scope:
                await reader.read(0, 128 * KIB)

        async def patient(reader: Reader) -> None:
            got.append(bytes(await reader.read(0, 128 * KIB)))

        first, second, third = (content.open(one) for _ in range(3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient, first)  # the one who asked first, and so started the download
            await gate.reached.wait()
            nursery.start_soon(patient, second)
            nursery.start_soon(patient, third)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            first.close()
            await trio.testing.wait_all_tasks_blocked()
            assert len(source.requests) == 1
            gate.open.set()
        assert scope.cancelled_caught
        assert got == [content_of(one, 0, 128 * KIB)] * 2
        second.close()
        third.close()


async def test_a_download_that_nobody_waits_for_any_more_stops_at_once(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 300 * MIB)
    gate = source.gate(0)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reader.read, 0, MIB)
                await gate.reached.wait()
                scope.cancel()
        ended = source.ended
        reader.close()
        with trio.fail_after(0.5):
            await ended.wait()
        assert source.running == 0
        assert source.delivered_bytes == 0
        gate.open.set()
        reader = content.open(one)  # and the next one starts anew
        assert bytes(await reader.read(0, MIB)) == content_of(one, 0, MIB)
        reader.close()


async def test_after_the_last_close_only_the_chunk_at_hand_is_finished(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=64 * KIB), version(1, 300 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in range(0, 20 * MIB, MIB):
            await reader.read(offset, MIB)
        reader.close()
        before = source.delivered_bytes
        await settled(content)
        assert source.delivered_bytes - before <= 4 * 4 * MIB  # streams that ran, a chunk each


async def test_a_silent_end_of_reading_stops_the_download_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads on for a while, though the file stays open."""
    source, one = MemorySource(piece_bytes=64 * KIB), version(1, 300 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in range(0, 8 * MIB, MIB):
            await reader.read(offset, MIB)
        gate = source.gate(11 * MIB)
        await reader.read(8 * MIB, MIB)
        await gate.reached.wait()
        monkeypatch.setattr(shared_download, "_IDLE_S", 0.0)  # it has passed
        gate.open.set()
        await settled(content)
        assert source.delivered_bytes <= 20 * MIB
        assert bytes(await reader.read(9 * MIB, MIB)) == content_of(one, 9 * MIB, 10 * MIB)
        reader.close()


class WholeBodies(MemorySource):
    """A storage that ignores ranges, which shows with the first answer."""

    def ignores_ranges(self, one: Version) -> bool:  # noqa: ARG002 - the protocol says so
        return bool(self.requests)


async def test_a_storage_that_ignores_ranges_is_asked_once_and_for_all(tmp_path: Path) -> None:
    source, one = WholeBodies(piece_bytes=MIB), version(1, 100 * MIB)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in [*range(0, 70 * MIB, MIB), 5, 98 * MIB, 40 * MIB]:
            assert await reader.read(offset, MIB) == content_of(one, offset, offset + MIB)
        await settled(content)
        reader.close()
        assert source.delivered_bytes == one.size_bytes
    assert len(source.requests) == 2  # the first, before it was known, and the rest


async def test_versions_are_never_mixed(tmp_path: Path) -> None:
    source, old, new = MemorySource(), version(1, 9 * MIB), version(2, 6 * MIB)
    async with running(tmp_path, source) as (content, _):
        first, second = content.open(old), content.open(new)
        for offset in range(0, 9 * MIB, 256 * KIB):
            assert bytes(await first.read(offset, 256 * KIB)) == content_of(old, offset, offset + 256 * KIB)
            assert bytes(await second.read(offset, 256 * KIB)) == content_of(new, offset, offset + 256 * KIB)
        first.close()
        second.close()


async def test_one_version_with_two_sizes_gives_each_reader_what_it_was_promised(tmp_path: Path) -> None:
    """A server that changes its mind about a size; the source decides which bytes there are."""
    source, short, long = MemorySource(), version(1, 100_000), version(1, 120_000)
    async with running(tmp_path, source) as (content, _):
        for one in (short, long, short, long):
            reader = content.open(one)
            with trio.fail_after(5):
                assert await read_all(reader, one.size_bytes) == content_of(one, 0, one.size_bytes)
            reader.close()


async def test_many_readers_keep_within_streams_and_memory(tmp_path: Path) -> None:
    source = MemorySource(piece_bytes=512 * KIB)
    versions = [version(n, 24 * MIB) for n in range(1, 9)]
    peak = 0
    async with running(tmp_path, source, limit_bytes=128 * MIB) as (content, cache):

        async def whole(number: int) -> None:
            nonlocal peak
            one = versions[number]
            reader = content.open(one)
            for offset in range(0, one.size_bytes, 512 * KIB):
                data = await reader.read(offset, 512 * KIB)
                assert data == content_of(one, offset, offset + 512 * KIB)
                peak = max(peak, content.budget.held_bytes)
            reader.close()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number in range(len(versions)):
                    nursery.start_soon(whole, number)
        assert cache.stats().bytes <= 128 * MIB
    assert source.most_running <= 12
    assert peak <= 48 * MIB + 12 * 64 * KIB


async def test_parallel_reads_out_of_order_as_the_kernel_makes_them(tmp_path: Path) -> None:
    source, one = MemorySource(piece_bytes=MIB), version(1, 64 * MIB)
    size = 128 * KIB
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)

        async def check(offset: int) -> None:
            assert await reader.read(offset, size) == content_of(one, offset, offset + size)

        order = random.Random(1)
        for start in range(0, one.size_bytes, 4 * size):
            offsets = [start + n * size for n in range(4)]
            order.shuffle(offsets)
            async with trio.open_nursery() as nursery:
                for offset in offsets:
                    nursery.start_soon(check, offset)
        reader.close()
    assert len(source.requests) <= 20
    assert source.delivered_bytes <= one.size_bytes + 4 * MIB


async def test_shutting_down_ends_waiting_readers(tmp_path: Path) -> None:
    from procorefs.cache.chunk_cache import ChunkCache

    source, one = MemorySource(), version(1, MIB)
    gate = source.gate(0)
    content = ContentReader(ChunkCache(tmp_path, MIB), source)
    async with trio.open_nursery() as outer:
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await content.run(task_status=task_status)

        await outer.start(run)
        reader = content.open(one)

        async def expect_error() -> None:
            with pytest.raises(Unavailable):
                await reader.read(0, 10)

        outer.start_soon(expect_error)
        await gate.reached.wait()
        scope.cancel()
    with pytest.raises(Unavailable):
        await reader.read(0, 10)
    reader.close()
    reader.close()


async def test_without_a_cache_files_are_read_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    source, one = MemorySource(), version(1, 40 * MIB)
    async with running(tmp_path / "file", source) as (content, _):
        reader = content.open(one)
        assert await read_all(reader, one.size_bytes) == content_of(one, 0, one.size_bytes)
        reader.close()
        assert source.delivered_bytes == one.size_bytes
    assert "files are read without one" in caplog.text


async def test_a_cache_smaller_than_a_chunk_is_no_obstacle(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 20 * MIB)
    async with running(tmp_path, source, limit_bytes=MIB) as (content, cache):
        reader = content.open(one)
        assert await read_all(reader, one.size_bytes) == content_of(one, 0, one.size_bytes)
        reader.close()
        assert cache.stats().bytes <= MIB


READS = st.lists(
    st.tuples(
        st.integers(0, 2),  # which reader
        st.one_of(st.integers(0, 14 * MIB), st.sampled_from([0, 65535, 65536, 524287, 4 * MIB - 1, 8 * MIB])),
        st.sampled_from([1, 4096, 65536, 128 * KIB, MIB]),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(READS, st.booleans(), st.integers(8 * KIB, MIB), st.lists(st.integers(0, 13 * MIB), max_size=3))
def test_random_reads_agree_with_the_model(
    reads: list[tuple[int, int, int]], parallel: bool, piece_bytes: int, failures: list[int]
) -> None:
    async def play(directory: Path) -> None:
        source = MemorySource(piece_bytes)
        source.failures = {offset: Unavailable("broken") for offset in failures}
        versions = [version(1, 13 * MIB + 7), version(1, 13 * MIB + 7), version(2, 5 * MIB)]
        async with running(directory, source, limit_bytes=6 * MIB) as (content, _):
            readers = [content.open(one) for one in versions]

            async def check(who: int, offset: int, size: int) -> None:
                try:
                    data = await readers[who].read(offset, size)
                except Unavailable:
                    return
                assert data == content_of(versions[who], offset, offset + size)

            with trio.fail_after(30):
                async with trio.open_nursery() as nursery:
                    for read in reads:
                        if parallel:
                            nursery.start_soon(check, *read)
                        else:
                            await check(*read)
            for reader in readers:
                reader.close()

    with tempfile.TemporaryDirectory() as directory:
        trio.run(play, Path(directory))
