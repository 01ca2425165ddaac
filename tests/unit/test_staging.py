"""Staged files: what stays right when reads, writes, truncations and fetches meet, and what a restart finds."""

import errno
import hashlib
import math
import os
import random
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing

from procorefs.procore.errors import Malformed, Unavailable
from procorefs.staging import staged_bytes, staged_file, whole_file
from procorefs.staging.quota import Outlook
from procorefs.staging.spare_files import SPARE_FILES
from procorefs.staging.staged_bytes import Disk
from procorefs.staging.staging_area import StagedFile, StagedIncomplete, StagedRecord, Staging
from procorefs.staging.whole_file import digest, segment_digests
from tests.support.content_source import MemorySource, content_of, running
from tests.support.staged_base import KIB, MIB, Bases, Gate, base_of, bytes_of, left_in, spares_of, staging_in

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


# --- over a base


async def test_opening_for_writing_fetches_nothing_that_is_not_needed(tmp_path: Path) -> None:
    bases = Bases()
    with staging_in(tmp_path, bases) as staging:
        base = base_of(10 * MIB)
        file = staging.create(base)
        assert (file.size_bytes, staging.used_bytes, file.is_complete) == (10 * MIB, 0, False)
        await file.write(base.size_bytes, b"appended")
        assert await file.read(base.size_bytes, 100) == b"appended"
        assert bases.reads == []
        assert staging.used_bytes == 8
        assert (
            bytes(await file.read(base.size_bytes - 5, 100))
            == content_of(base, 10 * MIB - 5, 10 * MIB) + b"appended"
        )
        assert bases.reads == [(10 * MIB - 5, 5)]
        await file.truncate(0)
        assert file.is_complete
        assert file.base is None
        assert staging.used_bytes == 0


async def test_what_is_written_while_it_is_fetched_stays(tmp_path: Path) -> None:
    bases = Bases()
    base = base_of(3 * MIB)
    gate = bases.gate = Gate()
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        file.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.complete)
            await gate.reached.wait()
            assert file.write_now(10, b"newer")
            await file.write(MIB - 2, b"newer")  # over the end of what is being fetched
            gate.open.set()
        expected = bytearray(content_of(base, 0, base.size_bytes))
        expected[10:15] = expected[MIB - 2 : MIB + 3] = b"newer"
        assert file.is_complete
        assert await bytes_of(file) == expected
        assert staging.used_bytes == base.size_bytes
        file.release()


@pytest.mark.parametrize("long_cut_bytes", [0, 16 * MIB])
async def test_what_is_cut_off_while_it_is_fetched_comes_back_as_zeros(
    tmp_path: Path, long_cut_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_file, "_LONG_CUT_BYTES", long_cut_bytes)
    bases = Bases()
    base = base_of(100 * KIB)
    gate = bases.gate = Gate()
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.complete)
            await gate.reached.wait()
            await file.truncate(1000)
            await file.truncate(2000)
            gate.open.set()
        assert await bytes_of(file) == content_of(base, 0, 1000) + bytes(1000)
        assert os.stat(file.path).st_size == 2000
        assert staging.used_bytes == 2000


async def test_a_read_that_waits_for_the_base_ends_where_the_file_ends_by_then(tmp_path: Path) -> None:
    bases = Bases()
    base = base_of(3000)
    gate = bases.gate = Gate()
    got: list[bytes] = []
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        await file.write(1000, b"x" * 1000)

        async def read_all() -> None:
            got.append(await bytes_of(file))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all)
            await gate.reached.wait()
            await file.truncate(1500)
            gate.open.set()
        assert got == [content_of(base, 0, 1000) + b"x" * 500]


