"""Reads and writes chunk files, reading on the loop only what the kernel has in memory.

What the kernel has in memory is read at once (openat2 with RESOLVE_CACHED, preadv2 with RWF_NOWAIT: openat2(2),
preadv2(2)); for everything else the caller goes to a thread.
"""

import contextlib
import ctypes
import errno
import os
import zlib
from pathlib import Path

_SYS_OPENAT2 = 437
"""The same on all architectures."""

_RESOLVE_CACHED = 0x20
"""Linux 5.12."""

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class DamagedChunk(Exception):
    """The file is not there, or is not the chunk that was stored."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class CachedOpen:
    """Opens files whose names the kernel has in memory; on an old kernel or in a strict sandbox, none."""

    def __init__(self) -> None:
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long
        self._how = _OpenHow(_FLAGS, 0, _RESOLVE_CACHED)
        self._works = True

    def open(self, path: str) -> int | None:
        """A descriptor, or None: it cannot be opened without waiting. Raises FileNotFoundError."""
        if not self._works:
            return None
        descriptor = self._syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_int(-100),
            ctypes.c_char_p(os.fsencode(path)),
            ctypes.byref(self._how),
            ctypes.c_size_t(ctypes.sizeof(self._how)),
        )
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code == errno.ENOENT:
            raise FileNotFoundError(code, os.strerror(code), path)
        if code in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
            self._works = False
        return None


class ChunkFile:
    """One chunk file, open; `users` keeps the descriptor while threads read from it."""

    __slots__ = ("_dropped", "_fd", "_length", "_users")

    def __init__(self, descriptor: int, length: int) -> None:
        self._fd = descriptor
        self._length = length
        self._users = 0
        self._dropped = False

    @classmethod
    def open(cls, path: str, length: int, checksum: int | None) -> "ChunkFile":
        """Open and check a chunk; blocks. Raises DamagedChunk, OSError.

        `checksum` None: this process wrote it, its bytes need no check.
        """
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            raise DamagedChunk(f"{path} is missing") from None
        try:
            _check_length(descriptor, path, length)
            if checksum is not None and zlib.crc32(_pread(descriptor, 0, length)) != checksum:
                raise DamagedChunk(f"{path} has other bytes than were stored")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, length)

    def read_now(self, low: int, high: int) -> bytearray | None:
        """The bytes [low, high) if they are in memory, else None."""
        buffer = bytearray(high - low)
        try:
            count = os.preadv(self._fd, [buffer], low, os.RWF_NOWAIT)
        except OSError:  # would block, or the filesystem cannot tell: a thread reads it
            return None
        return buffer if count == high - low else None

    def read(self, low: int, high: int) -> bytearray:
        """The bytes [low, high); blocks. Raises DamagedChunk, OSError."""
        return _pread(self._fd, low, high)

    def hold(self) -> None:
        """Keep the descriptor open until `release`."""
        self._users += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._users -= 1
        self._close_if_done()

    @property
    def is_held(self) -> bool:
        """Whether a thread reads from it."""
        return self._users > 0

    def drop(self) -> None:
        """Close when no thread reads from it."""
        self._dropped = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._dropped and self._users == 0 and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_small_now(opener: CachedOpen, path: str, length: int, checksum: int | None) -> bytearray | None:
    """A whole small chunk if it can be had without waiting, else None. Raises DamagedChunk."""
    try:
        descriptor = opener.open(path)
        if descriptor is None:
            return None
        try:
            buffer = bytearray(length + 1)  # one more, to see that the file ends where it must
            count = os.preadv(descriptor, [buffer], 0, os.RWF_NOWAIT)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise DamagedChunk(f"{path} is missing") from None
    except OSError:
        return None
    if count != length:
        return None  # partly in memory, or damaged: a thread reads it
    del buffer[length:]
    if checksum is not None and zlib.crc32(buffer) != checksum:
        raise DamagedChunk(f"{path} has other bytes than were stored")
    return buffer


def _check_length(descriptor: int, path: str, length: int) -> None:
    found = os.fstat(descriptor).st_size
    if found != length:
        raise DamagedChunk(f"{path} has {found} bytes and not {length}")


def _pread(descriptor: int, low: int, high: int) -> bytearray:
    buffer = bytearray(high - low)
    view = memoryview(buffer)
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [view[done:]], low + done)
        if count == 0:
            raise DamagedChunk("a chunk file became shorter")
        done += count
    return buffer


def write_chunk(path: Path, data: bytes | bytearray | memoryview) -> None:
    """Write a whole chunk file, 0600; blocks. Raises OSError and then leaves no file behind."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)
