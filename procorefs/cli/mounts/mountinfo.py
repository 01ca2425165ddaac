"""What the kernel has mounted where, read without touching any of it."""

import os
import re
from pathlib import Path

import msgspec

from procorefs.config import Failure
from procorefs.config.resolved import SUBTYPE

MOUNTINFO = Path("/proc/self/mountinfo")


class NowhereToBegin(Failure):
    """A relative path, said in a directory that is no more."""


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo (proc(5))."""

    mountpoint: Path
    fstype: str
    source: str

    @property
    def is_ours(self) -> bool:
        """Was it made by ProcoreFS?"""
        return self.fstype == f"fuse.{SUBTYPE}"

    @property
    def is_fuse(self) -> bool:
        """Is a program behind it?"""
        return self.fstype == "fuse" or self.fstype.startswith("fuse.")


def read_mounts() -> list[Mount]:
    """All mounts this process sees, in the order they were made."""
    return parse_mountinfo(MOUNTINFO.read_bytes())


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The lines of a mountinfo file."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields, rest = left.split(b" "), right.split(b" ")
        if len(fields) > 4 and len(rest) > 1:
            mounts.append(Mount(Path(_unescape(fields[4])), _unescape(rest[0]), _unescape(rest[1])))
    return mounts


def mount_at(mountpoint: Path, mounts: list[Mount]) -> Mount | None:
    """The topmost mount at exactly this place, or None."""
    return next((mount for mount in reversed(mounts) if mount.mountpoint == mountpoint), None)


def locate(path: Path, mounts: list[Mount]) -> Path:
    """The absolute path without links, found without a look into any mount that may hang at its end.

    The last component is compared with mountinfo before it is examined: what hangs is reading a link that turns
    out to be the root of a dead mount. Raises NowhereToBegin.
    """
    for _ in range(40):
        absolute = Path(os.path.normpath(_absolute(path)))
        found = Path(os.path.realpath(absolute.parent)) / absolute.name
        if mount_at(found, mounts) or not found.is_symlink():
            return found
        path = found.parent / found.readlink()
    return path


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except FileNotFoundError as error:
        # deleted, or below a mount that was taken away
        raise NowhereToBegin(f"the current directory is gone, and '{path}' with it; cd to another") from error


def _unescape(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field))
