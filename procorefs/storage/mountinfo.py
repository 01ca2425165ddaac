"""Lists the mounts in /proc/self/mountinfo, without a system call into any of them."""

import os
import re
from pathlib import Path

import msgspec

MOUNTINFO = Path("/proc/self/mountinfo")

SUBTYPE = "procorefs"
"""The FUSE subtype of our mounts: their filesystem type is `fuse.procorefs`."""


class Mount(msgspec.Struct, frozen=True):
    """One line of mountinfo (proc(5))."""

    mountpoint: Path
    fstype: str
    source: str
    device: bytes = b""
    """Device number of the filesystem, such as `0:43`."""
    escaped: bytes = b""
    """The mount point as the line has it, with its octal escapes."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a ProcoreFS mount."""
        return self.fstype == f"fuse.{SUBTYPE}"

    @property
    def is_fuse(self) -> bool:
        """Whether it is a FUSE mount."""
        return self.fstype == "fuse" or self.fstype.startswith("fuse.")


def read_mounts() -> list[Mount]:
    """Return all mounts that this process sees, in the order in which they were made."""
    return parse_mountinfo(MOUNTINFO.read_bytes())


def parse_mountinfo(text: bytes) -> list[Mount]:
    """Parse the lines of a mountinfo file; skip a line that has too few fields."""
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(b" - ")
        fields, rest = left.split(b" "), right.split(b" ")
        if len(fields) > 4 and len(rest) > 1:
            mounts.append(
                Mount(
                    mountpoint=Path(_unescaped(fields[4])),
                    fstype=_unescaped(rest[0]),
                    source=_unescaped(rest[1]),
                    device=fields[2],
                    escaped=fields[4],
                )
            )
    return mounts


def mount_at(mountpoint: Path, mounts: list[Mount]) -> Mount | None:
    """The topmost mount at exactly this path, or None."""
    return next((mount for mount in reversed(mounts) if mount.mountpoint == mountpoint), None)


def _unescaped(field: bytes) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field))
