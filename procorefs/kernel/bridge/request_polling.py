"""Takes the next request of the kernel without a turn of the loop, when it comes right after the one before.

A program that writes or walks sends its next request some microseconds after the last answer. To go to sleep in epoll
for each, and to wake two tasks for it, costs more than answering it.

    request ─▶ answered ─▶ another one within SOON_NS? ─▶ that one …   after TURN_S everybody else gets on, once
                                                      ─▶ else pyfuse3's own way: sleep until there is one
"""

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import trio

from procorefs.kernel.bridge.native import Bridge, pyfuse3

log = logging.getLogger(__name__)

SOON_NS = 50_000
"""So long the loop stands still for the next request: as long as it takes a program that is at work to send it."""

TURN_S = 0.001
"""So long one worker keeps the loop: meanwhile no other task gets on, but for threads."""

_WAIT = "_wait_fuse_readable"
"""pyfuse3's own waiting; a version that has no such function goes on as it is, somewhat slower."""

Wait = Callable[[], Coroutine[Any, Any, bool]]


def poll_requests(bridge: Bridge) -> None:
    """Put ourselves before pyfuse3's waiting for requests."""
    original: Wait | None = getattr(pyfuse3, _WAIT, None)
    if original is None:
        log.debug("pyfuse3 has no %s: each request takes turns of the loop.", _WAIT)
    elif not isinstance(getattr(original, "__self__", None), RequestPolling):
        setattr(pyfuse3, _WAIT, RequestPolling(bridge.request_comes, original).wait)


class RequestPolling:
    """Whose turn it is: the worker's that has just answered, or anybody's."""

    def __init__(
        self,
        request_comes: Callable[[int], bool],
        original: Wait,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._request_comes = request_comes
        self._original = original
        self._now_s = now_s
        self._until_s = 0.0
        self._number = 0  # of the turn
        self._goes_on = False  # the last request of this turn came right after the one before

    async def wait(self) -> bool:
        """Return True when a request is there, False when there will be none any more."""
        if self._now_s() < self._until_s:
            self._goes_on = self._request_comes(SOON_NS)
            if self._goes_on:
                return True
        elif self._goes_on and await self._has_another_turn():
            return True
        while await self._original():
            if self._request_comes(0):  # else another worker, whose turn it was, has taken it
                self._begin()
                return True
        return False

    async def _has_another_turn(self) -> bool:
        """Let everybody else get on, and then go on where nobody has taken the turn and requests still come."""
        number = self._number
        await trio.lowlevel.checkpoint()
        if number != self._number or not self._request_comes(SOON_NS):
            return False
        self._begin()
        return True

    def _begin(self) -> None:
        self._number += 1
        self._until_s = self._now_s() + TURN_S
