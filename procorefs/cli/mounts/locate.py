"""Finds the mount that a path is in, from the kernel's list, without a system call into any mount.

ProcoreFS has no symbolic links, so a path below a mount point needs no resolution.
"""

import errno
import os
from collections import deque
from pathlib import Path

import msgspec

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.cli.mounts.registry import Entry
from procorefs.config import Failure, Paths
from procorefs.storage.mountinfo import Mount, mount_at, read_mounts

_MOST_LINKS = 40
_CHECK_S = 5.0


class NotInAMount(Failure):
    """The path is in no running ProcoreFS mount of this user."""


class NoCurrentDirectory(Failure):
    """The path is relative, and the current directory no longer exists."""


class MountLocation(msgspec.Struct, frozen=True):
    """A path in a mount that a daemon serves."""

    daemon: Entry
    below: str
    """The path relative to the mount's root; empty: the root."""

    @property
    def path(self) -> Path:
        """The absolute path."""
        return Path(self.daemon.mountpoint) / self.below

    @property
    def exists(self) -> bool:
        """Whether the path exists; True if the mount does not answer in time."""
        return errno_of(lambda: os.lstat(self.path), _CHECK_S) not in (errno.ENOENT, errno.ENOTDIR)


def given_path(text: str) -> Path:
    """The path of an argument. Raises NotInAMount for an empty one, which may be an unset variable."""
    if not text:
        raise NotInAMount("the path is empty; write '.' for the current directory")
    return Path(text)


def find_location(text: str, paths: Paths) -> MountLocation:
    """The mount that a path is in, and the path in it. Raises NotInAMount, NoCurrentDirectory."""
    given_path(text)
    mounts = read_mounts()
    mountpoint, below = split_path(text, mounts)
    mount = mount_at(mountpoint, mounts)
    if mount is None or not mount.is_ours:
        raise NotInAMount(f"{text} is not in a ProcoreFS mount; `procorefs status` lists the mounts")
    daemon = registry.find(mountpoint, paths)
    if daemon is None:
        raise NotInAMount(
            f"the daemon of {mountpoint} has ended or belongs to another user; `procorefs mount` mounts "
            "it again"
        )
    try:
        below.encode()
    except UnicodeEncodeError as error:
        raise NotInAMount(f"{text!a} is not UTF-8, so Procore has nothing of that name") from error
    return MountLocation(daemon, below)


def locate(path: Path, mounts: list[Mount]) -> Path:
    """The absolute path without symbolic links, without a system call into a dead mount at its end.

    The last component is compared with mountinfo first: a check for a symbolic link would hang if it is the root of a
    dead mount. Raises NoCurrentDirectory.
    """
    for _ in range(_MOST_LINKS):
        absolute = _absolute(path)
        found = Path(os.path.realpath(absolute.parent)) / absolute.name
        if mount_at(found, mounts) or not found.is_symlink():
            return found
        path = found.parent / found.readlink()
    return path


def by_mount(locations: list[MountLocation]) -> dict[Entry, tuple[str, ...]]:
    """The paths of each mount, in the order given."""
    found: dict[Entry, tuple[str, ...]] = {}
    for location in locations:
        found[location.daemon] = (*found.get(location.daemon, ()), location.below)
    return found


def split_path(text: str, mounts: list[Mount]) -> tuple[Path, str]:
    """The innermost mount of a path, and the path below it; follows symbolic links up to that mount."""
    here, rest = Path("/"), deque(_absolute(Path(text)).parts[1:])
    links = 0
    while rest:
        if _is_last(here, rest, mounts):
            break
        name = rest.popleft()
        step = here.parent if name == ".." else here / name
        if mount_at(step, mounts) or links == _MOST_LINKS or not step.is_symlink():
            here = step
            continue
        links += 1
        target = step.readlink()
        here = Path("/") if target.is_absolute() else here
        rest.extendleft(reversed([part for part in target.parts if part != "/"]))
    return here, "/".join(rest)


def _is_last(here: Path, rest: deque[str], mounts: list[Mount]) -> bool:
    mount = mount_at(here, mounts)
    if mount is None or not mount.is_ours:
        return False
    whole = here.joinpath(*rest)
    return not any(
        here in other.mountpoint.parents and other.mountpoint in (whole, *whole.parents) for other in mounts
    )


def _absolute(path: Path) -> Path:
    try:
        return Path(os.path.normpath(path.absolute()))
    except FileNotFoundError as error:
        # deleted, or below a mount that was unmounted
        raise NoCurrentDirectory(
            f"the current directory is gone, and '{path}' with it; cd to another"
        ) from error
