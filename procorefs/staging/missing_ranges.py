"""Tracks which ranges of a staged file still lie in its base version alone: in memory, and in a log beside the file.

    journal's row: what was missing then  ─ less what the log has since ─▶  what is missing now

Only a file over a base version has a log, and only until nothing is missing. An entry is written after its bytes, so
after a crash the log is right; after a power cut it may not be, and such a file is shown as incomplete anyway.
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


class ExtentLog:
    """Notes ranges, and brings the notes to their file, while the staged file is held."""

    __slots__ = ("_at", "_end", "_fd", "_waiting", "path")

    def __init__(self, path: str, size_bytes: int = 0) -> None:
        """`size_bytes`: of the entries that are there already."""
        self.path = path
        self._fd = -1
        self._at = size_bytes  # where the waiting entries belong
        self._waiting = bytearray()
        self._end = -1  # of the last range: one that adjoins it makes it longer

    @property
    def waits(self) -> bool:
        """Whether there are notes that are not in the file."""
        return bool(self._waiting)

    def add(self, low: int, high: int) -> None:
        """Note that [low, high) is there."""
        if low != self._end:
            self._waiting += _ENTRY.pack(low, high)
        else:
            if not self._waiting:
                self._at -= _ENTRY.size
                self._waiting += os.pread(self._fd, _ENTRY.size, self._at)
            _HIGH.pack_into(self._waiting, len(self._waiting) - _HIGH.size, high)
        self._end = high

    def bring(self) -> None:
        """Write what waits; what the disk does not take waits on: a full one most likely refuses the bytes as well."""
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, _FLAGS | (0 if self._at else os.O_TRUNC), 0o600)
            if os.pwrite(self._fd, self._waiting, self._at) == len(self._waiting):
                self._at += len(self._waiting)
                self._waiting.clear()
        except OSError as error:
            log.debug("%s could not be written: %s", self.path, error)

    def close(self) -> None:
        """Nobody holds the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._end = -1, -1


def read(path: str) -> list[Range]:
    """What was noted, none when there is no such list. Raises OSError."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    return list(_ENTRY.iter_unpack(data[: len(data) // _ENTRY.size * _ENTRY.size]))


def still_missing(missing: tuple[Range, ...], noted: list[Range], size_bytes: int) -> tuple[Range, ...]:
    """What is left of the ranges in a file of so many bytes."""
    left = Extents(missing)
    for low, high in noted:
        left.cut(low, high)
    return tuple(left.within(0, size_bytes))
