"""Locks the state of a project for one daemon, with a file lock that ends with the process.

A daemon that sends without a mount point (daemon.py) keeps the lock. A new mount of the project asks it to end, and
continues with its journal.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from procorefs.service.control_socket import ControlError, StopRequest, ask
from procorefs.storage.failures import UNDECODABLE, Failure
from procorefs.storage.printable import shell_word
from procorefs.storage.private_files import open_lock_file

_LOCK = "owner"
_BYTES = 16 << 10
"""Enough for two paths."""

_END_S = 15.0
"""A daemon ends within ten seconds of a stop request."""

_ASK_S = 0.2


class Owner(msgspec.Struct, frozen=True):
    """The content of the lock file: which daemon holds the lock."""

    mountpoint: str
    pid: int = 0
    detached_socket: str = ""
    """The socket for a stop request; empty while the daemon is mounted."""


class AlreadyMounted(Failure):
    """Another daemon of this user has the same project mounted."""


class StateLock:
    """The lock on a project's state, held."""

    def __init__(self, descriptor: int, mountpoint: Path) -> None:
        self._descriptor = descriptor
        self._mountpoint = mountpoint
        self._write("")

    def detached(self, socket: Path) -> None:
        """Record that the mount point is gone, and where a new mount asks this daemon to end."""
        self._write(str(socket))

    def _write(self, detached_socket: str) -> None:
        text = msgspec.json.encode(Owner(str(self._mountpoint), os.getpid(), detached_socket))
        # The length is fixed, so a reader sees the old or the new text and never a mix.
        os.pwrite(self._descriptor, text.ljust(_BYTES), 0)
        os.ftruncate(self._descriptor, _BYTES)


@contextmanager
def locked_state(state_dir: Path, mountpoint: Path) -> Iterator[StateLock]:
    """Hold the lock for the block of a `with`. Raises AlreadyMounted, which names the other mount."""
    descriptor = _open(state_dir)
    try:
        if not _lock(descriptor):
            other = _owner(descriptor)
            raise AlreadyMounted(_refusal(other))
        yield StateLock(descriptor, mountpoint)
    finally:
        os.close(descriptor)


def end_detached_owner(state_dir: Path) -> None:
    """If a daemon without a mount point holds the lock, end it. Blocks until it has ended, for at most 15 s.

    Also waits for a killed daemon: it holds the lock until the last of its threads has left the kernel.
    """
    descriptor = _open(state_dir)
    try:
        deadline = time.monotonic() + _END_S
        while not _lock(descriptor) and time.monotonic() < deadline:
            owner = _owner(descriptor)
            if owner.detached_socket:
                with contextlib.suppress(ControlError):
                    ask(Path(owner.detached_socket), StopRequest(), type(None), timeout_s=_ASK_S)
            elif not _is_ending(owner.pid):
                return
            time.sleep(_ASK_S)
    finally:
        os.close(descriptor)


def _is_ending(pid: int) -> bool:
    """Whether the main thread has ended and others may still run: state Z or X of proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return False


def _open(state_dir: Path) -> int:
    return open_lock_file(state_dir / _LOCK)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> Owner:
    text = os.pread(descriptor, _BYTES, 0)
    try:
        return msgspec.json.decode(text, type=Owner)
    except UNDECODABLE:
        return Owner(text.decode("utf-8", "replace"))  # earlier versions wrote only the mount point


def _refusal(other: Owner) -> str:
    if other.detached_socket:
        return (
            f"the daemon that sends what was left at {other.mountpoint} (process {other.pid}) does not end: "
            f"run `procorefs umount --now {shell_word(other.mountpoint)}`"
        )
    if not other.mountpoint:
        return "the project is already mounted at another directory; `procorefs status` lists the mounts"
    return (
        f"the project is already mounted at {other.mountpoint}; use it there, "
        f"or run `procorefs umount {shell_word(other.mountpoint)}` first"
    )
