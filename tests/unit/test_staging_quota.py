"""Room for staged bytes: who waits, for how long, and what a full disk does."""

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.staging import quota as quota_module
from procorefs.staging.quota import PATIENCE_S, Outlook, Quota
from procorefs.staging.staging_area import StagedFile, StagingFull
from tests.support.staged_base import KIB, MIB, Bases, base_of, bytes_of, left_in, spares_of, staging_in


def disk_with(free_bytes: int, size_bytes: int = 2**40) -> Callable[[], os.statvfs_result]:
    """Says what such a disk would."""
    return lambda: os.statvfs_result((4096, 1, size_bytes, free_bytes, free_bytes, 1, 1, 1, 0, 255))


def show_disk(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> None:
    """From now on every disk has so much free."""
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: disk_with(free_bytes)())


def quota_of(limit_bytes: int, outlook: Outlook = Outlook.SOON) -> Quota:
    return Quota(limit_bytes, disk_with(2**39), lambda: outlook)


def play(work: Callable[[], Awaitable[None]]) -> float:
    """Run on a clock that jumps to whatever is waited for; the seconds that it took."""
    took = 0.0

    async def timed() -> None:
        nonlocal took
        begun = trio.current_time()
        await work()
        took = trio.current_time() - begun

    trio.run(timed, clock=trio.testing.MockClock(autojump_threshold=0))
    return took


# --- the line


def test_room_is_taken_up_to_the_limit_and_not_beyond() -> None:
    quota = quota_of(100)
    assert quota.take(60)
    assert quota.take(40)
    assert not quota.take(1)
    assert quota.take(0)
    quota.freed(30)
    assert not quota.take(31)
    assert quota.take(30)
    assert quota.used_bytes == 100


def test_who_waits_is_served_in_order_and_nobody_slips_in() -> None:
    quota, served = quota_of(100), list[int]()

    async def work() -> None:
        async def wait(size_bytes: int) -> None:
            assert await quota.wait_for(lambda: size_bytes) == size_bytes
            served.append(size_bytes)

        assert quota.take(90)
        async with trio.open_nursery() as nursery:
            for size_bytes in (50, 10, 20):
                nursery.start_soon(wait, size_bytes)
                await trio.testing.wait_all_tasks_blocked()
            assert not quota.take(5)  # it would fit, but others were here first
            quota.freed(40)
            await trio.testing.wait_all_tasks_blocked()
            assert served == [50]
            quota.freed(10)
            await trio.testing.wait_all_tasks_blocked()
            assert served == [50, 10]
            quota.freed(40)
        assert served == [50, 10, 20]
        assert quota.used_bytes == 80
        assert quota.take(20)

    assert play(work) < 1


def test_nobody_waits_when_nothing_can_be_freed() -> None:
    quota = quota_of(100, Outlook.NONE)

    async def work() -> None:
        assert quota.take(100)
        with pytest.raises(StagingFull, match="100 bytes wait for their upload"):
            await quota.wait_for(lambda: 1)

    assert play(work) == 0
    assert quota.used_bytes == 100


def test_nobody_waits_for_more_than_there_can_ever_be() -> None:
    quota = quota_of(100)

    async def work() -> None:
        with pytest.raises(StagingFull):
            await quota.wait_for(lambda: 101)

    assert play(work) == 0


def test_who_waits_is_told_when_nothing_can_be_freed_any_more() -> None:
    outlook = Outlook.SOON
    quota = Quota(100, disk_with(2**39), lambda: outlook)

    async def work() -> None:
        assert quota.take(100)
        async with trio.open_nursery() as nursery:

            async def fail() -> None:
                nonlocal outlook
                await trio.sleep(10.2)
                outlook = Outlook.NONE  # the last upload failed for good

            nursery.start_soon(fail)
            with pytest.raises(StagingFull):
                await quota.wait_for(lambda: 1)

    assert 10 <= play(work) <= 12


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_patience_ends_when_there_was_no_progress_for_long(steps: int) -> None:
    quota = quota_of(100)

    async def work() -> None:
        assert quota.take(100)
        async with trio.open_nursery() as nursery:

            async def get_on() -> None:
                for _ in range(steps):
                    await trio.sleep(50)
                    quota.progress()

            nursery.start_soon(get_on)
            with pytest.raises(StagingFull):
                await quota.wait_for(lambda: 1)

    assert 0 <= play(work) - (50 * steps + PATIENCE_S) <= 3
    assert quota.used_bytes == 100


