"""Locks the state of a project: one daemon at a time owns it, by a file lock that ends with the process.

A daemon whose mount point was taken away goes on sending (daemon.py) and owns the state as long as it does. Whoever
mounts the project asks it to end, and goes on with its journal.
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
from procorefs.storage.failures import Failure
from procorefs.storage.private_files import open_lock_file

_LOCK = "owner"
_BYTES = 16 << 10
"""More than two paths have."""

_END_S = 15.0
"""A daemon that is told to stop ends within ten seconds."""

_ASK_S = 0.2


class Owner(msgspec.Struct, frozen=True):
    """What the owner's file says of the daemon that holds the lock."""

    mountpoint: str
    pid: int = 0
    detached_socket: str = ""
    """Where it is asked to end; empty while it is mounted."""


class AlreadyMounted(Failure):
    """Another daemon of this user has the same project mounted."""


class StateLock:
    """The lock on a project's state, held."""

    def __init__(self, descriptor: int, mountpoint: Path) -> None:
        self._descriptor = descriptor
        self._mountpoint = mountpoint
        self._write("")

    def detached(self, socket: Path) -> None:
        """The mount point is gone: whoever mounts the project may have this daemon end, by asking there."""
        self._write(str(socket))

    def _write(self, detached_socket: str) -> None:
        text = msgspec.json.encode(Owner(str(self._mountpoint), os.getpid(), detached_socket))
        # always as long: a reader finds the one text or the other, and never the end of both
        os.pwrite(self._descriptor, text.ljust(_BYTES), 0)
        os.ftruncate(self._descriptor, _BYTES)


@contextmanager
def owned(state_dir: Path, mountpoint: Path) -> Iterator[StateLock]:
    """Own the state directory as long as the context lasts. Raises AlreadyMounted, which names the other mount."""
    descriptor = _open(state_dir)
    try:
        if not _lock(descriptor):
            other = _owner(descriptor)
            raise AlreadyMounted(_refusal(other))
        yield StateLock(descriptor, mountpoint)
    finally:
        os.close(descriptor)


def take_over(state_dir: Path) -> None:
    """Have a daemon end that owns the state and is not mounted any more. Blocks until it has, for 15 s at most."""
    descriptor = _open(state_dir)
    try:
        deadline = time.monotonic() + _END_S
        while not _lock(descriptor) and time.monotonic() < deadline:
            owner = _owner(descriptor)
            if not owner.detached_socket:
                return
            with contextlib.suppress(ControlError):
                ask(Path(owner.detached_socket), StopRequest(), type(None), timeout_s=_ASK_S)
            time.sleep(_ASK_S)
    finally:
        os.close(descriptor)


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
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Owner(text.decode("utf-8", "replace"))  # as earlier versions wrote it: the mount point alone


def _refusal(other: Owner) -> str:
    if other.detached_socket:
        return (
            f"The daemon that sends what was left at {other.mountpoint} (process {other.pid}) does not end: "
            f"run `procorefs umount --now {other.mountpoint}`."
        )
    place = other.mountpoint or "another place"
    return f"The project is mounted at {place} already: use it there, or unmount it first."
