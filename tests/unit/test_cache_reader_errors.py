"""Readers of the cache while bytes come slowly, not at all, or with an error."""

from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from procorefs.cache.reader import Reader
from procorefs.cache.shared_download import PATIENCE_S
from procorefs.procore.errors import Forbidden, Malformed, ProcoreError, Silent, Unavailable
from procorefs.procore.wire.models import Version
from tests.support.content_source import (
    KIB,
    MIB,
    Gate,
    MemorySource,
    content_of,
    read_all,
    running,
    settled,
    version,
)


async def test_a_reader_waits_half_a_minute_for_a_byte_and_its_repeat_no_longer(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    """The kernel asks once more by itself when what it wanted to read ahead has failed."""
    mock_clock.rate = 1.0
    source, one = MemorySource(), version(1, 4 * MIB)
    gate = source.gate(0)
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        await _fail_at(reader, 0, 128 * KIB, gate, mock_clock, PATIENCE_S)
        requests = len(source.requests)
        with pytest.raises(Silent, match="no byte came within 28 s"):
            await reader.read(0, 4096)
        assert len(source.requests) == requests
        mock_clock.jump(2.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader.read, 0, 4096)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(PATIENCE_S - 1)
            gate.open.set()
        reader.close()


async def expect(reader: Reader, one: Version, start: int, size_bytes: int) -> None:
    assert bytes(await reader.read(start, size_bytes)) == content_of(one, start, start + size_bytes)


async def test_bytes_that_come_slowly_are_waited_for(tmp_path: Path, mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0
    source, one = MemorySource(piece_bytes=16 * KIB), version(1, 64 * KIB)
    gates = [source.gate(number * 16 * KIB) for number in range(4)]
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, reader, one, 0, 64 * KIB)
            for gate in gates:
                await gate.reached.wait()
                mock_clock.jump(PATIENCE_S - 1)
                gate.open.set()
        reader.close()


async def test_waiting_for_the_budget_is_no_silence(tmp_path: Path, mock_clock: MockClock) -> None:
    mock_clock.rate = 1.0
    source, one = MemorySource(), version(1, 64 * KIB)
    gate = source.gate(0)
    source.is_held_back = True
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, reader, one, 0, 64 * KIB)
            await gate.reached.wait()
            mock_clock.jump(600)
            await trio.testing.wait_all_tasks_blocked()
            gate.open.set()
        reader.close()


async def _fail_at(
    reader: Reader, offset: int, size_bytes: int, gate: Gate, clock: MockClock, after_s: float
) -> None:
    """A read that fails for silence after so long, and not before."""
    failed = trio.Event()

    async def read() -> None:
        with pytest.raises(Silent):
            await reader.read(offset, size_bytes)
        failed.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await gate.reached.wait()
        clock.jump(after_s - 1)
        await trio.testing.wait_all_tasks_blocked()
        assert not failed.is_set()
        clock.jump(1)


@pytest.mark.parametrize("error", [Silent("silent"), Forbidden("no"), Unavailable("broken")], ids=repr)
async def test_an_error_reaches_the_waiting_readers_and_the_next_read_tries_anew(
    tmp_path: Path, error: ProcoreError
) -> None:
    source, one, other = MemorySource(), version(1, 3 * MIB), version(2, 3 * MIB)
    source.failures[256 * KIB] = error
    gate = source.gate(128 * KIB)  # open once the four reads wait
    seen: dict[int, object] = {}
    async with running(tmp_path, source) as (content, _):
        reader, stranger = content.open(one), content.open(other)
        await content.open(version(3, 10)).read(0, 10)  # the index is loaded now: reads keep their order

        async def attempt(offset: int) -> None:
            try:
                seen[offset] = bytes(await reader.read(offset, 128 * KIB))
            except ProcoreError as problem:
                seen[offset] = problem

        async with trio.open_nursery() as nursery:
            for offset in (0, 128 * KIB, 256 * KIB, 384 * KIB):
                nursery.start_soon(attempt, offset)
                await trio.testing.wait_all_tasks_blocked()  # trio shuffles tasks that start together
            await gate.reached.wait()
            gate.open.set()
        for offset in (0, 128 * KIB):  # arrived before it broke
            assert seen[offset] == content_of(one, offset, offset + 128 * KIB)
        assert seen[256 * KIB] is error
        assert seen[384 * KIB] is error
        assert bytes(await reader.read(256 * KIB, 128 * KIB)) == content_of(one, 256 * KIB, 384 * KIB)
        assert bytes(await stranger.read(256 * KIB, 128 * KIB)) == content_of(other, 256 * KIB, 384 * KIB)
        reader.close()
        stranger.close()


async def test_an_error_of_downloading_ahead_is_nobodys_error(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 64 * MIB)
    source.failures[6 * MIB] = Unavailable("broken")
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        for offset in range(0, 4 * MIB, MIB):
            assert len(await reader.read(offset, MIB)) == MIB
        with trio.fail_after(5):
            await source.failed.wait()
        assert await read_all(reader, one.size_bytes, MIB) == content_of(one, 0, one.size_bytes)
        reader.close()


async def test_a_bug_in_the_source_does_not_end_the_mount(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, one = MemorySource(), version(1, 1000)
    source.failures[0] = KeyError("bug")
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        with pytest.raises(KeyError):
            await reader.read(0, 1000)
        assert bytes(await reader.read(0, 1000)) == content_of(one, 0, 1000)
        reader.close()
    assert "unexpected" in caplog.text


async def test_a_body_shorter_than_said_is_an_error_and_never_zeros(tmp_path: Path) -> None:
    source, one = MemorySource(), version(1, 100_000)
    source.short_by = 10
    async with running(tmp_path, source) as (content, _):
        reader = content.open(one)
        assert bytes(await reader.read(0, 65536 - 10)) == content_of(one, 0, 65536 - 10)
        with pytest.raises(Malformed):
            await reader.read(0, 100_000)
        await settled(content)
        source.short_by = 0
        assert bytes(await reader.read(0, 100_000)) == content_of(one, 0, 100_000)
        reader.close()
