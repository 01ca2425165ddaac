"""Work that several wait for: one result for all, whoever leaves early, however it ends."""

import pytest
import trio
import trio.testing

from procorefs.tree.sync.shared_task import SharedTask


class Failed(Exception):
    """What the work raises."""


async def test_a_failure_reaches_all_who_wait() -> None:
    shared = SharedTask()
    fail = trio.Event()
    told: list[str] = []

    async def work() -> None:
        await fail.wait()
        raise Failed("no")

    async def join(nursery: trio.Nursery) -> None:
        with pytest.raises(Failed, match="no"):
            await shared.join(nursery, "key", work)
        told.append("failed")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(join, nursery)
        await trio.testing.wait_all_tasks_blocked()
        fail.set()
    assert told == ["failed"] * 3
    assert not shared.running("key")


async def test_who_leaves_does_not_end_the_work() -> None:
    shared = SharedTask()
    go = trio.Event()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await go.wait()

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.01) as impatience:
            await shared.join(nursery, "key", work)
        assert impatience.cancelled_caught
        assert shared.running("key")
        go.set()
        await shared.join(nursery, "key", work)
    assert runs == 1
