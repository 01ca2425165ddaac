"""The chunk cache on a real directory: what stays, what goes, and what damage and a full disk do."""

import errno
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from procorefs.cache import chunk_store
from procorefs.cache.chunk_cache import MEMORY_BYTES, ChunkCache
from procorefs.cache.chunk_files import ChunkFile
from procorefs.cache.chunk_store import chunk_path
from procorefs.cache.chunks import ChunkKey, chunk_key

MIB = 1024 * 1024


@asynccontextmanager
async def opened(directory: Path, limit_bytes: int = 64 * MIB) -> AsyncIterator[ChunkCache]:
    cache = ChunkCache(directory, limit_bytes)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()


async def stored(cache: ChunkCache, key: ChunkKey, data: bytes) -> None:
    """Store a chunk and wait until the disk has it, or will not have it."""
    done = trio.Event()
    cache.store(key, data, done.set)
    with trio.fail_after(10):
        await done.wait()


def forget_memory(cache: ChunkCache) -> None:
    """Push what is in memory out of it, so that reads must go to the disk."""
    cache.memory.put(chunk_key(-1, 0), bytes(MEMORY_BYTES))
    cache.memory.forget(chunk_key(-1, 0))


async def read(cache: ChunkCache, key: ChunkKey, length: int) -> bytes | None:
    data = await cache.read(key, 0, length, length)
    return None if data is None else bytes(data)


def chunk_files(directory: Path) -> list[Path]:
    return list(directory.glob("??/*"))


BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text()
SMALL = os.urandom(2048)
BIG = os.urandom(700_000)


