"""The memory budget: a bound, a line, and nothing lost when somebody leaves it."""

import trio
import trio.testing

from procorefs.cache.chunk_memory import MemoryBudget
from procorefs.cache.chunks import MIB


async def test_who_comes_first_is_served_first_and_nobody_exceeds_the_limit() -> None:
    budget, served = MemoryBudget(10 * MIB), []

    async def take(name: str, size: int) -> None:
        await budget.acquire(size)
        served.append(name)

    async with trio.open_nursery() as nursery:
        await budget.acquire(8 * MIB)
        nursery.start_soon(take, "big", 4 * MIB)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, "later", 2 * MIB)
        await trio.testing.wait_all_tasks_blocked()
        assert served == []  # though 2 MiB are free
        nursery.start_soon(take, "sniff", 65536)
        await trio.testing.wait_all_tasks_blocked()
        assert served == ["sniff"]
        budget.release(65536 + 3 * MIB)
        await trio.testing.wait_all_tasks_blocked()
        assert served == ["sniff", "big"]
        budget.release(MIB)
    assert served == ["sniff", "big", "later"]
    assert budget.held_bytes == 10 * MIB


async def test_one_who_is_cancelled_in_the_line_lets_the_next_through() -> None:
    budget, scope, served = MemoryBudget(10 * MIB), trio.CancelScope(), trio.Event()

    async def leave() -> None:
        with scope:
            await budget.acquire(9 * MIB)

    async def next_one() -> None:
        await budget.acquire(MIB)
        served.set()

    await budget.acquire(5 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(next_one)
        await trio.testing.wait_all_tasks_blocked()
        assert not served.is_set()
        scope.cancel()
        with trio.fail_after(5):
            await served.wait()
    assert budget.held_bytes == 6 * MIB


async def test_one_who_is_cancelled_just_when_served_gives_it_back() -> None:
    budget, scope = MemoryBudget(10 * MIB), trio.CancelScope()

    async def leave() -> None:
        with scope:
            await budget.acquire(9 * MIB)

    await budget.acquire(5 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        budget.release(5 * MIB)
        scope.cancel()
    assert budget.held_bytes in (0, 9 * MIB)  # trio may let it through or cancel it, but it never goes astray
    assert budget.held_bytes == (0 if scope.cancelled_caught else 9 * MIB)


async def test_more_than_the_limit_is_served_alone() -> None:
    budget = MemoryBudget(MIB)
    with trio.fail_after(5):
        await budget.acquire(4 * MIB)
    budget.release(4 * MIB)
    assert budget.held_bytes == 0