async def test_a_fetch_that_fails_leaves_the_bytes_missing(tmp_path: Path) -> None:
    bases = Bases()
    base = base_of(50_000)
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        await file.write(0, b"new")
        bases.failure = Unavailable("no network")
        with pytest.raises(Unavailable):
            await file.complete()
        with pytest.raises(Unavailable):
            await file.read(0, 10)
        assert bytes(await file.read(0, 3)) == b"new"
        assert file.record().missing == ((3, 50_000),)
        bases.failure = None
        assert await digest(file) == hashlib.sha256(b"new" + content_of(base, 3, 50_000)).digest()


async def test_a_base_that_gives_too_little_is_an_error_and_never_zeros(tmp_path: Path) -> None:
    bases = Bases()
    bases.short_by = 1
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base_of(5000))
        for work in (file.complete, lambda: digest(file), lambda: file.read(0, 100)):
            with pytest.raises(Malformed):
                await work()
        assert not file.is_complete


async def test_a_base_is_read_as_every_version_is(tmp_path: Path) -> None:
    source, base = MemorySource(), base_of(9 * MIB + 5)
    async with running(tmp_path / "cache", source) as (content, _):
        staging = Staging(tmp_path / "staging", 100 * MIB, content.open, lambda: Outlook.NONE)
        file = staging.create(base)
        await file.write(5 * MIB, b"new")
        expected = bytearray(content_of(base, 0, base.size_bytes))
        expected[5 * MIB : 5 * MIB + 3] = b"new"
        assert bytes(await file.read(5 * MIB - 10, 20)) == expected[5 * MIB - 10 : 5 * MIB + 10]
        assert source.delivered_bytes < 5 * MIB
        assert await digest(file) == hashlib.sha256(expected).digest()
        assert await bytes_of(file) == expected
        staging.close()


async def test_written_over_altogether_it_needs_its_base_no_more(tmp_path: Path) -> None:
    bases = Bases()
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base_of(300))
        for offset in (100, 200, 0):
            assert file.base is not None
            await file.write(offset, b"y" * 100)
        assert file.record() == StagedRecord(file.number, 300, None, ())
        assert await bytes_of(file) == b"y" * 300
        assert bases.reads == []


