"""Blocking work on the bytes of a staged file, in slices for a thread: write, read, copy and hash."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter

import trio

from procorefs.cache.chunk_cache import Chunk
from procorefs.cache.chunks import MIB
from procorefs.staging.missing_ranges import Range
from procorefs.storage.blocking_work import loop_waits

SLICE_BYTES = 64 * MIB
"""How much a thread does before it checks whether its caller was cancelled."""

_PIECE_BYTES = MIB
_MOST_RANGES = 1024
SLOW_WRITE_S = 0.1
"""A slower write means a slow disk: the kernel throttles a writer for up to 0.2 s; load alone seldom takes 0.1 s."""
_SLOW_FOR_S = 2.0
_SLOW_FACTOR = 20.0
"""A disk that stalled once stalls again: it counts as slow for this many times the duration of the write."""
_LONGEST_SLOW_S = 600.0
_FICLONE = 0x40049409
"""ioctl_ficlone(2)"""
_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE of fallocate(2)."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_NO_CLONES = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EPERM)


def read_now(descriptor: int, offset: int, size_bytes: int) -> bytearray | None:
    """The bytes if the kernel has all of them in memory, else None."""
    buffer = bytearray(size_bytes)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # it would block, or the filesystem cannot tell: read in a thread
        return None
    return buffer if count == size_bytes else None


def read(descriptor: int, offset: int, size_bytes: int) -> bytearray:
    """The bytes, fewer only at the end of the file. Raises OSError."""
    buffer = bytearray(size_bytes)
    view = memoryview(buffer)
    done = 0
    while done < size_bytes:
        count = os.preadv(descriptor, [view[done:]], offset + done)
        if count == 0:
            view.release()
            del buffer[done:]
            break
        done += count
    return buffer


def clone(source: int, target: int) -> bool:
    """Make `target` share all bytes of `source`; False: this filesystem cannot. Raises OSError."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONES:
            return False
        raise
    return True


def preallocate(descriptor: int, offset: int, size_bytes: int) -> None:
    """Allocate blocks beyond the file's end for the next writes; an error is ignored, the write itself reports it."""
    _LIBC.fallocate64(descriptor, _KEEP_SIZE, offset, size_bytes)


class Disk:
    """Writes, and detects a slow disk, for which the kernel makes each writer wait."""

    def __init__(self) -> None:
        self._slow_until_s = 0.0
        """By time.perf_counter."""

    @property
    def is_slow(self) -> bool:
        """Whether to write in a thread, because writes on the loop would block it again and again."""
        return perf_counter() < self._slow_until_s

    def is_slow_for(self, duration_s: float) -> None:
        """Count the disk as slow for so long from now on."""
        self._slow_until_s = perf_counter() + duration_s

    def write(self, descriptor: int, offset: int, data: Chunk) -> tuple[int, OSError | None]:
        """Write all of `data`; returns how many bytes are written, and the error that prevented the rest."""
        begun_s = perf_counter()
        done, error = 0, None
        try:
            done = os.pwrite(descriptor, data, offset)
            while done < len(data):
                done += os.pwrite(descriptor, memoryview(data)[done:], offset + done)
        except OSError as problem:
            error = problem
        took_s = perf_counter() - begun_s
        if took_s > SLOW_WRITE_S:
            self.is_slow_for(max(_SLOW_FOR_S, min(_SLOW_FACTOR * took_s, _LONGEST_SLOW_S)))
        return done, error

    def write_on_loop(self, descriptor: int, offset: int, data: Chunk) -> tuple[int, OSError | None]:
        """`write` on the loop; tells the guard that the loop waits for the disk and does not hang."""
        loop_waits.begins(perf_counter())
        try:
            return self.write(descriptor, offset, data)
        finally:
            loop_waits.ends()


def batches(ranges: Iterable[Range]) -> Iterator[list[Range]]:
    """Split ranges into lists of at most `_MOST_RANGES` ranges and about `SLICE_BYTES` bytes, in order."""
    batch: list[Range] = []
    size_bytes = 0
    for low, high in ranges:
        for start in range(low, high, SLICE_BYTES):
            batch.append((start, min(start + SLICE_BYTES, high)))
            size_bytes += batch[-1][1] - start
            if size_bytes >= SLICE_BYTES or len(batch) == _MOST_RANGES:
                yield batch
                batch, size_bytes = [], 0
    if batch:
        yield batch


def copy(source: int, target: int, ranges: Iterable[Range]) -> None:
    """Copy ranges without the holes in them. Raises OSError, and EOFError if the source ends too early."""
    for low, high in ranges:
        _copy_range(source, target, low, high)


def copy_all(source: int, target: int, size_bytes: int) -> None:
    """Copy the first bytes of a file to an empty one, by reflink if possible. Raises OSError."""
    if not clone(source, target):
        copy(source, target, [(0, size_bytes)])
    os.ftruncate(target, size_bytes)


def _copy_range(source: int, target: int, low: int, high: int) -> None:
    while low < high:
        try:
            start = os.lseek(source, low, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole up to the end
                return
            raise
        if start >= high:
            return
        low = min(os.lseek(source, start, os.SEEK_HOLE), high)
        _copy(source, target, start, low)


def _copy(source: int, target: int, low: int, high: int) -> None:
    while low < high:
        count = _copy_some(source, target, low, high - low)
        if count == 0:
            raise EOFError("a staged file became shorter while it was copied")
        low += count


def _copy_some(source: int, target: int, offset: int, size_bytes: int) -> int:
    try:
        return os.copy_file_range(source, target, size_bytes, offset, offset)
    except OSError as error:
        if error.errno not in _NO_CLONES:
            raise
    return os.pwrite(target, os.pread(source, min(size_bytes, _PIECE_BYTES), offset), offset)


class Hash:
    """A SHA-256 that is computed in several steps."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._buffer = memoryview(bytearray(_PIECE_BYTES))

    def feed(self, descriptor: int, low: int, high: int) -> None:
        """Add the bytes [low, high) of a file. Raises OSError, and EOFError if it ends too early."""
        while low < high:
            count = os.preadv(descriptor, [self._buffer[: high - low]], low)
            if count == 0:
                raise EOFError("a staged file became shorter while it was hashed")
            self._hash.update(self._buffer[:count])
            low += count

    def digest(self) -> bytes:
        return self._hash.digest()


def sync_filesystem(descriptor: int) -> None:
    """syncfs(2): bring everything written to the descriptor's filesystem to disk. Raises OSError."""
    if _LIBC.syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Remover:
    """Unlinks files in a separate thread, because each may take the disk a long time.

    Files that remain at the end are deleted at the next start.
    """

    def __init__(self) -> None:
        self._paths: deque[str] = deque()
        self._changed = threading.Condition()
        self._is_running = False

    def remove(self, path: str) -> None:
        """Unlink the file soon."""
        with self._changed:
            self._paths.append(path)
            if not self._is_running:
                self._is_running = True
                trio.lowlevel.start_thread_soon(self._run, lambda _: None, "staging-remover")

    def finish(self) -> None:
        """Wait until all files are unlinked; blocks."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_running)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._paths:
                    self._is_running = False
                    self._changed.notify_all()
                    return
                path = self._paths.popleft()
            with contextlib.suppress(OSError):
                Path(path).unlink()
