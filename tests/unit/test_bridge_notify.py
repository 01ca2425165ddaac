"""The notifier's bookkeeping, without a mount: every notification is answered with 'no connection'."""

import errno
import logging

import pytest
import trio

from procorefs.kernel.bridge.native import NotificationBatch, invalidate_listing
from procorefs.kernel.bridge.notifications import Notifier


def test_without_a_session_there_is_no_connection() -> None:
    batch = NotificationBatch(((2, None), (1, b"a")))
    assert batch.unclaimed == 2
    assert batch.finished() == []
    batch.carry_out()
    assert batch.finished() == [(0, errno.ENOTCONN), (1, errno.ENOTCONN)]
    assert batch.finished() == []
    assert batch.unclaimed == 0
    assert invalidate_listing(1) == errno.ENOTCONN


def test_what_is_stopped_is_not_begun() -> None:
    batch = NotificationBatch(((2, None),))
    batch.stop()
    batch.carry_out()
    assert (batch.finished(), batch.unclaimed) == ([], 0)


@pytest.mark.parametrize(
    "jobs", [((2, "name"),), ([2, b"name"],), ((2,),), (("2", None),), ((2, None, None),), ((None, b"a"),)]
)
def test_a_job_of_another_form_is_refused(jobs: tuple[object, ...]) -> None:
    with pytest.raises((TypeError, ValueError)):
        NotificationBatch(jobs)  # type: ignore[arg-type]


async def test_settled_waits_for_what_was_asked_before() -> None:
    notifier = Notifier()
    first = notifier.inode(5)
    assert notifier.inode(5) is first  # folded: no thread has it yet
    notifier.entry(1, b"a")
    notifier.listing(1)
    async with trio.open_nursery() as nursery:
        await notifier.settled(6)  # nothing was asked for
        await nursery.start(notifier.run)
        with trio.fail_after(5):
            await notifier.settled(5)
        assert first.is_set()
        second = notifier.inode(5)
        assert second is not first
        with trio.fail_after(5):
            await second.wait()
        nursery.cancel_scope.cancel()


async def test_ten_thousand_entries_are_one_quick_batch(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(notifier.run)
        for number in range(10_000):
            notifier.entry(number % 10, b"%d" % number)
        last = notifier.inode(7)
        with trio.fail_after(5):
            await last.wait()
        nursery.cancel_scope.cancel()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_the_end_of_the_notifier_frees_who_waits() -> None:
    notifier = Notifier()
    async with trio.open_nursery() as nursery:
        await nursery.start(notifier.run)
        nursery.cancel_scope.cancel()
        waiting = notifier.inode(5)
    with trio.fail_after(1):
        await waiting.wait()
        await notifier.settled(5)
