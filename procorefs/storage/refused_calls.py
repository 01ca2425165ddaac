"""Keeps the last refused requests of programs and their reasons for `status`, because programs show only an errno."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from procorefs.storage import clocks

KEPT = 20


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """One refused request."""

    path: str
    reason: str
    at_s: float
    """Wall time, Unix seconds."""

    @property
    def sentence(self) -> str:
        """What was refused, and why."""
        return f"{self.path}: {self.reason}"


class RefusedCalls:
    """The last twenty, newest first; a repeated reason for the same path only moves to the front."""

    def __init__(self) -> None:
        self._kept: deque[RefusedCall] = deque(maxlen=KEPT)

    def add(self, path: str, reason: str) -> None:
        for known in self._kept:
            if (known.path, known.reason) == (path, reason):
                self._kept.remove(known)
                break
        self._kept.appendleft(RefusedCall(path, reason, clocks.wall_s()))

    def __iter__(self) -> Iterator[RefusedCall]:
        return iter(self._kept)
