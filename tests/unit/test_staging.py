"""Staged files: the directory they lie in, and what stays right when reads, writes and truncations meet."""

import math
import os
import random
import resource
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from procorefs.staging import staged_bytes, staged_file
from procorefs.staging.spare_files import SPARE_FILES
from procorefs.staging.staged_bytes import Disk
from procorefs.staging.staging_area import StagedFile, StagedIncomplete, StagedRecord
from procorefs.staging.whole_file import digest
from tests.support.content_source import content_of
from tests.support.staged_base import (
    KIB,
    MIB,
    Bases,
    base_of,
    bytes_of,
    left_in,
    need_reads_without_waiting,
    spares_of,
    staging_in,
)

# --- the directory


async def test_only_the_user_can_look_into_it(tmp_path: Path) -> None:
    with staging_in(tmp_path / "state" / "staging") as staging:
        file = staging.create()
        await file.write(0, b"secret")
        assert stat.S_IMODE(os.stat(tmp_path / "state" / "staging").st_mode) == 0o700
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        files = [staging.create() for _ in range(2 * SPARE_FILES)]
        for file in files:
            file.delete()
        files += [staging.create() for _ in range(2 * SPARE_FILES)]
        assert len({file.number for file in files}) == len(files)
        for file in files:
            file.delete()
    (tmp_path / "17").touch()
    (tmp_path / "lost+found").touch()
    with staging_in(tmp_path) as staging:
        assert staging.create().number == 18
    with staging_in(tmp_path) as staging:
        staging.pass_over(1040)  # the journal still has a row about it
        with pytest.raises(StagedIncomplete):
            staging.adopt(StagedRecord(1040, 0, None, ()))
        assert staging.create().number == 1041


