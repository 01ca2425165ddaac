"""Taking the kernel's requests: right after one another without the loop, and never one that is not there."""

from collections.abc import Callable

import trio
import trio.testing

from procorefs.kernel.bridge.request_polling import POLL_NS, SLICE_S, RequestPolling


class Kernel:
    """Says of each question whether there is a request, and what pyfuse3's own waiting repolling."""

    def __init__(self, there: list[bool], waits: list[bool]) -> None:
        self.there = there
        self.waits = waits
        self.asked_ns: list[int] = []
        self.ended_grants = 0
        self.now_s = 5.0

    def request_comes(self, within_ns: int) -> bool:
        self.asked_ns.append(within_ns)
        return self.there.pop(0)

    def end_read_grants(self) -> None:
        self.ended_grants += 1

    async def wait(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.waits.pop(0)


def polling_of(kernel: Kernel) -> Callable[[], bool]:
    polling = RequestPolling(kernel.request_comes, kernel.end_read_grants, kernel.wait, lambda: kernel.now_s)
    return lambda: trio.run(polling.wait)


def test_the_first_request_is_waited_for() -> None:
    kernel = Kernel(there=[True], waits=[True])
    assert polling_of(kernel)()
    assert kernel.asked_ns == [0]


def test_a_request_that_follows_at_once_needs_no_waiting() -> None:
    kernel = Kernel(there=[True, True], waits=[True])
    polling = polling_of(kernel)
    assert polling()
    assert polling()
    assert kernel.asked_ns == [0, POLL_NS]
    assert not kernel.waits


def test_when_its_turn_is_over_everybody_else_gets_one() -> None:
    kernel = Kernel(there=[True, True], waits=[True, True])
    polling = polling_of(kernel)
    polling()
    kernel.now_s += SLICE_S
    polling()
    assert kernel.asked_ns == [0, 0]
    assert not kernel.waits


def test_requests_get_as_long_a_turn_as_the_other_tasks_took() -> None:
    kernel = Kernel(there=[True] * 4, waits=[True])
    taken_s = 3 * SLICE_S
    moments = [0.0, 0.0, 0.0, SLICE_S, SLICE_S, SLICE_S + taken_s, SLICE_S + taken_s, 3 * SLICE_S + taken_s]
    polling = RequestPolling(
        kernel.request_comes, kernel.end_read_grants, kernel.wait, iter([5.0 + s for s in moments]).__next__
    )

    async def take_requests() -> None:
        await polling.wait()
        await polling.wait()
        with trio.testing.assert_checkpoints():
            await polling.wait()
        with trio.testing.assert_no_checkpoints():
            await polling.wait()

    trio.run(take_requests)
    assert kernel.asked_ns == [0, POLL_NS, POLL_NS, POLL_NS]


async def _ended_grants_after_each(kernel: Kernel, polling: RequestPolling) -> list[int]:
    """How many grants had been ended after each of four requests, of which another worker takes the last one."""
    ended = []

    async def take() -> None:
        await polling.wait()
        ended.append(kernel.ended_grants)

    await take()
    await take()  # follows at once: no other task ran
    kernel.now_s += SLICE_S
    await take()  # the slice was over
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)  # within the slice, and this worker never comes back
    return ended


def test_no_grant_outlives_a_turn_of_other_tasks() -> None:
    kernel = Kernel(there=[True] * 4, waits=[True])
    polling = RequestPolling(kernel.request_comes, kernel.end_read_grants, kernel.wait, lambda: kernel.now_s)
    assert trio.run(_ended_grants_after_each, kernel, polling) == [1, 1, 2, 3]


def test_a_request_that_another_worker_took_is_not_returned() -> None:
    kernel = Kernel(there=[False, True], waits=[True, True])
    assert polling_of(kernel)()
    assert not kernel.waits


def test_the_end_is_told() -> None:
    assert not polling_of(Kernel(there=[], waits=[False]))()


async def _two_workers() -> list[str]:
    """Who takes three requests, of which the last comes while the worker that polls lets other tasks run."""
    pending, took = 0, list[str]()
    now_s, comes = 5.0, trio.Event()

    async def readable() -> bool:
        if trio.lowlevel.current_task().name == "waits":
            await comes.wait()
        else:
            await trio.lowlevel.checkpoint()
        return True

    polling = RequestPolling(lambda _within_ns: pending > 0, lambda: None, readable, lambda: now_s)

    async def take(name: str) -> None:
        nonlocal pending
        await polling.wait()
        pending -= 1
        took.append(name)

    async def wait() -> None:
        await take("waits")
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, name="waits")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):
            pending += 1
            await take("polls")
        now_s, pending = now_s + SLICE_S, 1
        comes.set()
        await take("polls")
        nursery.cancel_scope.cancel()
    return took


def test_the_worker_that_polls_takes_what_came_while_other_tasks_ran() -> None:
    for _ in range(20):  # trio shuffles the tasks of a pass
        assert trio.run(_two_workers) == ["polls"] * 3
