"""A bound on the bytes that downloads hold in memory: who wants more waits in line."""

from collections import deque

import trio

from procorefs.cache.chunks import SNIFF_BYTES


class MemoryBudget:
    """So many bytes may be held at once; waiting is first come, first served, and cancellable.

    A holder never waits for more while what it holds cannot be finished, so the line always moves.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._line: deque[tuple[int, trio.Event]] = deque()

    async def acquire(self, size_bytes: int) -> None:
        """Take `size_bytes`. What is as small as a sniff goes ahead of the line: it must not wait for big files."""
        if size_bytes <= SNIFF_BYTES or (not self._line and self._fits(size_bytes)):
            self.held_bytes += size_bytes
            return
        place = (size_bytes, trio.Event())
        self._line.append(place)
        try:
            await place[1].wait()
        except trio.Cancelled:
            if place[1].is_set():
                self.release(size_bytes)
            else:
                self._line.remove(place)
                self._serve()
            raise

    def release(self, size_bytes: int) -> None:
        """Give back what was taken."""
        self.held_bytes -= size_bytes
        self._serve()

    def _serve(self) -> None:
        while self._line and self._fits(self._line[0][0]):
            size_bytes, ready = self._line.popleft()
            self.held_bytes += size_bytes
            ready.set()

    def _fits(self, size_bytes: int) -> bool:
        return self.held_bytes == 0 or self.held_bytes + size_bytes <= self.limit_bytes