async def test_spare_files_are_made_ahead_and_are_as_new_ones(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        staging.create()
        spares = spares_of(staging)
        assert len(spares) == SPARE_FILES
        file = staging.create()
        assert file.number == spares[0]
        await file.write(0, b"some")
        assert os.stat(file.path).st_size == 4
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        assert left_in(staging) == sorted(set(left_in(staging)) - set(spares[1:]))


def test_no_spare_file_is_left_behind(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        kept = [staging.create().number for _ in range(3)]
    assert sorted(int(file.name) for file in tmp_path.iterdir()) == sorted(kept)


def test_spare_files_of_a_killed_daemon_are_swept(tmp_path: Path) -> None:
    with staging_in(tmp_path) as killed:
        file = killed.create()
        spares_of(killed)
        with staging_in(tmp_path) as staging:
            staging.sweep({file.number})
            assert left_in(staging) == [file.number]


def test_when_no_file_can_be_made_ahead_one_can_still_be_made(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        (tmp_path / "4").touch()  # in the way of the thread
        staging.create()
        assert spares_of(staging) == [2, 3]
        assert len({staging.create().number for _ in range(SPARE_FILES)}) == SPARE_FILES


def test_what_no_row_names_is_swept(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        old = [staging.create() for _ in range(3)]
    with staging_in(tmp_path) as staging:
        new = staging.create()
        staging.sweep({old[1].number})
        assert left_in(staging) == [old[1].number, new.number]


def blocks_bytes(file: StagedFile) -> int:
    return os.stat(file.path).st_blocks * 512


async def test_a_large_file_that_grows_has_blocks_ahead_only_while_it_is_held(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create(held=True)
        for number in range(12):
            assert file.write_now(number * MIB, b"x" * MIB)
        assert blocks_bytes(file) >= 13 * MIB
        assert os.stat(file.path).st_size == file.size_bytes == staging.used_bytes == 12 * MIB
        file.release()
        with file.held():
            await staging.sync([file])  # blocks that are not given yet are not counted
        assert 12 * MIB <= blocks_bytes(file) <= 12 * MIB + 64 * KIB
        file.hold()
        await file.truncate(9 * MIB)
        assert file.write_now(9 * MIB, b"y" * MIB)
        file.release()
        assert os.stat(file.path).st_size == 10 * MIB
        assert await bytes_of(file) == b"x" * (9 * MIB) + b"y" * MIB


def test_a_hole_in_a_large_file_stays_one(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create(held=True)
        assert file.write_now(64 * MIB, b"x")
        assert blocks_bytes(file) < MIB
        file.release()


async def test_waiting_files_have_no_descriptors(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, limits[1]), limits[1]))
    try:
        with staging_in(tmp_path) as staging:
            files = [staging.create() for _ in range(500)]
            for file in files:
                with file.held():
                    assert file.write_now(0, b"%d" % file.number)
            await staging.sync(files)
            await staging.sync(files[:10])
            assert [await bytes_of(file) for file in files] == [b"%d" % file.number for file in files]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_nothing_is_done_now_without_a_holder(tmp_path: Path) -> None:
    need_reads_without_waiting(tmp_path)
    with staging_in(tmp_path) as staging:
        file = staging.create()
        assert not file.write_now(0, b"abc")
        await file.write(0, b"abc")
        assert file.read_now(0, 3) is None
        with file.held():
            assert file.read_now(1, 100) == b"bc"
            assert file.read_now(3, 100) == b""


async def test_far_behind_the_end_is_sparse_and_counts(tmp_path: Path) -> None:
    with staging_in(tmp_path, limit_bytes=2**40) as staging:
        file = staging.create()
        await file.write(2**31, b"end")
        assert staging.used_bytes == file.size_bytes == 2**31 + 3
        assert bytes(await file.read(2**31 - 2, 100)) == b"\0\0end"
        copy = await staging.freeze_copy(file)
        assert bytes(await copy.read(2**31 - 2, 100)) == b"\0\0end"
        assert os.stat(copy.path).st_blocks < 100
        file.delete()
        copy.delete()
        assert staging.used_bytes == 0


async def test_writes_that_the_kernel_does_by_halves_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, memoryview(data)[:7], offset))
    base = base_of(100)
    with staging_in(tmp_path) as staging:
        file = staging.create(base)
        with file.held():
            assert file.write_now(5, b"0123456789" * 3)
        await file.complete()
        copy = await staging.freeze_copy(file)
        assert await bytes_of(copy) == content_of(base, 0, 5) + b"0123456789" * 3 + content_of(base, 35, 100)


async def test_writing_nothing_changes_nothing(tmp_path: Path) -> None:
    with staging_in(tmp_path, Bases()) as staging:
        file = staging.create(base_of(10))
        with file.held():
            assert file.write_now(5, b"")
            assert file.write_now(50, b"")
        await file.write(60, b"")
        assert (file.size_bytes, file.changed, file.record().missing) == (10, 0, ((0, 10),))


async def test_every_change_counts(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create(base_of(10))
        seen = [file.changed]
        await file.write(0, b"a")
        seen.append(file.changed)
        await file.truncate(5)
        seen.append(file.changed)
        await file.truncate(500)
        seen.append(file.changed)
        await file.complete()
        await file.read(0, 500)
        assert len(set(seen)) == 4
        assert file.changed == seen[-1]


@contextmanager
def slow_disk(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[list[str]]:
    """Writes take so long; the names of the threads that did them."""
    whole, threads = os.pwrite, list[str]()

    def slow(fd: int, data: bytes, offset: int) -> int:
        threads.append(threading.current_thread().name)
        time.sleep(seconds)
        return whole(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", slow)
        yield threads


def test_a_disk_that_stood_still_is_distrusted_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write that takes a minute is made by a thread."""
    disk, now_s = Disk(), 100.0

    def write(_descriptor: int, data: bytes, _offset: int) -> int:
        nonlocal now_s
        now_s += 6.0
        return len(data)

    monkeypatch.setattr(staged_bytes, "SLOW_WRITE_S", 0.1)
    monkeypatch.setattr(staged_bytes, "perf_counter", lambda: now_s)
    monkeypatch.setattr(os, "pwrite", write)
    disk.write(0, 0, b"a")
    now_s += 119.0
    assert disk.is_slow
    now_s += 2.0
    assert not disk.is_slow


async def test_a_slow_disk_stops_the_loop_once_and_then_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_bytes, "SLOW_WRITE_S", 0.01)
    monkeypatch.setattr(staged_bytes, "_SLOW_FOR_S", 60.0)
    base = base_of(40)
    with staging_in(tmp_path) as staging, slow_disk(monkeypatch, 0.02) as threads:
        file = staging.create(base)
        file.hold()
        assert file.write_now(0, b"a")
        assert not file.write_now(1, b"b")
        async with trio.open_nursery() as nursery:  # one after the other, whoever comes first
            nursery.start_soon(file.write, 1, b"b")
            nursery.start_soon(file.write, 2, b"c")
            nursery.start_soon(file.complete)
            nursery.start_soon(file.write, 41, b"e")
            nursery.start_soon(file.truncate, 43)
        assert threads[0] == "MainThread"
        assert "MainThread" not in threads[1:]
        assert bytes(await file.read(0, 41)) == b"abc" + content_of(base, 3, 40) + b"\0"
        assert file.size_bytes == staging.used_bytes == os.stat(file.path).st_size
        file.release()


async def test_who_is_cancelled_before_a_slow_disk_took_the_bytes_has_written_nothing(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create(base_of(1000))
        staging.disk.is_slow_for(math.inf)
        threads = staging.threads
        for _ in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(object())  # all threads are busy
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.write, 10, b"x" * 5000)
            nursery.start_soon(file.complete)
            await trio.testing.wait_all_tasks_blocked()
            assert staging.used_bytes > 0
            nursery.cancel_scope.cancel()
        assert (file.size_bytes, file.changed, staging.used_bytes) == (1000, 0, 0)
        assert file.record().missing == ((0, 1000),)
        staging.disk.is_slow_for(0)
        with file.held():
            assert file.write_now(0, b"y")


async def test_a_long_cut_lets_nothing_in_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_file, "_LONG_CUT_BYTES", 10)
    whole = os.ftruncate
    begun, go_on = trio.Event(), trio.Event()

    def slow(fd: int, size: int) -> None:
        trio.from_thread.run_sync(begun.set)
        whole(fd, size)
        trio.from_thread.run(go_on.wait)

    with staging_in(tmp_path) as staging:
        file = staging.create()
        file.hold()
        file.write_now(0, b"x" * 100)
        monkeypatch.setattr(os, "ftruncate", slow)
        got: list[bytes] = []

        async def read() -> None:
            got.append(bytes(await file.read(0, 100)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.truncate, 10)
            await begun.wait()
            monkeypatch.setattr(os, "ftruncate", whole)
            assert not file.write_now(50, b"y")
            nursery.start_soon(file.write, 15, b"y")
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert file.size_bytes == 100
            go_on.set()
        assert await bytes_of(file) == b"x" * 10 + bytes(5) + b"y"
        assert got[0].startswith(b"x" * 10)
        file.release()


async def test_a_file_that_lost_bytes_on_disk_is_an_error(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create()
        await file.write(0, b"x" * 1000)
        os.truncate(file.path, 500)
        for work in (lambda: digest(file), lambda: file.read(0, 1000), lambda: staging.freeze_copy(file)):
            with trio.fail_after(5), pytest.raises(StagedIncomplete):
                await work()
        os.unlink(file.path)
        with pytest.raises(StagedIncomplete):
            await file.read(0, 1000)
        assert staging.used_bytes == 1000


async def test_many_at_work_on_one_file_each_find_their_own_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task owns a part of the file; fetches, copies and a disk that is slow at times go on around them."""
    part, tasks, rng = 30_000, 6, random.Random(1)
    base = base_of(part * tasks)
    monkeypatch.setattr(staged_file, "_FETCH_BYTES", 2000)
    with staging_in(tmp_path, limit_bytes=2**40) as staging:
        file = staging.create(base)
        file.hold()

        async def own(index: int) -> None:
            start = index * part
            mine = bytearray(content_of(base, start, start + part))
            for _ in range(60):
                low = rng.randrange(part)
                data = rng.randbytes(rng.choice([1, 100, 5000]))[: part - low]
                mine[low : low + len(data)] = data
                if not file.write_now(start + low, data):
                    await file.write(start + low, data)
                if rng.random() < 0.3:
                    assert bytes(await file.read(start, part)) == mine
                if rng.random() < 0.1:
                    staging.disk.is_slow_for(0.002)
                await trio.lowlevel.checkpoint()
            assert bytes(await file.read(start, part)) == mine

        async def copy() -> None:
            for _ in range(5):
                one = await staging.freeze_copy(file)
                assert one.size_bytes == file.size_bytes
                await one.complete()
                one.delete()

        async with trio.open_nursery() as nursery:
            for index in range(tasks):
                nursery.start_soon(own, index)
            nursery.start_soon(copy)
            nursery.start_soon(file.complete)
        assert file.is_complete
        assert staging.used_bytes == base.size_bytes
        file.release()
