"""Staged files over a version, their copies and digests: fetched bytes never replace written ones."""

import hashlib
import os
import random
from pathlib import Path

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing

from procorefs.procore.errors import Malformed, Unavailable
from procorefs.staging import staged_bytes, staged_file, whole_file
from procorefs.staging.quota import Outlook
from procorefs.staging.staging_area import StagedFile, StagedIncomplete, StagedRecord, Staging
from procorefs.staging.whole_file import digest, segment_digests
from tests.support.content_source import MemorySource, content_of, running
from tests.support.staged_base import (
    KIB,
    MIB,
    Bases,
    Gate,
    base_of,
    bytes_of,
    left_in,
    need_reads_without_waiting,
    staging_in,
)

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
