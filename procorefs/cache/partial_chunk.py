"""Holds a chunk while it is downloaded: the request that brings it, the readers that wait for it, what has arrived."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from procorefs.cache.chunks import block_at, block_start, block_stop
from procorefs.storage.intervals import Intervals


@dataclass(slots=True, eq=False)
class Stream:
    """One running request: [position, end) is still to come. Others may lower `end`."""

    position: int
    end: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    has_begun: bool = False
    """A byte has come."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A reader that waits for [low, high), which lies in one chunk. Ready with data, error, or neither: look again."""

    low: int
    high: int
    ready: trio.Event = field(default_factory=trio.Event)
    data: memoryview | None = None
    error: Exception | None = None


class PartialChunk:
    """A chunk that is being downloaded. Each byte is written once, so readers get slices of what is there."""

    __slots__ = ("buffer", "spans", "start", "stop", "view")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.buffer = bytearray(stop - start)
        self.view = memoryview(self.buffer)
        self.spans = Intervals()
        """Offsets in the version."""

    def slice(self, low: int, high: int) -> memoryview | None:
        if not self.spans.covers(low, high):
            return None
        return self.view[low - self.start : high - self.start].toreadonly()

    def whole_blocks(self, size_bytes: int) -> Iterator[tuple[int, bytes]]:
        """The blocks that are here completely, copied: their numbers and bytes; in a version of `size_bytes`."""
        for low, high in self.spans.ranges():
            for number in range(block_at(low), block_at(high - 1) + 1):
                start, stop = block_start(number), block_stop(number, size_bytes)
                if low <= start and stop <= high:
                    yield number, bytes(self.view[start - self.start : stop - self.start])


def without(gap: tuple[int, int], low: int, high: int) -> list[tuple[int, int]]:
    """A range less [low, high)."""
    start, stop = gap
    if high <= start or stop <= low:
        return [gap]
    return [part for part in ((start, low), (high, stop)) if part[0] < part[1]]
