"""Creates empty staged files in advance, so that creating a file in the mount does not wait for the disk.

    take() ─▶ the number of a file that is there ◀─ spares ◀─ a thread, while there are few

Making an inode costs a filesystem as much as all else that is done for a small new file, at times ten times as much:
ext4 passes over each that was deleted in the last minutes. No journal row names a spare file, so those that a killed
daemon leaves behind are swept at the next start, as everything that is not named.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

SPARE_FILES = 256
"""How many are made ahead."""

_FEW = SPARE_FILES // 2
_PLENTY = 64 * SPARE_FILES
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def make_file(path: str) -> int:
    """The descriptor of a new, empty file. Raises OSError."""
    return os.open(path, _FLAGS, 0o600)


class SpareFiles:
    """Spare files of one directory: taken on one loop, filled up by a thread that lives while there are few."""

    def __init__(self, directory: str, reserve: Callable[[int], int]) -> None:
        """`reserve(count)` gives the first of so many numbers that nobody else gets."""
        self._directory = directory
        self._reserve = reserve
        self._spares: deque[int] = deque()
        self._moved = threading.Condition()
        self._is_filling = False
        self._is_over = False  # closed, or the disk has none to give

    def take(self) -> int | None:
        """The number of a spare file, the caller's from now on; None: there is none, and he makes one himself."""
        return self._spares.popleft() if self._spares else None

    def replenish(self) -> None:
        """Have more made when there are few."""
        if len(self._spares) > _FEW or self._is_filling or self._is_over:
            return
        self._is_filling = True
        count = SPARE_FILES - len(self._spares)
        first = self._reserve(count)
        trio.lowlevel.start_thread_soon(
            lambda: self._fill(first, count), lambda _: None, "staging-spare-files"
        )

    def close(self) -> None:
        """Nothing is made any more; blocks until the spare files are gone."""
        self._is_over = True
        with self._moved:
            self._moved.wait_for(lambda: not self._is_filling)
        while self._spares:
            with contextlib.suppress(OSError):  # it is swept at the next start
                Path(self._path(self._spares.popleft())).unlink()

    def _fill(self, first: int, count: int) -> None:
        made = 0
        with contextlib.suppress(OSError):  # who finds no spare file meets the same error, and reports it
            if self._has_plenty_of_inodes():
                for number in range(first, first + count):
                    if self._is_over:
                        break
                    os.close(make_file(self._path(number)))
                    self._spares.append(number)
                    made += 1
        with self._moved:
            self._is_over = self._is_over or not made  # else each new file would try it again
            self._is_filling = False
            self._moved.notify_all()

    def _has_plenty_of_inodes(self) -> bool:
        """Whether the filesystem does not miss those of spare files; one that makes them as needed tells no number."""
        found = os.statvfs(self._directory)
        return found.f_files == 0 or found.f_favail >= _PLENTY

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number}"
