"""What the simulated kernel gives to handlers and what they return: callers, attributes, descriptors and locks."""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

UMASK = 0o022
TID = 4242


@dataclass(frozen=True, slots=True)
class Context:
    """pyfuse3.RequestContext, which can't be filled in."""

    pid: int = TID
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = UMASK


@dataclass(slots=True)
class Fields:
    """pyfuse3.SetattrFields, for the same reason."""

    update_size: bool = False
    update_mode: bool = False
    update_uid: bool = False
    update_gid: bool = False
    update_mtime: bool = False
    update_atime: bool = False
    update_ctime: bool = False


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat shows."""

    inode: int
    mode: int
    size: int
    links: int
    mtime_ns: int

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True)
class OpenFile:
    """A file descriptor."""

    handle: int
    inode: int
    reads: bool
    writes: bool
    appends: bool
    locks: bool = False
    """flock was called on it."""


class Request:
    """The bridge's request of that name; no signal interrupts it."""

    tid = uid = 0
    finished = False

    def on_interrupt(self, _callback: Callable[[], object]) -> None:
        """Never called back."""

    def finish(self) -> None:
        self.finished = True


class Flock:
    """The bridge's request of that name."""

    def __init__(self, inode: int, owner: int, operation: int) -> None:
        self.request = Request()
        self.inode = inode
        self.owner = owner
        self.operation = operation
        self.answered = False
        self.errno = 0
        self.done = trio.Event()

    def reply(self, number: int) -> int:
        """0: the program has its answer."""
        self.answered, self.errno = True, number
        self.done.set()
        return 0


def open_file(handle: int, inode: int, flags: int) -> OpenFile:
    access = flags & os.O_ACCMODE
    return OpenFile(handle, inode, access != os.O_WRONLY, access != os.O_RDONLY, bool(flags & os.O_APPEND))


def attributes_of(entry: Any) -> Attributes:
    return Attributes(entry.st_ino, entry.st_mode, entry.st_size, entry.st_nlink, entry.st_mtime_ns)
