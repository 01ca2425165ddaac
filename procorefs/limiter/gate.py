"""The gate of one process: callers queue by class and order, and the policy says when the first may go."""

import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping

import trio

from procorefs.limiter.budget import LimiterStatus, Priority, WindowStatus
from procorefs.limiter.policy import Policy, Window


class LocalLimiter:
    """A budget known to this process alone.

    Only the first waiter (lowest class, then oldest) looks at the clock; all others sleep until they are
    first. A call is taken by the waiter itself without an await after the decision, so a cancelled waiter
    takes nothing.
    """

    def __init__(
        self, *, unix_time_s: Callable[[], float] = time.time, jitter: Callable[[], float] = random.random
    ) -> None:
        self._policy = Policy(jitter)
        self._unix_time_s = unix_time_s
        self._queues: dict[Priority, deque[trio.Event]] = {priority: deque() for priority in Priority}

    async def acquire(self, priority: Priority) -> None:
        """Wait for one call and take it; cancelled while waiting, nothing is taken."""
        await trio.lowlevel.checkpoint_if_cancelled()
        wake = trio.Event()
        queue = self._queues[priority]
        queue.append(wake)
        try:
            while (wait_s := self._wait_s(wake, priority)) > 0:
                with trio.move_on_after(wait_s):
                    await wake.wait()
                if wake.is_set():
                    wake = self._renewed(queue, wake)
            self._policy.take(priority, trio.current_time())
        finally:
            queue.remove(wake)
            self._wake_first()

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from the answer to a call that was taken; once for each. Status 0: no answer came."""
        self._policy.observe(status, headers, trio.current_time(), self._unix_time_s())
        self._wake_first()

    def would_wait(self, priority: Priority) -> bool:
        """Would `acquire` have to wait now?"""
        ahead = any(self._queues[other] for other in Priority if other <= priority)
        return ahead or self._policy.wait_s(priority, trio.current_time()) > 0

    def snapshot(self) -> LimiterStatus:
        """What is known now; times as Unix seconds."""
        now_s = trio.current_time()
        to_unix_s = self._unix_time_s() - now_s
        policy = self._policy
        paused = policy.paused_until_s + to_unix_s if policy.paused_until_s > now_s else None
        return LimiterStatus(
            hourly=_window_status(policy.hourly, now_s, to_unix_s),
            spike=_window_status(policy.spike, now_s, to_unix_s),
            waiting=sum(len(queue) for queue in self._queues.values()),
            paused_until=paused,
        )

    def _wait_s(self, wake: trio.Event, priority: Priority) -> float:
        if self._first() is not wake:
            return math.inf
        return self._policy.wait_s(priority, trio.current_time())

    def _first(self) -> trio.Event | None:
        return next((queue[0] for queue in self._queues.values() if queue), None)

    def _wake_first(self) -> None:
        first = self._first()
        if first is not None:
            first.set()

    def _renewed(self, queue: deque[trio.Event], wake: trio.Event) -> trio.Event:
        """A fresh event at the same place in the queue: an event can be set only once."""
        fresh = trio.Event()
        queue[queue.index(wake)] = fresh
        return fresh


def _window_status(window: Window, now_s: float, to_unix_s: float) -> WindowStatus:
    if window.reset_at_s is None or window.reset_at_s <= now_s:
        return WindowStatus(window.limit, window.limit, None)
    return WindowStatus(window.limit, max(window.remaining, 0), window.reset_at_s + to_unix_s)
