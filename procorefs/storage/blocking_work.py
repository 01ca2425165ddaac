"""Runs blocking work in one thread, in order, and marks the time in which the loop itself waits for a disk.

Small writes to staged files run on the loop: a thread costs 15 times as much as the write itself (31 µs instead of 2 µs
on ext4), and neither ext4 nor tmpfs supports a buffered write with RWF_NOWAIT. A disk that stalls in such a write must
not end the mount (kernel/bridge/connection.py).
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")


class WorkerThread:
    """Runs functions one at a time, always in the same thread, which SQLite connections need."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def do(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """The result of `work(*args)`; runs it to its end, also when cancelled."""
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
        """End the thread after the work that it has."""
        self._pool.shutdown(wait=False)


LONGEST_S = 600.0
"""After this time the guard ends the mount: programs that wait for the disk cannot be killed."""


class DiskWait:
    """Marks the writes of one thread, one at a time."""

    __slots__ = ("_since_s",)

    def __init__(self) -> None:
        self._since_s = 0.0

    def begins(self, now_s: float) -> None:
        """A write begins at this time of `perf_counter`."""
        self._since_s = now_s

    def ends(self) -> None:
        self._since_s = 0.0

    def is_active(self) -> bool:
        """Whether a write is under way; may be called from another thread."""
        since_s = self._since_s
        return since_s > 0 and perf_counter() - since_s < LONGEST_S


loop_waits = DiskWait()
"""The writes of the daemon's loop."""
