"""Bounds how long a request of the kernel that holds a directory's lock waits for Procore.

A lookup and a change of a directory hold the kernel's lock of that directory, and all other programs that use it wait,
without being interruptible. So such requests wait here: two seconds at most, and not at all while no answer is to be
expected. The work itself goes on without them (`tree/sync/shared_task.py`) and serves the next request.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from procorefs.procore.http.connectivity import Connectivity

MOST_S = 2.0

T = TypeVar("T")


class NoAnswerYet(Exception):
    """Procore must be asked first, and that takes longer than the request may wait."""


class BriefWait:
    """The only wait for Procore under a directory's lock."""

    def __init__(self, would_wait: Callable[[], bool], connectivity: Connectivity) -> None:
        """`would_wait`: whether the budget has no call at the moment."""
        self._would_wait = would_wait
        self._connectivity = connectivity

    def is_open(self) -> bool:
        """Whether an answer is to be expected: the budget has a call now, and Procore answers."""
        return not self._connectivity.is_away and not self._would_wait()

    async def of(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work returns or raises; it may be cancelled at any await. Raises NoAnswerYet.

        While no answer is to be expected, work that needs no answer is still done, and other work is begun.
        """
        with trio.move_on_after(MOST_S if self.is_open() else 0.0):
            return await work()
        raise NoAnswerYet("Procore must be asked first; try again")
