"""Staged files after the daemon or the machine has stopped: exactly what the record says, or incomplete."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trio
import trio.lowlevel
import trio.testing

from procorefs.staging import staged_bytes
from procorefs.staging.missing_ranges import SUFFIX
from procorefs.staging.spare_files import SPARE_FILES
from procorefs.staging.staging_area import StagedIncomplete, StagedRecord
from tests.support.content_source import content_of
from tests.support.staged_base import Bases, base_of, bytes_of, left_in, staging_in

# --- restarts


async def test_only_files_that_are_as_their_records_say_are_taken_up_together(tmp_path: Path) -> None:
    base = base_of(10)
    with staging_in(tmp_path) as staging:
        files = [staging.create() for _ in range(4)]
        for file in files:
            await file.write(0, b"12345")
        whole, longer, shorter, logged = (file.record() for file in files)
        await files[1].write(5, b"6")
        os.truncate(files[2].path, 4)
        await trio.Path(files[3].path + SUFFIX).touch()
        partial = staging.create(base).record()
        sourceless = msgspec.structs.replace(partial, base=None)
        nowhere = StagedRecord(9998, 0, None, ())
        (tmp_path / "9999").symlink_to("/etc/passwd")
        link = StagedRecord(9999, (tmp_path / "9999").lstat().st_size, None, ())
    with staging_in(tmp_path) as staging:
        found = staging.adopt_whole([whole, longer, shorter, logged, partial, nowhere, link])
        assert found.keys() == {whole.number, partial.number}
        assert await bytes_of(found[whole.number]) == b"12345"
        assert [file.record() for file in found.values()] == [whole, partial]
        assert staging.used_bytes == 5
        assert all(file.promises.is_on_disk(0) for file in found.values())
        assert not staging.adopt_whole([sourceless])


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
        assert sorted(calls) == (["all"] if count == 17 else ["data"] * count + ["names"])
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


# --- bytes that were never flushed, over a version


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
        assert f"{record.number}{SUFFIX}" in os.listdir(tmp_path)
        file = staging.adopt(record)
        assert f"{record.number}{SUFFIX}" not in os.listdir(tmp_path)
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
