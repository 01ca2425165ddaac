"""Creates empty staged files in advance, so that creating a file in the mount does not wait for the disk.

    take() ─▶ the number of an existing file ◀─ spares ◀─ a thread, while there are few

Creating an inode takes as long as all other work for a small new file, and sometimes ten times as long: ext4 skips each
inode that was deleted in the last minutes. No journal row names a spare file, so the next start deletes the spare files
that a killed daemon has left.
"""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

import trio

SPARE_FILES = 256
"""How many are created in advance."""

_FEW = SPARE_FILES // 2
_PLENTY = 64 * SPARE_FILES
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def make_file(path: str) -> int:
    """The descriptor of a new, empty file. Raises OSError."""
    return os.open(path, _FLAGS, 0o600)


class SpareFiles:
    """Spare files of one directory: the loop takes them, a thread creates more while there are few."""

    def __init__(self, directory: str, reserve: Callable[[int], int]) -> None:
        """`reserve(count)` reserves that many numbers and returns the first."""
        self._directory = directory
        self._reserve = reserve
        self._spares: deque[int] = deque()
        self._changed = threading.Condition()
        self._is_filling = False
        self._is_over = False
        """Closed, or the disk has no more inodes."""

    def take(self) -> int | None:
        """The number of a spare file, which the caller now owns; None: there is none, use `make_file`."""
        return self._spares.popleft() if self._spares else None

    def replenish(self) -> None:
        """Start a thread that creates more when there are few."""
        if len(self._spares) > _FEW or self._is_filling or self._is_over:
            return
        self._is_filling = True
        count = SPARE_FILES - len(self._spares)
        first = self._reserve(count)
        trio.lowlevel.start_thread_soon(
            lambda: self._fill(first, count), lambda _: None, "staging-spare-files"
        )

    def wait_filled(self) -> list[int]:
        """Block until no thread makes files; the numbers of the spare files."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_filling)
        return list(self._spares)

    def close(self) -> None:
        """Create no more, and delete the spare files; blocks."""
        self._is_over = True
        self.wait_filled()
        while self._spares:
            with contextlib.suppress(OSError):  # the next start deletes it
                Path(self._path(self._spares.popleft())).unlink()

    def _fill(self, first: int, count: int) -> None:
        made = 0
        with contextlib.suppress(OSError):  # a create without a spare file gets the same error and reports it
            if self._has_plenty_of_inodes():
                for number in range(first, first + count):
                    if self._is_over:
                        break
                    os.close(make_file(self._path(number)))
                    self._spares.append(number)
                    made += 1
        with self._changed:
            self._is_over = self._is_over or not made  # else each new file would try again
            self._is_filling = False
            self._changed.notify_all()

    def _has_plenty_of_inodes(self) -> bool:
        """Whether the filesystem has inodes to spare; one that creates them on demand reports 0 in all."""
        found = os.statvfs(self._directory)
        return found.f_files == 0 or found.f_favail >= _PLENTY

    def _path(self, number: int) -> str:
        return f"{self._directory}/{number}"
