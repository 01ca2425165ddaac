"""Makes the mount point ready for a mount: checks it, waits for a daemon that is closing, and unmounts a dead mount."""

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
from procorefs.storage.printable import shell_word

_CLOSING_S = 15.0
"""A closing daemon ends within 10 s."""
_PROBE_S = 3.0
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)
"""What statfs returns for a mount whose daemon has ended."""

FUSE_DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")


class MountRefused(Failure):
    """The mount point or this machine does not allow the mount."""


def ready_mountpoint(path: Path, paths: Paths) -> Path:
    """Make the mount point ready and return its absolute path. Raises MountRefused."""
    mountpoint = locate(path, read_mounts())
    deadline = time.monotonic() + _CLOSING_S
    while (entry := registry.find(mountpoint, paths)) is not None:
        _wait_for_closing(entry, mountpoint, deadline)
    while (mount := mount_at(mountpoint, read_mounts())) is not None and mount.is_fuse:
        _remove_dead(mount)
    _check_directory(mountpoint)
    return mountpoint


def wait_for_closing_owner(api_url: str, company_id: int, project_id: int, paths: Paths) -> None:
    """Wait for the end of a closing daemon of the same project, which holds the lock on the state."""
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
    if options.allow_other and not others_allowed():
        raise MountRefused(f"allow_other needs the line user_allow_other in {FUSE_CONF}; root can add it")


def _wait_for_closing(entry: Entry, mountpoint: Path, deadline: float) -> None:
    """Wait briefly for the daemon to end. Raises MountRefused if it is not closing."""
    if not _is_closing(entry) and mount_at(mountpoint, read_mounts()) is not None:
        raise MountRefused(
            f"{mountpoint} is already mounted ({entry.source}, process {entry.pid}); "
            f"run `procorefs umount {shell_word(mountpoint)}` first"
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
        # A daemon opens its socket last and closes it first.
        return True
    except ControlError:
        return False


def _remove_dead(mount: Mount) -> None:
    """Unmount a dead ProcoreFS mount. Raises MountRefused for a working mount and for a mount of another kind."""
    obstacle = _unmount_dead(mount)
    # The guard of the dead daemon unmounts it too, at any moment.
    if obstacle and mount_at(mount.mountpoint, read_mounts()) is not None:
        raise MountRefused(obstacle)


def _unmount_dead(mount: Mount) -> str:
    """Unmount a dead mount; returns the reason if that is impossible, else ''."""
    path = mount.mountpoint
    result = errno_of(lambda: os.statvfs(path), _PROBE_S)  # the kernel may answer stat from its cache
    if result == errno.ETIMEDOUT:
        return f"{path} is a mount that does not answer ({mount.source}); run: umount -l {shell_word(path)}"
    if result not in DEAD:
        return f"{path} is already mounted ({mount.source}, {mount.fstype}); choose another directory"
    if not mount.is_ours:
        return f"{path} is a dead mount of {mount.fstype}; run: umount -l {shell_word(path)}"
    result = unmount(path, lazy=True)
    if result:
        reason = os.strerror(result)
        return f"{path} is a dead mount and cannot be unmounted ({reason}); run: umount -l {shell_word(path)}"
    return ""


def _check_directory(mountpoint: Path) -> None:
    try:
        is_empty = not any(os.scandir(mountpoint))
    except FileNotFoundError as error:
        raise MountRefused(
            f"the mount point {mountpoint} does not exist; run: mkdir {shell_word(mountpoint)}"
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


def others_allowed() -> bool:
    """Whether the configuration of FUSE lets users mount for others."""
    try:
        lines = FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
