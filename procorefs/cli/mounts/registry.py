"""Registers the running daemons of this user, one small file each in the runtime directory, and finds them.

A daemon writes its entry before it mounts and removes it when it ends. The entry of a killed daemon is recognised by
process id and start time; the next command that reads it removes it.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from procorefs.cli.mounts.processes import birth
from procorefs.config import Failure, Paths, ResolvedMount, private_dir
from procorefs.config.paths import write_private
from procorefs.config.resolved import mount_key
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.private_files import open_lock_file, read_private_file, remove_socket


class Entry(msgspec.Struct, frozen=True):
    """A running daemon."""

    mountpoint: str
    pid: int
    born: str
    """`processes.birth` of that pid."""
    source: str
    api_url: str
    company_id: int
    project_id: int
    log: str
    detached: bool = False
    """The mount point was unmounted from outside, and the daemon continues to send."""
    socket: str = ""
    """The control socket, derived from the path of the entry, so that an entry cannot name another file."""

    @property
    def is_alive(self) -> bool:
        """Whether that process still runs."""
        return birth(self.pid) == self.born


class AlreadyStarted(Failure):
    """Another daemon is starting at the mount point."""


class Registration:
    """The entry of this process."""

    def __init__(self, entry: Entry, file: Path) -> None:
        self._entry = entry
        self._file = file

    def detach(self) -> None:
        """Release the mount point: the daemon continues without it, under another entry and socket."""
        entry = msgspec.structs.replace(self._entry, detached=True)
        file = self._file.with_name(f"{self._file.stem}.{entry.pid}.mount")
        write_private(file, msgspec.json.encode(entry))
        with _exclusive(file.parent):
            self.remove()
        self._file = file

    def remove(self) -> None:
        """Remove the entry."""
        self._file.unlink(missing_ok=True)


@contextlib.contextmanager
def registered(mount: ResolvedMount) -> Iterator[Registration]:
    """Register this process as the daemon of `mount` for the block of a `with`. Raises AlreadyStarted."""
    directory = private_dir(mount.paths.runtime_dir)
    file = _file(directory, mount.mountpoint)
    with _exclusive(directory):
        other = _read(file)
        if other is not None and other.is_alive:
            raise AlreadyStarted(
                f"{mount.mountpoint} is being mounted by another procorefs (process {other.pid})"
            )
        entry = _entry(mount)
        write_private(file, msgspec.json.encode(entry))
    registration = Registration(entry, file)
    try:
        yield registration
    finally:
        registration.remove()


def find(mountpoint: Path, paths: Paths) -> Entry | None:
    """The running daemon of this mount point, or None."""
    for directory in paths.runtime_dirs:
        entry = _read_living(_file(directory, mountpoint))
        if entry is not None:
            return entry
    return None


def find_detached(mountpoint: Path, paths: Paths) -> Entry | None:
    """The daemon that had this mount point and continues to send, or None."""
    found = (entry for entry in running(paths) if entry.detached and entry.mountpoint == str(mountpoint))
    return next(found, None)


def find_again(known: Entry, paths: Paths) -> Entry | None:
    """The present entry of the same process; None: it has ended."""
    found = (entry for entry in running(paths) if (entry.pid, entry.born) == (known.pid, known.born))
    return next(found, None)


def running(paths: Paths) -> list[Entry]:
    """All running daemons of this user, by mount point."""
    files = [
        file for directory in paths.runtime_dirs if directory.is_dir() for file in directory.glob("*.mount")
    ]
    entries = [entry for file in files if (entry := _read_living(file)) is not None]
    return sorted(entries, key=lambda entry: entry.mountpoint)


def _entry(mount: ResolvedMount) -> Entry:
    born = birth(os.getpid())
    assert born is not None, "/proc does not show this process"
    return Entry(
        mountpoint=str(mount.mountpoint),
        pid=os.getpid(),
        born=born,
        source=mount.source,
        api_url=mount.api.api_url,
        company_id=mount.company_id,
        project_id=mount.project_id,
        log=str(mount.log_file or ""),
    )


def _file(directory: Path, mountpoint: Path) -> Path:
    return directory / f"{mount_key(mountpoint)}.mount"


def _read_living(file: Path) -> Entry | None:
    entry = _read(file)
    if entry is None or entry.is_alive:
        return entry
    with contextlib.suppress(OSError), _exclusive(file.parent):
        # Read again: a new daemon may have written its entry meanwhile.
        entry = _read(file)
        if entry is not None and not entry.is_alive:
            file.unlink(missing_ok=True)
            remove_socket(Path(entry.socket))
            return None
    return entry


def _read(file: Path) -> Entry | None:
    try:
        entry = msgspec.json.decode(read_private_file(file), type=Entry)
    except (OSError, *UNDECODABLE):
        return None
    return msgspec.structs.replace(entry, socket=str(file.with_suffix(".sock")))


@contextlib.contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Lock the entries of a directory against changes by other processes; hold it briefly."""
    handle = open_lock_file(directory / ".lock")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
