"""How far ahead of a reader to download: as far again as it has read in one go."""

from procorefs.cache.chunks import MIB

SLACK_BYTES = MIB  # the kernel reads ahead in parallel and slightly out of order: this is still "in one go"


class ReadAhead:
    """One reader's pattern. A seek starts it over, so a sniff or random access downloads little more than asked."""

    __slots__ = ("covered", "frontier", "run_bytes")

    def __init__(self) -> None:
        self.frontier = 0  # the end of what was read in one go
        self.run_bytes = 0  # how much that was
        self.covered = 0  # up to here everything was cached or asked for when we last looked

    def note(self, offset: int, end: int) -> None:
        """Take a read of [offset, end) into account."""
        frontier = self.frontier
        if not frontier - SLACK_BYTES <= offset <= frontier + SLACK_BYTES:
            self.frontier = self.covered = end
            self.run_bytes = 0
        elif end > frontier:
            self.run_bytes += end - frontier  # a gap counts: whoever is to fill it is late
            self.frontier = end

    def window(self, limit_bytes: int) -> int:
        """How many bytes ahead of the frontier are wanted."""
        return min(self.run_bytes, limit_bytes)

    def is_due(self, limit_bytes: int) -> bool:
        """Whether less than half of the window is covered, so that one request fills a good part of it."""
        return self.frontier + self.window(limit_bytes) // 2 >= self.covered
