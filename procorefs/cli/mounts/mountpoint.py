"""Checks the mount point: waits for a daemon that is closing, and unmounts a dead one."""

import errno
import os
import time
from pathlib import Path

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.cli.mounts.locate import locate
from procorefs.cli.mounts.processes import wait_for_end
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.mounts.unmounting import fusermount, unmount
from procorefs.config import Failure, MountOptions, Paths
from procorefs.service.control_socket import ControlError, NotListening, StatusRequest, ask
from procorefs.service.status import MountStatus
from procorefs.storage.mountinfo import Mount, mount_at, read_mounts

_CLOSING_S = 15.0
"""A closing daemon ends within 10 s."""
_PROBE_S = 3.0
_DEAD = (errno.ENOTCONN, errno.ECONNABORTED)

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")


class MountRefused(Failure):
    """The mount point, or this machine, does not allow it."""


def ready_mountpoint(path: Path, paths: Paths) -> Path:
    """The absolute mount point, free to be mounted on. Raises MountRefused."""
    mountpoint = locate(path, read_mounts())
    deadline = time.monotonic() + _CLOSING_S
    while (entry := registry.find(mountpoint, paths)) is not None:
        _wait_for_closing(entry, mountpoint, deadline)
    while (mount := mount_at(mountpoint, read_mounts())) is not None and mount.is_fuse:
        _clean_up_dead(mount)
    _check_directory(mountpoint)
    return mountpoint


def wait_for_closing_owner(api_url: str, company_id: int, project_id: int, paths: Paths) -> None:
    """Wait for a daemon of the same project that is just closing: its state can be taken over then."""
    wanted = (api_url, company_id, project_id)
    deadline = time.monotonic() + _CLOSING_S
    while time.monotonic() < deadline:
        same = (
            entry
            for entry in registry.running(paths)
            if (entry.api_url, entry.company_id, entry.project_id) == wanted and entry.pid != os.getpid()
        )
        closing = next((entry for entry in same if _is_closing(entry)), None)
        if closing is None:
            return
        wait_for_end(closing.pid, closing.born, 0.1)


def check_fuse(options: MountOptions) -> None:
    """Raise MountRefused when this machine or account cannot mount."""
    try:
        os.close(os.open(FUSE_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        raise MountRefused(
            f"{FUSE_DEVICE} is missing; load the kernel module (`modprobe fuse`) or give the container the device"
        ) from error
    except OSError as error:
        raise MountRefused(
            f"{FUSE_DEVICE} cannot be opened ({error.strerror}); ask the administrator for access to FUSE"
        ) from error
    if os.geteuid() == 0:
        return
    if fusermount() is None:
        raise MountRefused("fusermount3 is missing; install the package fuse3")
    if options.allow_other and not _others_allowed():
        raise MountRefused(f"allow_other needs the line user_allow_other in {FUSE_CONF}; root can add it")


def _wait_for_closing(entry: Entry, mountpoint: Path, deadline: float) -> None:
    """Wait a moment for this daemon to end. Raises MountRefused when it is not closing."""
    if not _is_closing(entry) and mount_at(mountpoint, read_mounts()) is not None:
        raise MountRefused(
            f"{mountpoint} is already mounted ({entry.source}, process {entry.pid}); "
            f"run `procorefs umount {mountpoint}` first"
        )
    if time.monotonic() > deadline:
        raise MountRefused(
            f"the daemon of {mountpoint} (process {entry.pid}) does not end; its log is {entry.log}"
        )
    wait_for_end(entry.pid, entry.born, 0.1)


def _is_closing(entry: Entry) -> bool:
    try:
        return ask(Path(entry.socket), StatusRequest(), MountStatus, timeout_s=_PROBE_S).state == "closing"
    except NotListening:
        # its socket is the last thing a daemon opens and the first it closes
        return True
    except ControlError:
        return False


def _clean_up_dead(mount: Mount) -> None:
    """Take a dead mount of ours away. Raises MountRefused for one that lives or is not ours."""
    obstacle = _take_away_dead(mount)
    # the dead daemon's guard cleans up as well, and may have done it at any moment
    if obstacle and mount_at(mount.mountpoint, read_mounts()) is not None:
        raise MountRefused(obstacle)


def _take_away_dead(mount: Mount) -> str:
    """Why it cannot be done, or ''."""
    place = mount.mountpoint
    result = errno_of(lambda: os.statvfs(place), _PROBE_S)  # the kernel may answer stat from its memory
    if result == errno.ETIMEDOUT:
        return f"{place} is a mount that does not answer ({mount.source}); run: umount -l '{place}'"
    if result not in _DEAD:
        return f"{place} is already mounted ({mount.source}, {mount.fstype}); choose another directory"
    if not mount.is_ours:
        return f"{place} is a dead mount of {mount.fstype}; run: umount -l '{place}'"
    result = unmount(place, lazy=True)
    if result:
        return f"{place} is a dead mount and cannot be unmounted ({os.strerror(result)}); run: umount -l '{place}'"
    return ""


def _check_directory(mountpoint: Path) -> None:
    try:
        is_empty = not any(os.scandir(mountpoint))
    except FileNotFoundError as error:
        raise MountRefused(
            f"the mount point {mountpoint} does not exist; run: mkdir '{mountpoint}'"
        ) from error
    except NotADirectoryError as error:
        raise MountRefused(
            f"the mount point {mountpoint} is not a directory; name an empty directory"
        ) from error
    except OSError as error:
        raise MountRefused(f"the mount point {mountpoint} cannot be used ({error.strerror})") from error
    if not is_empty:
        raise MountRefused(f"the mount point {mountpoint} is not empty; name an empty directory")
    if not os.access(mountpoint, os.W_OK):
        raise MountRefused(f"the mount point {mountpoint} is not writable for you; name another directory")


def _others_allowed() -> bool:
    try:
        lines = FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
