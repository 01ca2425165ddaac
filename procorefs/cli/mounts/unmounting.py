"""Unmounts a FUSE mount, with fusermount3 or as root."""

import ctypes
import errno
import os
import subprocess
from pathlib import Path

from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.storage.processes import child_environment

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_TIMEOUT_S = 10.0
_FUSERMOUNT_SAYS = {b"busy": errno.EBUSY, b"not found in": errno.EPERM, b"not permitted": errno.EPERM}
"""fusermount3 has only one failure status; for another user's mount it prints "not found in /etc/mtab"."""


def unmount(mountpoint: Path, *, lazy: bool) -> int:
    """Unmount; returns 0 or an errno: EBUSY if it is in use, EPERM if this user may not unmount it, ETIMEDOUT.

    EIO: fusermount3 failed for another reason, such as a missing /etc/mtab. `lazy` detaches a mount in use, for a mount
    whose daemon is dead.
    """
    if os.geteuid() == 0:
        result = errno_of(lambda: _umount2(mountpoint, lazy), _TIMEOUT_S)
        if result != errno.EPERM:
            return result
    return errno_of(lambda: _fusermount(mountpoint, lazy), _TIMEOUT_S)


def fusermount() -> str | None:
    """The path of fusermount3, which mounts and unmounts for users, or None. mount(8) runs its helpers without PATH."""
    from shutil import which

    return which("fusermount3", path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/local/bin")


def _umount2(mountpoint: Path, lazy: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _fusermount(mountpoint: Path, lazy: bool) -> None:
    helper = fusermount()
    if helper is None:
        raise OSError(errno.ENOENT, "fusermount3 is missing")
    command = [helper, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    done = subprocess.run(
        command, capture_output=True, check=False, env={**child_environment(), "LC_ALL": "C"}
    )
    if done.returncode != 0:
        number = next(
            (number for words, number in _FUSERMOUNT_SAYS.items() if words in done.stderr), errno.EIO
        )
        raise OSError(number, os.strerror(number))
