"""Writes the log of a mount point into files of limited size, which several processes may write at the same time.

Two daemons can have the same log: one that still sends after an unmount from outside, and the one of the next mount.

    NAME.log ─▶ full ─▶ NAME.log.1 ─▶ NAME.log.2 ─▶ deleted

Each line is one write to a descriptor in append mode. Who finds the file full renames it under a lock on the directory.
Everybody compares the file of the name with the open one before each line, and opens it again after a rename.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class LogFile(logging.Handler):
    """Writes to `path`, and keeps at most `files` files of about `max_bytes`."""

    def __init__(self, path: Path, *, max_bytes: int, files: int, stderr: int | None = None) -> None:
        """`stderr`: a descriptor that always leads to the newest file, for the output of libraries and helpers."""
        super().__init__()
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._stderr = stderr
        self._descriptor = -1
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record. One that cannot be formatted or written is lost: the caller has other work to do."""
        try:
            line = f"{self.format(record)}\n".encode("utf-8", "backslashreplace")
            self._follow_renames()
            if self._is_full(self._descriptor, len(line)):
                self._rotate(len(line))
            os.write(self._descriptor, line)
        except Exception:  # like every handler of logging: it must not fail its caller
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        with self.lock or contextlib.nullcontext():
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        super().close()

    def _open(self) -> None:
        opened = os.open(self._path, _FLAGS, 0o600)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = opened
        if self._stderr is not None:
            os.dup2(opened, self._stderr)

    def _follow_renames(self) -> None:
        """Open the file again if another process, or a person, has renamed or deleted it."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            self._open()
            return
        if not os.path.samestat(found, os.fstat(self._descriptor)):
            self._open()

    def _is_full(self, descriptor: int, more_bytes: int) -> bool:
        size_bytes = os.fstat(descriptor).st_size
        return size_bytes > 0 and size_bytes + more_bytes > self._max_bytes

    def _rotate(self, more_bytes: int) -> None:
        with self._exclusive():
            self._follow_renames()
            if self._is_full(self._descriptor, more_bytes):  # nobody was faster
                for number in range(self._files - 1, 0, -1):
                    with contextlib.suppress(FileNotFoundError):
                        rotated(self._path, number - 1).replace(rotated(self._path, number))
                self._open()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)


def rotated(path: Path, number: int) -> Path:
    """The file that was renamed `number` rotations ago; 0: the newest."""
    return path.with_name(f"{path.name}.{number}") if number else path
