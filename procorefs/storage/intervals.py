"""A set of byte ranges: records which bytes are present, as a sorted list of disjoint half-open intervals."""


class Intervals:
    """A set of byte positions that mostly grows at one end."""

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []
        """Sorted; at least one byte is missing between two neighbours."""

    def add(self, low: int, high: int) -> None:
        """Add [low, high)."""
        if low >= high:
            return
        spans = self._spans
        first = 0
        while first < len(spans) and spans[first][1] < low:
            first += 1
        last = first
        while last < len(spans) and spans[last][0] <= high:
            low, high = min(low, spans[last][0]), max(high, spans[last][1])
            last += 1
        spans[first:last] = [(low, high)]

    def covers(self, low: int, high: int) -> bool:
        """Whether the set contains all of [low, high)."""
        return any(start <= low and high <= stop for start, stop in self._spans)

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The intervals, in order."""
        return tuple(self._spans)

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of [low, high) that are not in the set, in order."""
        missing = []
        for start, stop in self._spans:
            if stop <= low:
                continue
            if start >= high:
                break
            if low < start:
                missing.append((low, start))
            low = stop
        if low < high:
            missing.append((low, high))
        return missing
