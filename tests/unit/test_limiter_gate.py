"""The gate: order, fairness and cancellation, on a clock that only moves when everybody waits."""

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from procorefs.limiter import LocalLimiter, Priority

INTERACTIVE, WRITING, REFRESH = Priority
UNIX_S = 1_800_000_000.0


def limiter() -> LocalLimiter:
    return LocalLimiter(unix_time_s=lambda: UNIX_S + trio.current_time(), jitter=lambda: 0.0)


def exhausted(reset_in_s: float) -> dict[str, str]:
    return {
        "x-rate-limit-limit": "25",
        "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": str(UNIX_S + trio.current_time() + reset_in_s),
    }


def on_mock_clock(scenario: Callable[[], Awaitable[None]]) -> None:
    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))


def test_waiters_go_by_class_and_then_by_age() -> None:
    async def scenario() -> None:
        gate = limiter()
        order: list[str] = []

        async def caller(name: str, priority: Priority) -> None:
            await gate.acquire(priority)
            order.append(name)
            gate.observe(200, {})

        await gate.acquire(INTERACTIVE)
        gate.observe(200, exhausted(8))
        async with trio.open_nursery() as nursery:
            for name, priority in [
                ("refresh 1", REFRESH),
                ("write 1", WRITING),
                ("write 2", WRITING),
                ("person 1", INTERACTIVE),
                ("refresh 2", REFRESH),
                ("person 2", INTERACTIVE),
            ]:
                nursery.start_soon(caller, name, priority)
                await trio.testing.wait_all_tasks_blocked()
            assert gate.snapshot().waiting == 6
            assert gate.would_wait(INTERACTIVE)
        assert order == ["person 1", "person 2", "write 1", "write 2", "refresh 1", "refresh 2"]
        assert trio.current_time() >= 9  # Reset and its margin

    on_mock_clock(scenario)


def test_a_cancelled_waiter_takes_nothing_and_lets_the_next_go() -> None:
    async def scenario() -> None:
        gate = limiter()
        await gate.acquire(INTERACTIVE)
        gate.observe(200, exhausted(8))
        went: list[float] = []

        async def patient() -> None:
            await gate.acquire(INTERACTIVE)
            went.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(3):
                nursery.start_soon(patient)
                await gate.acquire(INTERACTIVE)
            assert trio.current_time() == 3
            assert gate.snapshot().waiting == 1
        assert went == [9]
        assert gate.snapshot().spike.remaining == 23  # each call leaves the window by itself

    on_mock_clock(scenario)


def test_an_answer_wakes_who_waits_for_calls_under_way() -> None:
    async def scenario() -> None:
        gate = limiter()
        for _ in range(3):
            await gate.acquire(INTERACTIVE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gate.acquire, INTERACTIVE)
            await trio.testing.wait_all_tasks_blocked()
            assert gate.snapshot().waiting == 1
            gate.observe(200, {})
        assert trio.current_time() == 0

    on_mock_clock(scenario)


def test_a_pause_shows_in_the_status_and_holds_for_all() -> None:
    async def scenario() -> None:
        gate = limiter()
        await gate.acquire(INTERACTIVE)
        gate.observe(429, {"retry-after": "30"})
        assert gate.snapshot().paused_until == UNIX_S + 30
        assert gate.would_wait(INTERACTIVE)
        await gate.acquire(INTERACTIVE)
        assert trio.current_time() == 30
        assert gate.snapshot().paused_until is None

    on_mock_clock(scenario)


def test_acquire_is_a_checkpoint() -> None:
    async def scenario() -> None:
        gate = limiter()
        with trio.CancelScope() as scope:
            scope.cancel()
            await gate.acquire(INTERACTIVE)
        assert scope.cancelled_caught
        assert gate.snapshot().spike.remaining == 25

    on_mock_clock(scenario)