@pytest.mark.parametrize("data", [SMALL, BIG, b"x"], ids=["small", "big", "one byte"])
async def test_what_was_stored_is_read_by_the_next_process_too(tmp_path: Path, data: bytes) -> None:
    key = chunk_key(2**62, 3)
    async with opened(tmp_path / "c") as cache:
        assert await read(cache, key, len(data)) is None
        await stored(cache, key, data)
        assert await read(cache, key, len(data)) == data
        forget_memory(cache)
        assert await read(cache, key, len(data)) == data
        assert (
            bytes(await cache.read(key, len(data) // 2, len(data), len(data)) or b"")
            == data[len(data) // 2 :]
        )
        cache.check()
    async with opened(tmp_path / "c") as cache:
        assert await read(cache, key, len(data)) == data
        assert cache.holds(key, len(data))
        cache.check()


async def test_only_we_can_read_it_and_nothing_is_pickled(tmp_path: Path) -> None:
    os.umask(0o022)
    directory = tmp_path / "deep" / "cache"
    async with opened(directory) as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
        await stored(cache, chunk_key(1, 1), BIG)
        for path in [directory, *directory.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
    with sqlite3.connect(directory / "cache.db") as database:
        assert database.execute("SELECT DISTINCT mode, value FROM Cache").fetchall() == [(2, None)]
    database.close()


async def test_two_caches_never_meet(tmp_path: Path) -> None:
    async with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        await stored(one, chunk_key(1, 0), SMALL)
        assert await read(other, chunk_key(1, 0), len(SMALL)) is None
        assert other.stats().bytes == 0


async def test_the_limit_is_obeyed_and_the_least_recently_used_go(tmp_path: Path) -> None:
    size = 256 * 1024
    async with opened(tmp_path, limit_bytes=4 * size) as cache:
        for number in range(4):
            await stored(cache, chunk_key(1, number), bytes([number]) * size)
        forget_memory(cache)
        assert await read(cache, chunk_key(1, 0), size)  # the oldest becomes the most recent
        await stored(cache, chunk_key(1, 4), bytes([4]) * size)
        cache.check()
        assert cache.stats().bytes <= 4 * size
        assert [n for n in range(5) if (tmp_path / chunk_path(chunk_key(1, n))).exists()] == [0, 2, 3, 4]
    async with opened(tmp_path, limit_bytes=2 * size) as cache:  # a smaller limit from now on
        await stored(cache, chunk_key(2, 0), b"z")
        assert cache.stats().bytes <= 2 * size
        assert sum(p.stat().st_size for p in chunk_files(tmp_path)) <= 2 * size


async def test_many_small_chunks_count_with_the_blocks_that_they_take(tmp_path: Path) -> None:
    async with opened(tmp_path, limit_bytes=40_960) as cache:
        for number in range(30):
            await stored(cache, chunk_key(number, 0), b"1")
        assert cache.stats().bytes == 40_960
        assert len(chunk_files(tmp_path)) == 10


async def test_a_chunk_that_is_being_read_is_not_evicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 256 * 1024
    entered, leave = trio.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()
    real = ChunkFile.open

    def slow_open(*args: object) -> object:
        token.run_sync_soon(entered.set)
        assert leave.wait(10)
        return real(*args)  # type: ignore[arg-type]

    async with opened(tmp_path, limit_bytes=2 * size) as cache:
        await stored(cache, chunk_key(1, 0), b"a" * size)
        await stored(cache, chunk_key(1, 1), b"b" * size)
        forget_memory(cache)
        monkeypatch.setattr(ChunkFile, "open", slow_open)
        got: list[bytes | None] = []
        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                got.append(await read(cache, chunk_key(1, 0), size))

            nursery.start_soon(reader)
            await entered.wait()
            await stored(cache, chunk_key(1, 2), b"c" * size)
            leave.set()
        assert got == [b"a" * size]
        assert cache.holds(chunk_key(1, 0), size)
        assert not (tmp_path / chunk_path(chunk_key(1, 1))).exists()


async def test_descriptors_are_bounded(tmp_path: Path) -> None:
    size = 70_000
    async with opened(tmp_path) as cache:
        for number in range(100):
            await stored(cache, chunk_key(number, 1), bytes([number]) * size)
        forget_memory(cache)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(100):
            assert await read(cache, chunk_key(number, 1), size) == bytes([number]) * size
        assert len(os.listdir("/proc/self/fd")) - before <= 64
        cache.check()


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("damage", ["shorter", "longer", "zeros", "gone", "folder"])
async def test_a_damaged_chunk_file_is_a_miss(tmp_path: Path, data: bytes, damage: str) -> None:
    key = chunk_key(7, 1)
    async with opened(tmp_path) as cache:
        await stored(cache, key, data)
    path = tmp_path / chunk_path(key)
    if damage in ("shorter", "longer"):
        os.truncate(path, len(data) + (1 if damage == "longer" else -1))
    elif damage == "zeros":
        path.write_bytes(bytes(len(data)))
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    async with opened(tmp_path) as cache:
        assert await read(cache, key, len(data)) is None
        assert not cache.holds(key, len(data))
        if damage != "folder":
            await stored(cache, key, data)
            forget_memory(cache)
            assert await read(cache, key, len(data)) == data
        cache.check()


async def test_a_chunk_of_another_length_is_a_miss(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
        assert await read(cache, chunk_key(1, 0), len(SMALL) + 1) is None
        assert not cache.holds(chunk_key(1, 0), len(SMALL) + 1)


@pytest.mark.parametrize("damage", ["garbage", "empty", "torn", "other tables", "bad rows"])
async def test_a_damaged_database_is_rebuilt_and_said_so(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as cache:
        for number in range(200):
            await stored(cache, chunk_key(number, 0), SMALL)
    _break_database(tmp_path / "cache.db", damage)
    with caplog.at_level(logging.WARNING):
        async with opened(tmp_path) as cache:
            found = await read(cache, chunk_key(1, 0), len(SMALL))
            assert found in (None, SMALL)
            await stored(cache, chunk_key(1, 1), BIG)
            forget_memory(cache)
            assert await read(cache, chunk_key(1, 1), len(BIG)) == BIG
            cache.check()
    said = [record.getMessage() for record in caplog.records]
    if damage in ("garbage", "torn", "other tables"):
        assert len(said) == 1
        assert "was damaged" in said[0]
        assert str(tmp_path / "damaged") in said[0]
        assert (tmp_path / "damaged" / "cache.db").exists()
    else:
        assert said == []
    caplog.clear()
    async with opened(tmp_path) as cache:
        assert await read(cache, chunk_key(1, 1), len(BIG)) == BIG
    assert caplog.records == []


def _break_database(path: Path, damage: str) -> None:
    if damage == "garbage":
        path.write_bytes(os.urandom(20_000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "torn":
        content = bytearray(path.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        path.write_bytes(content)
    else:
        database = sqlite3.connect(path)
        if damage == "other tables":
            database.executescript("DROP TABLE Cache; CREATE TABLE Cache (key TEXT)")
        else:
            database.execute(
                "UPDATE Cache SET tag = 'x', size = -5, key = '../../etc/passwd' WHERE rowid = 1"
            )
        database.commit()
        database.close()


async def test_a_database_damaged_in_use_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(tmp_path) as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
        database = sqlite3.connect(tmp_path / "cache.db")
        database.execute("DROP TABLE Cache")
        database.close()
        await stored(cache, chunk_key(2, 0), SMALL)  # meets the damage; is lost with it
        await stored(cache, chunk_key(3, 0), SMALL)
        forget_memory(cache)
        assert await read(cache, chunk_key(3, 0), len(SMALL)) == SMALL
        cache.check()
    assert [
        r.getMessage()
        for r in caplog.records
        if r.levelno >= logging.WARNING and "was damaged" in r.getMessage()
    ]


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(chunk_store, "write_chunk", refuse)


@pytest.mark.usefixtures("full_disk")
async def test_a_full_disk_is_said_once_and_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as cache:
        for number in range(20):
            await stored(cache, chunk_key(1, number), BIG)
        assert not cache.keeps
        assert await read(cache, chunk_key(1, 19), len(BIG)) == BIG  # what is in memory still serves
        forget_memory(cache)
        assert await read(cache, chunk_key(1, 0), len(BIG)) is None
        assert cache.stats().bytes == 0
        cache.check()
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "No space left on device" in said[0]


async def test_a_directory_that_cannot_be_used_means_no_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with opened(tmp_path / "file" / "cache") as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
        assert not cache.keeps
        assert await read(cache, chunk_key(1, 0), len(SMALL)) == SMALL
        forget_memory(cache)
        assert await read(cache, chunk_key(1, 0), len(SMALL)) is None
    assert ["files are read without one" in r.getMessage() for r in caplog.records] == [True]


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    code = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT);"
        "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


async def test_a_directory_in_use_by_another_process_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with locked_by_another_process(tmp_path / "lock"):
        async with opened(tmp_path) as cache:
            await stored(cache, chunk_key(1, 0), SMALL)
            assert not cache.keeps
    assert ["is in use by another process" in r.getMessage() for r in caplog.records] == [True]
    assert not (tmp_path / "cache.db").exists()


async def test_leftovers_of_a_kill_are_swept_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
    (tmp_path / "in-use").write_text(BOOT_ID)
    (tmp_path / "01" / "1-9.val").write_bytes(b"half a chu")
    (tmp_path / "01" / "strange").write_bytes(b"")
    async with opened(tmp_path) as cache:
        assert await read(cache, chunk_key(1, 0), len(SMALL)) == SMALL
        await stored(cache, chunk_key(2, 0), SMALL)  # the sweep runs before anything is written
        assert sorted(p.name for p in chunk_files(tmp_path)) == ["1-0.val", "2-0.val"]


async def test_after_the_machine_went_down_the_newest_chunks_are_not_trusted(tmp_path: Path) -> None:
    async with opened(tmp_path) as cache:
        await stored(cache, chunk_key(1, 0), SMALL)
        await stored(cache, chunk_key(2, 0), SMALL)
    database = sqlite3.connect(tmp_path / "cache.db")
    database.execute("UPDATE Cache SET store_time = store_time - 1000 WHERE key = '1-0'")
    database.commit()
    database.close()
    (tmp_path / "in-use").write_text("another boot")
    async with opened(tmp_path) as cache:
        assert await read(cache, chunk_key(1, 0), len(SMALL)) == SMALL
        assert await read(cache, chunk_key(2, 0), len(SMALL)) is None