def test_who_gives_up_makes_way() -> None:
    quota = quota_of(100)

    async def work() -> None:
        assert quota.take(90)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def give_up() -> None:
                with scope:
                    await quota.wait_for(lambda: 50)

            nursery.start_soon(give_up)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(quota.wait_for, lambda: 10)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        assert quota.used_bytes == 100

    assert play(work) < 1


def test_who_is_cancelled_just_when_served_gives_it_back() -> None:
    quota = quota_of(100)

    async def work() -> None:
        assert quota.take(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(quota.wait_for, lambda: 50)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            quota.freed(100)  # it is still in line
        assert quota.used_bytes == 0
        assert quota.take(100)

    play(work)


def test_room_on_the_disk_that_others_free_is_noticed() -> None:
    free_bytes = 0
    quota = Quota(100 * MIB, lambda: disk_with(free_bytes)(), lambda: Outlook.SOON)

    async def work() -> None:
        async with trio.open_nursery() as nursery:

            async def clean_up() -> None:
                nonlocal free_bytes
                await trio.sleep(5)
                free_bytes = 2**39

            nursery.start_soon(clean_up)
            await quota.wait_for(lambda: MIB)

    assert 5 <= play(work) <= 7


def test_a_reserve_stays_free_and_the_disk_is_not_asked_at_every_write() -> None:
    asked, free_bytes = 0, quota_module.RESERVE_BYTES + 40 * MIB

    def disk() -> os.statvfs_result:
        nonlocal asked
        asked += 1
        return disk_with(free_bytes - quota.used_bytes)()

    quota = Quota(2**40, disk, lambda: Outlook.NONE)
    taken = 0
    while quota.take(4 * KIB):
        taken += 4 * KIB
    assert taken == 40 * MIB
    assert asked < 20


# --- files


async def test_a_writer_waits_until_the_outbox_frees_some(tmp_path: Path) -> None:
    with staging_in(tmp_path, limit_bytes=1000, outlook=Outlook.SOON) as staging:
        old, new = staging.create(), staging.create()
        await old.write(0, b"o" * 1000)
        new.hold()
        assert not new.write_now(0, b"n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(new.write, 0, b"n" * 600)
            nursery.start_soon(new.write, 300, b"m" * 600)  # what one takes the other need not
            await trio.testing.wait_all_tasks_blocked()
            assert new.size_bytes == 0
            await old.write(0, b"O")  # takes no more
            await old.truncate(300)
            await trio.testing.wait_all_tasks_blocked()
            old.delete()
        assert (staging.used_bytes, new.size_bytes) == (900, 900)
        assert not new.write_now(900, b"x" * 101)
        assert new.write_now(900, b"x" * 100)
        new.release()


async def test_growing_waits_and_who_is_cancelled_has_taken_nothing(tmp_path: Path) -> None:
    with staging_in(tmp_path, limit_bytes=1000, outlook=Outlook.SOON) as staging:
        file = staging.create()
        await file.write(0, b"o" * 900)
        with pytest.raises(StagingFull, match="staging_size allows"):
            await file.truncate(1901)
        with pytest.raises(StagingFull, match="staging_size allows"):
            await file.write(5000, b"x")
        other = staging.create()
        with trio.move_on_after(0.01):
            await other.truncate(500)
        with trio.move_on_after(0.01):
            await staging.freeze_copy(file)
        assert (other.size_bytes, staging.used_bytes) == (0, 900)
        assert left_in(staging) == sorted([file.number, other.number])
        await file.truncate(400)
        await other.truncate(500)
        assert staging.used_bytes == 900


async def test_who_has_room_and_is_cancelled_before_writing_gives_it_back(tmp_path: Path) -> None:
    with staging_in(tmp_path, limit_bytes=1000, outlook=Outlook.SOON) as staging:
        old, new = staging.create(), staging.create()
        await old.write(0, b"o" * 1000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(new.write, 0, b"n" * 600)
            await trio.testing.wait_all_tasks_blocked()
            with new.exclusive():  # as while a copy is made
                old.delete()
                assert staging.used_bytes == 600
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert (staging.used_bytes, new.size_bytes) == (0, 0)


async def test_completing_goes_over_the_limit_for_only_uploads_free_any(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with staging_in(tmp_path, limit_bytes=1000) as staging:
        file = staging.create(base_of(5000))
        await file.write(5000, b"x" * 1000)
        await file.complete()
        assert staging.used_bytes == 6000
        with pytest.raises(StagingFull):
            await staging.create().write(0, b"x")
        show_disk(monkeypatch, 0)
        with pytest.raises(StagingFull, match="The disk"):
            await staging.create(base_of(10)).complete()


# --- a disk that is really full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=20", "small", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


async def fill(file: StagedFile, step: int) -> int:
    """Write until there is no more room; how many bytes were taken."""
    offset = 0
    while True:
        try:
            if not file.write_now(offset, b"x" * step):
                await file.write(offset, b"x" * step)
        except StagingFull:
            return offset
        offset += step


async def test_a_nearly_full_disk_is_refused_before_it_is_full(small_disk: Path) -> None:
    with staging_in(small_disk / "staging") as staging:
        file = staging.create()
        file.hold()
        taken = await fill(file, 4 * KIB)
        assert taken == file.size_bytes == staging.used_bytes
        free = os.statvfs(small_disk)
        assert 0.03 < free.f_bavail / free.f_blocks < 0.08
        assert await bytes_of(file) == b"x" * taken  # in threads: this filesystem may not know RWF_NOWAIT
        assert file.write_now(0, b"y" * taken)  # in place there is room
        file.release()
        file.delete()
        assert left_in(staging) == []
        other = staging.create()
        await other.write(0, b"x" * taken)


@pytest.mark.parametrize("now", [True, False])
async def test_a_full_disk_is_said_to_be_and_the_books_stay_right(
    small_disk: Path,
    now: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with staging_in(small_disk / "staging") as staging:
        monkeypatch.setattr(
            os, "fstatvfs", lambda _descriptor: disk_with(2**39)()
        )  # as if somebody filled it since the last look
        file = staging.create()
        await file.write(0, b"a" * 1000)
        file.hold()
        big = b"b" * (3 * MIB)
        with pytest.raises(StagingFull) as caught:
            file.write_now(1000, big) if now else await file.write(1000, big)
        assert isinstance(caught.value.__cause__, OSError)
        assert 1000 < file.size_bytes <= 2 * MIB  # what the disk took is there
        assert file.size_bytes == staging.used_bytes == os.stat(file.path).st_size
        assert await bytes_of(file) == b"a" * 1000 + b"b" * (file.size_bytes - 1000)
        with pytest.raises(StagingFull):
            await staging.freeze_copy(file)
        over = staging.create(base_of(100 * KIB))
        with pytest.raises(StagingFull):
            await over.complete()
        assert staging.used_bytes == file.size_bytes + over.stored_bytes
        file.release()
        file.delete()
        assert left_in(staging) == [over.number]
        await over.complete()
        assert staging.used_bytes == 100 * KIB
        with pytest.raises(StagingFull):
            [staging.create() for _ in range(30)]  # inodes can end as well


def test_where_inodes_are_few_none_is_kept_for_later(small_disk: Path) -> None:
    with staging_in(small_disk / "staging") as staging:
        staging.create()
        assert spares_of(staging) == []


async def test_a_failed_fetch_onto_a_full_disk_goes_on_later(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = Bases()
    with staging_in(small_disk / "staging", bases) as staging:
        show_disk(monkeypatch, 2**39)
        filler, file = staging.create(), staging.create(base_of(MIB))
        await filler.write(0, b"x" * (3 * MIB // 2))
        with pytest.raises(StagingFull):
            await file.complete()
        filler.delete()
        assert left_in(staging) == [file.number]
        await file.complete()
        fresh = staging.create(base_of(MIB))
        assert bytes(await fresh.read(0, MIB)) == await bytes_of(file)
