"""Tracks which ranges of a staged file exist only in its base version: in memory, and in a log beside the file.

    ranges missing in the journal's row  ─ minus the ranges in the log ─▶  ranges missing now

Only a file with a base version has a log, until no range is missing. An entry is written after its bytes, so the log is
correct after a crash. It may be wrong after a power cut, and such a file is shown as incomplete in any case.
"""

import logging
import os
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

SUFFIX = ".extents"

_ENTRY = struct.Struct("<QQ")
_HIGH = struct.Struct("<Q")
ENTRY_BYTES = _ENTRY.size
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


Range = tuple[int, int]
"""[low, high), never empty."""


class Extents:
    """Byte ranges that become fewer; a change costs one binary search."""

    __slots__ = ("_highs", "_lows", "total")

    def __init__(self, ranges: Iterable[Range]) -> None:
        pairs = list(ranges)
        self._lows = [low for low, _ in pairs]
        self._highs = [high for _, high in pairs]
        self.total = sum(self._highs) - sum(self._lows)
        """Bytes in all ranges."""

    def __iter__(self) -> Iterator[Range]:
        return zip(self._lows, self._highs, strict=True)

    def within(self, low: int, high: int) -> list[Range]:
        """The parts of [low, high) that are in the set, in order."""
        first, last = self._touched(low, high)
        return [(max(low, self._lows[index]), min(high, self._highs[index])) for index in range(first, last)]

    def next(self, low: int, high: int) -> Range | None:
        """The first part of [low, high) that is in the set."""
        first, last = self._touched(low, high)
        if first >= last:
            return None
        return max(low, self._lows[first]), min(high, self._highs[first])

    def overlap(self, low: int, high: int) -> int:
        """How many bytes of [low, high) are in the set."""
        return sum(stop - start for start, stop in self.within(low, high))

    def cut(self, low: int, high: int) -> None:
        """Remove [low, high) from the set."""
        first, last = self._touched(low, high)
        if first >= last or low >= high:
            return
        self.total -= self.overlap(low, high)
        start, stop = self._lows[first], self._highs[last - 1]
        rest = [part for part in ((start, low), (high, stop)) if part[0] < part[1]]
        self._lows[first:last] = [part[0] for part in rest]
        self._highs[first:last] = [part[1] for part in rest]

    def _touched(self, low: int, high: int) -> Range:
        """First index, and index after the last, of the ranges that overlap [low, high); first >= last: none."""
        return bisect_right(self._highs, low), bisect_left(self._lows, high)


class ExtentLog:
    """The log of ranges that are no longer missing; open while the staged file is held."""

    __slots__ = ("_end", "_fd", "_offset", "_unwritten", "path")

    def __init__(self, path: str, size_bytes: int = 0) -> None:
        """`size_bytes`: the size of the existing entries."""
        self.path = path
        self._fd = -1
        self._offset = size_bytes
        """Where the unwritten entries go in the file."""
        self._unwritten = bytearray()
        self._end = -1
        """The end of the last range; an adjoining range extends it."""

    @property
    def has_unwritten(self) -> bool:
        """Whether there are entries that are not in the file yet."""
        return bool(self._unwritten)

    def add(self, low: int, high: int) -> None:
        """Add an entry for [low, high)."""
        if low != self._end:
            self._unwritten += _ENTRY.pack(low, high)
        else:
            if not self._unwritten:
                self._offset -= _ENTRY.size
                self._unwritten += os.pread(self._fd, _ENTRY.size, self._offset)
            _HIGH.pack_into(self._unwritten, len(self._unwritten) - _HIGH.size, high)
        self._end = high

    def write(self) -> None:
        """Write the unwritten entries; keep them after an error: a full disk most likely refuses the bytes too."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, _FLAGS | (0 if self._offset else os.O_TRUNC), 0o600)
            if os.pwrite(self._fd, self._unwritten, self._offset) == len(self._unwritten):
                self._offset += len(self._unwritten)
                self._unwritten.clear()
        except OSError as error:
            log.debug("%s could not be written: %s", self.path, error)

    def close(self) -> None:
        """Close the log: the staged file has no holder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._end = -1, -1


def read(path: str) -> list[Range]:
    """The entries of a log; none if there is no log. Raises OSError."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    return list(_ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]))


def still_missing(missing: tuple[Range, ...], logged: list[Range], size_bytes: int) -> tuple[Range, ...]:
    """The ranges in a file of `size_bytes` that are missing and not in the log."""
    left = Extents(missing)
    for low, high in logged:
        left.cut(low, high)
    return tuple(left.within(0, size_bytes))
