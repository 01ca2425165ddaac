"""Who owns a project's state: one daemon at a time, by a lock that dies with it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from procorefs.config.failure import Failure

_LOCK = "owner"


class AlreadyMounted(Failure):
    """Another daemon of this user has the same project mounted."""


@contextmanager
def owned(state_dir: Path, mountpoint: Path) -> Iterator[None]:
    """Own the state directory as long as the context lasts. Raises AlreadyMounted, which names the other mount."""
    descriptor = os.open(state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.read(descriptor, os.pathconf("/", "PC_PATH_MAX")).decode("utf-8", "replace")
            raise AlreadyMounted(
                f"The project is mounted at {other or 'another place'} already: use it there, or unmount it first."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, bytes(mountpoint), 0)
        yield
    finally:
        os.close(descriptor)