async def test_an_empty_base_is_no_base(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create(base_of(0))
        assert file.is_complete
        assert await bytes_of(file) == b""
        assert await digest(file) == hashlib.sha256().digest()
        assert await segment_digests(file, 10) == []


# --- reading and writing


def need_reads_without_waiting(directory: Path) -> None:
    """Where a file system has none (tmpfs), everything is read in a thread."""
    file = os.open(directory / "probe", os.O_RDWR | os.O_CREAT)
    try:
        os.write(file, b"x")
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the file system does not know RWF_NOWAIT")
        raise
    finally:
        os.close(file)


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


# --- holding and deleting


async def test_who_holds_a_deleted_file_reads_on(tmp_path: Path) -> None:
    bases = Bases()
    base = base_of(2000)
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        await file.write(0, b"abc")
        file.hold()
        file.hold()
        file.delete()
        file.delete()
        file.release()
        assert bytes(await file.read(0, 10)) == b"abc" + content_of(base, 3, 10)
        assert bases.open_readers == 1
        await staging.sync([file])
        assert staging.used_bytes == 3
        file.release()
        assert left_in(staging) == []
        assert (staging.used_bytes, bases.open_readers) == (0, 0)
        await staging.sync([file])
        with pytest.raises(StagedIncomplete):
            await file.read(0, 10)
        assert staging.used_bytes == 0


# --- copies


@pytest.mark.parametrize("way", ["as the disk does", "clone", "pread"])
async def test_a_copy_has_the_same_bytes_and_a_life_of_its_own(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clone(source: int, target: int) -> bool:
        os.pwrite(target, os.pread(source, 10**6, 0), 0)
        return True

    def refuse(*_: int) -> int:
        raise OSError(18, "cross-device link")

    if way == "clone":
        monkeypatch.setattr(staged_bytes, "clone", clone)
    if way == "pread":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    base = base_of(100_000)
    with staging_in(tmp_path) as staging:
        file = staging.create(base)
        for offset in range(0, 100_000, 10_000):
            await file.write(offset, b"x" * 100)
        before = file.record()
        copy = await staging.freeze_copy(file)
        assert copy.record() == msgspec.structs.replace(before, number=copy.number)
        await copy.write(50, b"copy")
        await file.write(60, b"file")
        await file.truncate(70)
        rest = content_of(base, 100, 10_000)
        assert bytes(await copy.read(0, 10_000)) == b"x" * 50 + b"copy" + b"x" * 46 + rest
        assert await bytes_of(file) == b"x" * 60 + b"file" + b"x" * 6
        assert staging.used_bytes == file.stored_bytes + copy.stored_bytes
        assert os.stat(copy.path).st_size == 100_000


async def test_no_write_comes_into_a_copy_that_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_reads_without_waiting(tmp_path)
    whole = staged_bytes.copy
    begun, go_on = trio.Event(), trio.Event()

    def slow(*args: object) -> None:
        trio.from_thread.run_sync(begun.set)
        trio.from_thread.run(go_on.wait)
        whole(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(staged_bytes, "copy", slow)
    with staging_in(tmp_path) as staging:
        file = staging.create()
        file.hold()
        file.write_now(0, b"before")
        copies: list[StagedFile] = []

        async def copy() -> None:
            copies.append(await staging.freeze_copy(file))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy)
            await begun.wait()
            assert not file.write_now(0, b"after!")
            nursery.start_soon(file.write, 0, b"after!")
            nursery.start_soon(file.truncate, 10)
            await trio.testing.wait_all_tasks_blocked()
            assert file.read_now(0, 10) == b"before"
            go_on.set()
        assert await bytes_of(copies[0]) == b"before"
        assert await bytes_of(file) == b"after!" + bytes(4)
        file.release()


async def test_a_copy_that_is_given_up_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_bytes, "SLICE_BYTES", 10)
    with staging_in(tmp_path) as staging, trio.CancelScope() as scope:
        file = staging.create()
        await file.write(0, b"x" * 1000)
        whole = staged_bytes.copy

        def cancelling(*args: object) -> None:
            trio.from_thread.run_sync(scope.cancel)
            whole(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(staged_bytes, "copy", cancelling)
        try:
            await staging.freeze_copy(file)
        finally:
            assert left_in(staging) == [file.number]
            assert staging.used_bytes == 1000
            with file.held():
                assert file.write_now(0, b"y")  # the standstill is over
    assert scope.cancelled_caught


# --- digests


async def test_digests_are_of_the_bytes_and_remembered_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_file, "SLICE_BYTES", 70_000)
    data = random.Random(3).randbytes(200_001)
    fed: list[int] = []
    whole = staged_bytes.Hash.feed

    def feed(part: staged_bytes.Hash, descriptor: int, low: int, high: int) -> None:
        fed.append(low)
        whole(part, descriptor, low, high)

    monkeypatch.setattr(staged_bytes.Hash, "feed", feed)
    with staging_in(tmp_path) as staging:
        file = staging.create()
        await file.write(0, data)
        assert await digest(file) == hashlib.sha256(data).digest()
        assert fed == [0, 70_000, 140_000]
        assert await digest(file) == hashlib.sha256(data).digest()
        assert len(fed) == 3
        assert await segment_digests(file, 100_000) == [
            (len(part), hashlib.sha256(part).hexdigest())
            for part in (data[:100_000], data[100_000:200_000], data[200_000:])
        ]
        await file.write(5, b"!")
        assert await digest(file) == hashlib.sha256(data[:5] + b"!" + data[6:]).digest()


async def test_a_digest_is_never_of_two_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "SLICE_BYTES", 10)
    whole = staged_bytes.Hash.feed
    with staging_in(tmp_path) as staging:
        file = staging.create()
        await file.write(0, b"x" * 30)
        meanwhile = [lambda: file.write_now(0, b"y"), lambda: file.write_now(29, b"y")]

        def feed(part: staged_bytes.Hash, fd: int, low: int, high: int) -> None:
            whole(part, fd, low, high)
            if low == 20 and meanwhile:
                trio.from_thread.run_sync(meanwhile.pop())

        monkeypatch.setattr(staged_bytes.Hash, "feed", feed)
        assert await digest(file) == hashlib.sha256(b"y" + b"x" * 28 + b"y").digest()


