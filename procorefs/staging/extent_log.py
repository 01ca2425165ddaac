"""Which bytes of a staged file are not missing any more: a list beside it, so that a killed daemon leaves no doubt.

    journal's row: what was missing then  ─ less what was noted since ─▶  what is missing now

Only a file that was laid over a version has one, and only until nothing is missing. An entry is written after its
bytes, so what it names is there; after a power cut it may not be, and such a file is shown as incomplete anyway.
"""

import logging
import os
import struct
from pathlib import Path

from procorefs.staging.extents import Extents, Range

log = logging.getLogger(__name__)

SUFFIX = ".extents"

_ENTRY = struct.Struct("<QQ")
_HIGH = struct.Struct("<Q")
ENTRY_BYTES = _ENTRY.size
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


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
