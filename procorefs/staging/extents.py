"""Which ranges of a staged file still lie in its base alone: sorted, disjoint, and never growing again."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]
"""[low, high), never empty."""


class Extents:
    """Byte ranges that are cut away piece by piece, in the time that a search among them takes."""

    __slots__ = ("_highs", "_lows", "total")

    def __init__(self, ranges: Iterable[Range]) -> None:
        pairs = list(ranges)
        self._lows = [low for low, _ in pairs]
        self._highs = [high for _, high in pairs]
        self.total = sum(self._highs) - sum(self._lows)  # bytes in all ranges

    def __iter__(self) -> Iterator[Range]:
        return zip(self._lows, self._highs, strict=True)

    def within(self, low: int, high: int) -> list[Range]:
        """The parts of [low, high) that are in here, in order."""
        first, last = self._touched(low, high)
        return [(max(low, self._lows[index]), min(high, self._highs[index])) for index in range(first, last)]

    def next(self, low: int, high: int) -> Range | None:
        """The first part of [low, high) that is in here."""
        first, last = self._touched(low, high)
        if first >= last:
            return None
        return max(low, self._lows[first]), min(high, self._highs[first])

    def overlap(self, low: int, high: int) -> int:
        """How many bytes of [low, high) are in here."""
        return sum(stop - start for start, stop in self.within(low, high))

    def cut(self, low: int, high: int) -> None:
        """Take [low, high) out."""
        first, last = self._touched(low, high)
        if first >= last or low >= high:
            return
        self.total -= self.overlap(low, high)
        start, stop = self._lows[first], self._highs[last - 1]
        rest = [part for part in ((start, low), (high, stop)) if part[0] < part[1]]
        self._lows[first:last] = [part[0] for part in rest]
        self._highs[first:last] = [part[1] for part in rest]

    def _touched(self, low: int, high: int) -> Range:
        """The indexes of the ranges that share a byte with [low, high); the first not below the second: none."""
        return bisect_right(self._highs, low), bisect_left(self._lows, high)
