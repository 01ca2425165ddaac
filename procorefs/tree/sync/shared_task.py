"""Runs work that several tasks wait for: a second request for the same key waits for the same run."""

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import trio


@dataclass(slots=True)
class _Run:
    done: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


class SharedTask:
    """Runs at most one piece of work per key, in a nursery that outlives the tasks that wait.

    A waiter that is cancelled leaves the work and the other waiters alone; an Exception of the work reaches them all.
    """

    def __init__(self) -> None:
        self._runs: dict[Hashable, _Run] = {}

    def running(self, key: Hashable) -> bool:
        return key in self._runs

    async def join(self, nursery: trio.Nursery, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the work of that key, begun now unless it runs already; raises what it raised."""
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run()
            nursery.start_soon(self._work, key, run, work)
        await run.done.wait()
        if run.error is not None:
            raise run.error

    def excuse(self, wanted: Callable[[Hashable], bool]) -> None:
        """Let the tasks that wait for work of such a key continue; the work itself continues too."""
        for key in [key for key in self._runs if wanted(key)]:
            self._runs.pop(key).done.set()

    async def _work(self, key: Hashable, run: _Run, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:
            run.error = error
        finally:
            # No await: a request from here on starts another run.
            if self._runs.get(key) is run:
                del self._runs[key]
            run.done.set()
