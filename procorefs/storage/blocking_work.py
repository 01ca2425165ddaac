"""Blocking work: one thread that does it in order, and a mark for the time in which the loop itself waits for a disk.

Small writes to staged files are made on the loop: handing each to a thread costs 15 times as much as the write itself
(31 µs beside 2 µs on ext4), and neither ext4 nor tmpfs take a buffered write with RWF_NOWAIT. A disk that stands still
in such a write must not end the mount (kernel/bridge/connection.py).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")


class WorkerThread:
    """Runs functions one after the other in its own thread, always the same (SQLite connections need that)."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def do(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """The result of `work(*args)`. Not cancelled half-way: what was begun is waited for."""
        token = trio.lowlevel.current_trio_token()
        done = trio.Event()

        def report(_: Future[T]) -> None:
            token.run_sync_soon(done.set)

        future = self._pool.submit(work, *args)
        future.add_done_callback(report)
        with trio.CancelScope(shield=True):
            await done.wait()
        return future.result()

    def stop(self) -> None:
        """Let the thread end when it has done what it was given."""
        self._pool.shutdown(wait=False)


LONGEST_S = 600.0
"""A disk that takes longer is gone: the mount is ended then, for its programs could not even be killed."""


class DiskWait:
    """Marks one write after the other, made on one thread."""

    __slots__ = ("_since_s",)

    def __init__(self) -> None:
        self._since_s = 0.0

    def begins(self, now_s: float) -> None:
        """At this time of `perf_counter`."""
        self._since_s = now_s

    def ends(self) -> None:
        self._since_s = 0.0

    def goes_on(self) -> bool:
        """Whether one is under way. Asked on another thread."""
        since_s = self._since_s
        return since_s > 0 and perf_counter() - since_s < LONGEST_S


loop_waits = DiskWait()
"""Of the daemon's loop."""
