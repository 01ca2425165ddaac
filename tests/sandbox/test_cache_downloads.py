"""The content cache_reader over real HTTP: cut bodies, silence, a storage without ranges, and what the cache saves."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.cache.reader import ContentReader, Reader
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.errors import Silent, Unavailable
from procorefs.procore.wire.models import Version
from tests.support.api_client import client_of, put_file, random_bytes, version_of
from tests.support.sandbox import SandboxHandle

KIB = 1024
MIB = 1024 * KIB
SIZE = 9 * MIB + 7
BYTES = random_bytes(SIZE)
STORAGE = "storage GET"


@asynccontextmanager
async def opened_reader(
    sandbox: SandboxHandle, directory: Path, content: bytes = BYTES, silence_s: float = 30.0
) -> AsyncIterator[tuple[ContentReader, Version]]:
    """A content reader over the real downloads, and a version in the sandbox."""
    file_id = put_file(sandbox, content)
    async with client_of(sandbox, silence_s=silence_s) as client:
        one = await version_of(client, file_id)
        cache_reader = ContentReader(ChunkCache(directory, 256 * MIB), Downloads(client))
        sandbox.reset_calls()
        async with trio.open_nursery() as nursery:
            await nursery.start(cache_reader.run)
            yield cache_reader, one
            nursery.cancel_scope.cancel()
        assert cache_reader.budget.held_bytes == 0


async def whole(reader: Reader, size: int = SIZE, step: int = 128 * KIB) -> bytes:
    return b"".join([bytes(await reader.read(offset, step)) for offset in range(0, size, step)])


async def test_a_file_is_downloaded_once(sandbox: SandboxHandle, tmp_path: Path) -> None:
    async with opened_reader(sandbox, tmp_path) as (cache_reader, one):
        for _ in range(2):
            reader = cache_reader.open(one)
            assert await whole(reader) == BYTES
            reader.close()
        calls = sandbox.calls()
        assert calls["total"] == 0
        assert calls["storage_bytes_sent"] == SIZE


async def test_a_storage_without_ranges_sends_a_file_hardly_more_than_once(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    big = random_bytes(40 * MIB)
    sandbox.faults(settings={"no_range": True})
    async with opened_reader(sandbox, tmp_path, big) as (cache_reader, one):
        reader = cache_reader.open(one)
        assert await whole(reader, len(big)) == big
        reader.close()
        assert sandbox.calls()["other"]["storage GET"] <= 3


@pytest.mark.parametrize("no_range", [False, True], ids=["ranges", "whole bodies"])
@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "cut", "after_bytes": 300_000, "count": 4},
        {"kind": "drop", "count": 2},
        {"kind": "error", "count": 2},
    ],
    ids=["cut", "dropped", "503"],
)
async def test_what_breaks_is_continued_and_no_byte_is_wrong(
    sandbox: SandboxHandle, tmp_path: Path, rule: dict[str, Any], no_range: bool
) -> None:
    sandbox.faults(rules=[{**rule, "route": STORAGE}], settings={"no_range": no_range})
    async with opened_reader(sandbox, tmp_path) as (cache_reader, one):
        reader = cache_reader.open(one)
        with trio.fail_after(30):
            assert await whole(reader) == BYTES
        reader.close()


async def test_random_parallel_reads_with_cut_bodies(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(rules=[{"kind": "cut", "after_bytes": 500_000, "route": STORAGE, "skip": 1, "count": 6}])
    order = random.Random(3)
    async with opened_reader(sandbox, tmp_path) as (cache_reader, one):
        readers = [cache_reader.open(one) for _ in range(3)]

        async def check(reader: Reader, offset: int, size: int) -> None:
            assert await reader.read(offset, size) == BYTES[offset : offset + size]

        with trio.fail_after(60):
            for _ in range(10):
                async with trio.open_nursery() as nursery:
                    for reader in readers:
                        offset = order.randrange(SIZE)
                        nursery.start_soon(check, reader, offset, order.choice([1, 4096, 128 * KIB, MIB]))
        for reader in readers:
            reader.close()


async def test_silence_is_an_error_for_who_waits_and_the_next_read_works(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": STORAGE, "count": 1}])
    async with opened_reader(sandbox, tmp_path, silence_s=2.0) as (cache_reader, one):
        reader, failed = cache_reader.open(one), 0

        async def attempt() -> None:
            nonlocal failed
            try:
                await reader.read(0, 4096)
            except Silent:
                failed += 1

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(attempt)
            assert failed == 3
            assert await whole(reader) == BYTES
        reader.close()


async def test_leaving_a_silent_server_is_immediate(sandbox: SandboxHandle, tmp_path: Path) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": STORAGE}])
    async with opened_reader(sandbox, tmp_path) as (cache_reader, one):
        reader = cache_reader.open(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, 0, 4096)
            await sandbox.silent_calls()
            began_s = trio.current_time()
            nursery.cancel_scope.cancel()
        reader.close()
        assert trio.current_time() - began_s < 0.5
        with trio.fail_after(1):
            while cache_reader.is_downloading:  # noqa: ASYNC110 - it ends within a few steps of the loop
                await trio.sleep(0.005)


async def test_a_storage_that_stays_broken_is_an_error_and_never_short(
    sandbox: SandboxHandle, tmp_path: Path
) -> None:
    sandbox.faults(rules=[{"kind": "cut", "after_bytes": 1000, "route": STORAGE}])
    async with opened_reader(sandbox, tmp_path, silence_s=2.0) as (cache_reader, one):
        reader = cache_reader.open(one)
        with trio.fail_after(30), pytest.raises(Unavailable):
            await whole(reader)
        sandbox.faults(clear=True)
        assert await whole(reader) == BYTES
        reader.close()


async def test_reading_many_small_files_costs_no_api_calls(sandbox: SandboxHandle, tmp_path: Path) -> None:
    files = [random_bytes(2048, seed) for seed in range(40)]
    ids = [put_file(sandbox, content, f"{number}.txt") for number, content in enumerate(files)]
    async with client_of(sandbox) as client:
        versions = [await version_of(client, file_id) for file_id in ids]
        cache_reader = ContentReader(ChunkCache(tmp_path, MIB), Downloads(client))
        sandbox.reset_calls()
        async with trio.open_nursery() as nursery:
            await nursery.start(cache_reader.run)
            for one, content in zip(versions, files, strict=True):
                reader = cache_reader.open(one)
                assert await reader.read(0, 4096) == content
                reader.close()
            nursery.cancel_scope.cancel()
        assert sandbox.calls()["total"] == 0
