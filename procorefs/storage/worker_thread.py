"""One thread that does blocking work in order, for loop code that waits for it."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
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