# --- restarts


async def test_a_restart_gives_exactly_what_the_record_says(tmp_path: Path) -> None:
    bases = Bases()
    base = base_of(10_000)
    with staging_in(tmp_path, bases) as staging:
        file = staging.create(base)
        await file.write(9_000, b"z" * 3_000)
        record = msgspec.json.decode(msgspec.json.encode(file.record()), type=StagedRecord)
        assert record == StagedRecord(file.number, 12_000, base, ((0, 9_000),))
        await file.write(5, b"after the record, over the base")
        await file.write(11_000, b"after the record, behind its end" * 100)
    with staging_in(tmp_path, bases) as staging:
        file = staging.adopt(record)
        assert (file.size_bytes, file.base, staging.used_bytes) == (12_000, base, 3_000)
        assert os.stat(file.path).st_size == 12_000
        assert bytes(await file.read(0, 11_000)) == content_of(base, 0, 9_000) + b"z" * 2_000
        await file.truncate(13_000)
        assert bytes(await file.read(12_000, 1_000)) == bytes(1_000)
        assert staging.create().number > record.number


async def test_what_was_never_flushed_can_be_kept(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        file = staging.create()
        record = file.record()
        await file.write(0, b"not flushed")
    with staging_in(tmp_path) as staging:
        file = staging.adopt(record, is_open=True)
        assert await bytes_of(file) == b"not flushed"
        assert staging.used_bytes == 11


def test_less_than_the_record_says_is_incomplete(tmp_path: Path) -> None:
    with staging_in(tmp_path) as staging:
        number = staging.create().number
        for record in (
            StagedRecord(number, 1, None, ()),
            StagedRecord(number, 0, None, ((0, 1),)),
            StagedRecord(number + 2 * SPARE_FILES, 0, None, ()),
        ):
            with pytest.raises(StagedIncomplete):
                staging.adopt(record)
        (tmp_path / "9999").symlink_to("/etc/passwd")
        with pytest.raises(StagedIncomplete):
            staging.adopt(StagedRecord(9999, 1, None, ()))
        assert staging.used_bytes == 0


@pytest.mark.parametrize("crash", ["before", "after"])
async def test_a_shrunk_file_is_found_again_wherever_the_crash_was(tmp_path: Path, crash: str) -> None:
    base = base_of(1000)
    with staging_in(tmp_path) as staging:
        file = staging.create(base)
        await file.write(900, b"x" * 500)
        record = file.record(shrunk_to=950)
        assert record == StagedRecord(file.number, 950, base, ((0, 900),))
        assert file.record(shrunk_to=5000) == file.record()
        assert file.record(shrunk_to=50).missing == ((0, 50),)
        if crash == "after":
            await file.truncate(950)
            assert file.record() == record
    with staging_in(tmp_path) as staging:
        file = staging.adopt(record)
        assert await bytes_of(file) == content_of(base, 0, 900) + b"x" * 50


def test_what_a_write_returned_for_survives_a_kill(tmp_path: Path) -> None:
    source, reply = os.pipe()
    child = os.fork()
    if child == 0:
        _write_and_die(tmp_path, reply)
    os.close(reply)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with os.fdopen(source, "rb") as pipe:
        record = msgspec.json.decode(pipe.read(), type=StagedRecord)
    with staging_in(tmp_path) as staging:
        file = staging.adopt(record)
        assert trio.run(bytes_of, file) == content_of(base_of(100), 0, 50) + b"survives" * 10_000


def _write_and_die(directory: Path, reply: int) -> None:
    try:
        with staging_in(directory) as staging:
            file = staging.create(base_of(100))
            file.hold()
            file.write_now(50, b"survives" * 10_000)
            os.write(reply, msgspec.json.encode(file.record()))
            os.kill(os.getpid(), signal.SIGKILL)
    finally:
        os._exit(1)


# --- to disk


@pytest.mark.parametrize("count", [1, 3, 17])
async def test_sync_reaches_files_and_names(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    note: Callable[[str], Callable[[int], None]] = lambda name: lambda _: calls.append(name)  # noqa: E731
    monkeypatch.setattr(os, "fdatasync", note("data"))
    monkeypatch.setattr(os, "fsync", note("names"))
    monkeypatch.setattr(staged_bytes, "sync_filesystem", note("all"))
    with staging_in(tmp_path) as staging:
        files = [staging.create() for _ in range(count)]
        await staging.sync(files)
        assert calls == (["all"] if count == 17 else ["data"] * count + ["names"])
        calls.clear()
        await staging.sync(files[:1])
        assert calls == ["data"]  # its name is on disk already


async def test_sync_does_not_hide_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "input/output error")

    with staging_in(tmp_path) as staging:
        files = [staging.create() for _ in range(3)]
        await staging.sync(files * 10)  # a real syncfs
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(OSError, match="input/output"):
                await staging.sync(files)
        await staging.sync(files)


# Bytes that were never flushed, over a version


@pytest.mark.parametrize("is_slow", [False, True])
async def test_what_was_written_over_a_version_is_found_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    """However small the pieces are, and whatever was cut meanwhile; the record is as old as the first write."""
    base = base_of(100_000)
    if is_slow:
        monkeypatch.setattr(staged_bytes, "SLOW_WRITE_S", -1.0)
    with staging_in(tmp_path) as staging:
        file = staging.create(base, held=True)
        record = file.record()
        for offset in (5, 6, 7, 50_001, 99_999, 3, 7):
            if not file.write_now(offset, b"xy"):
                await file.write(offset, b"xy")
        await file.truncate(60_000)
        await file.truncate(70_000)
        expected = await bytes_of(file)
        await trio.testing.wait_all_tasks_blocked()
        file.release()
    for _ in range(2):
        with staging_in(tmp_path) as staging:
            file = staging.adopt(record, is_open=True)
            assert await bytes_of(file) == expected
            await file.write(20, b"more")
            expected = await bytes_of(file)


async def test_what_a_closed_file_misses_is_what_its_record_says(tmp_path: Path) -> None:
    """Notes may be on the disk without the bytes, after a power cut: a closed file does without them."""
    base = base_of(1000)
    with staging_in(tmp_path) as staging:
        file = staging.create(base, held=True)
        assert file.write_now(0, b"closed")
        record = file.record()
        assert file.write_now(500, b"not closed")
        file.release()
    with staging_in(tmp_path) as staging:
        file = staging.adopt(record)
        assert (await bytes_of(file))[500:510] == content_of(base, 500, 510)
        await file.complete()
        file.delete()
        assert left_in(staging) == []
        assert os.listdir(tmp_path) == []


async def test_what_came_behind_a_closed_file_is_salvaged(tmp_path: Path) -> None:
    base = base_of(1000)
    with staging_in(tmp_path) as staging:
        file = staging.create(base, held=True)
        assert file.write_now(10, b"closed")
        record = file.record()
        expected = await bytes_of(file)
        assert file.write_now(1000, b"behind")
        file.release()
    with staging_in(tmp_path) as staging:
        tail = staging.salvage(record)
        assert tail is not None
        assert await bytes_of(staging.adopt(tail, is_open=True)) == expected + b"behind"
        assert await bytes_of(staging.adopt(record)) == expected
        assert staging.salvage(record) is None
        assert staging.used_bytes == 6 + 12
