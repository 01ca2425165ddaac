"""Polls for the kernel's next request after each answer, so that a busy program costs no pass of the event loop.

A program that writes files or lists folders sends its next request some microseconds after the last answer. A sleep in
epoll and the wake-up of two tasks for each request cost more than the answer.

    request ─▶ answered ─▶ another one within POLL_NS? ─▶ that one …   after SLICE_S all other tasks run once
                                                      ─▶ else pyfuse3's own wait: sleep until there is one
"""

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import trio

from procorefs.kernel.bridge.native import Bridge, pyfuse3

log = logging.getLogger(__name__)

POLL_NS = 50_000
"""How long the loop blocks for the next request: the time that a busy program needs to send it."""

SLICE_S = 0.001
"""How long one worker keeps the loop; no other task runs meanwhile, only threads."""

LONGEST_SLICE_S = 0.01
"""The same after a turn of the other tasks that took longer than SLICE_S: requests get half of the loop's time."""

_WAIT = "_wait_fuse_readable"
"""pyfuse3's own wait; a version that has no such function works without polling, somewhat slower."""

Wait = Callable[[], Coroutine[Any, Any, bool]]


def poll_requests(bridge: Bridge) -> None:
    """Replace pyfuse3's wait for requests by one that polls first."""
    original: Wait | None = getattr(pyfuse3, _WAIT, None)
    if original is None:
        log.debug("pyfuse3 has no %s: each request takes passes of the event loop.", _WAIT)
    elif not isinstance(getattr(original, "__self__", None), RequestPolling):
        setattr(pyfuse3, _WAIT, RequestPolling(bridge.request_comes, bridge.end_read_grants, original).wait)


class RequestPolling:
    """Decides whether a worker polls for its next request or lets other tasks run."""

    def __init__(
        self,
        request_comes: Callable[[int], bool],
        end_read_grants: Callable[[], None],
        original: Wait,
        now_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._request_comes = request_comes
        self._end_read_grants = end_read_grants
        self._original = original
        self._now_s = now_s
        self._worker: trio.lowlevel.Task | None = None
        """Who took the last request."""
        self._until_s = 0.0
        self._slice = 0
        """The number of the current time slice."""
        self._is_busy = False
        """Whether the last request of this slice came right after the one before."""
        self._is_between_slices = False
        """Whether the worker that polls lets all other tasks run, and goes on after that."""

    async def wait(self) -> bool:
        """Wait for a request; False: the session has ended."""
        worker = trio.lowlevel.current_task()
        if self._now_s() < self._until_s:
            self._is_busy = self._request_comes(POLL_NS)
            if self._is_busy:
                if worker is not self._worker:
                    self._change_worker(worker)
                return True
        elif self._is_busy and await self._begins_another_slice():
            self._change_worker(worker)
            return True
        while await self._original():
            # The worker between two slices takes it: a change of workers would cost more passes, and a new worker.
            if not self._is_between_slices and self._request_comes(0):  # else another worker has taken it
                self._begin_slice()
                self._change_worker(worker)
                return True
        return False

    def _change_worker(self, worker: trio.lowlevel.Task) -> None:
        """Let this worker take the next request, after other tasks may have run: no read is granted any more.

        That a worker which made a grant comes back here is not certain: pyfuse3 ends workers that it does not need.
        """
        self._end_read_grants()
        self._worker = worker

    async def _begins_another_slice(self) -> bool:
        """Let all other tasks run, then go on polling if no other worker began a slice and requests still come."""
        before, ended_s = self._slice, self._now_s()
        self._is_between_slices = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._is_between_slices = False
        others_s = self._now_s() - ended_s
        if before != self._slice or not self._request_comes(POLL_NS):
            return False
        self._begin_slice(min(max(SLICE_S, others_s), LONGEST_SLICE_S))
        return True

    def _begin_slice(self, length_s: float = SLICE_S) -> None:
        self._slice += 1
        self._until_s = self._now_s() + length_s
