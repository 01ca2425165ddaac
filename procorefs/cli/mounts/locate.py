"""Finds the mount that a path is in, from the kernel's list, without a system call into any mount.

ProcoreFS has no symbolic links, so what comes below a mount point needs no following.
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
_LOOK_S = 5.0


class NotInAMount(Failure):
    """A path that no running mount of ours answers for."""


class NowhereToBegin(Failure):
    """A relative path, given while the current directory no longer exists."""


class MountLocation(msgspec.Struct, frozen=True):
    """A path in a mount that a daemon serves."""

    daemon: Entry
    below: str
    """From the mount's root; empty: the root."""

    @property
    def path(self) -> Path:
        """Where it is for everybody."""
        return Path(self.daemon.mountpoint) / self.below

    @property
    def exists(self) -> bool:
        """Whether programs see something there; whoever does not answer in time is believed."""
        return errno_of(lambda: os.lstat(self.path), _LOOK_S) not in (errno.ENOENT, errno.ENOTDIR)


def named(text: str) -> Path:
    """The path as it was written. Raises NotInAMount for an empty one, as of an unset variable."""
    if not text:
        raise NotInAMount("the path is empty; write '.' for the current directory")
    return Path(text)


def find_location(text: str, paths: Paths) -> MountLocation:
    """The mount and the path in it that is meant. Raises NotInAMount, NowhereToBegin."""
    named(text)
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
    """The absolute path without links, found without a look into any mount that may hang at its end.

    The last component is compared with mountinfo before it is examined: what hangs is reading a link that turns
    out to be the root of a dead mount. Raises NowhereToBegin.
    """
    for _ in range(_MOST_LINKS):
        absolute = _absolute(path)
        found = Path(os.path.realpath(absolute.parent)) / absolute.name
        if mount_at(found, mounts) or not found.is_symlink():
            return found
        path = found.parent / found.readlink()
    return path


def by_mount(places: list[MountLocation]) -> dict[Entry, tuple[str, ...]]:
    """The paths of each mount, in the order given."""
    found: dict[Entry, tuple[str, ...]] = {}
    for place in places:
        found[place.daemon] = (*found.get(place.daemon, ()), place.below)
    return found


def split_path(text: str, mounts: list[Mount]) -> tuple[Path, str]:
    """The topmost mount on the way that has no other one further on, and the rest; links are followed up to there."""
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
        # deleted, or below a mount that was taken away
        raise NowhereToBegin(f"the current directory is gone, and '{path}' with it; cd to another") from error
