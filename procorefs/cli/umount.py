"""`procorefs umount`: a busy mount is reported and left alone; else it goes, and its daemon with it."""

import contextlib
import errno
import os
import signal
import time
from pathlib import Path

import click

from procorefs.cli import register
from procorefs.cli.limited import errno_of
from procorefs.cli.mountinfo import Mount, locate, mount_at, read_mounts
from procorefs.cli.processes import holders, wait_for_end
from procorefs.cli.register import Entry
from procorefs.cli.unmounting import unmount
from procorefs.config import Failure, Paths, find_paths
from procorefs.config.units import parse_duration_s
from procorefs.control import ControlError, StopRequest, ask

#: a daemon ends within 10 s (design.md, Command line)
DEFAULT_TIMEOUT_S = 10.0
_NAMED_HOLDERS = 3


class Busy(Failure):
    """Something uses the mount; nothing was changed."""


class NotUnmounted(Failure):
    """It could not be taken away, or its daemon goes on."""


@click.command(short_help="Take a mount away and end its daemon.")
@click.option("--timeout", "timeout", metavar="S", help="How long the daemon may take to end. Default: 10.")
@click.argument("mountpoint")
def umount(timeout: str | None, mountpoint: str) -> None:
    """Unmount MOUNTPOINT and wait for the end of its daemon.

    When something below MOUNTPOINT is in use, it says what by whom, and nothing changes.
    """
    timeout_s = DEFAULT_TIMEOUT_S if timeout is None else parse_duration_s(timeout)
    unmount_project(Path(mountpoint), find_paths(os.environ), timeout_s)


def unmount_project(path: Path, paths: Paths, timeout_s: float) -> None:
    """Take the mount at `path` away. Raises Busy, NotUnmounted."""
    mounts = read_mounts()
    mountpoint = locate(path, mounts)
    entry = register.find(mountpoint, paths)
    mount = mount_at(mountpoint, mounts)
    if mount is None and entry is None:
        raise NotUnmounted(f"nothing is mounted on {mountpoint}; `procorefs status` lists the mounts")
    if mount is not None:
        _take_away(mount, entry, mounts)
    if entry is not None:
        _end(entry, timeout_s)


def _take_away(mount: Mount, entry: Entry | None, mounts: list[Mount]) -> None:
    place = mount.mountpoint
    if not mount.is_ours:
        raise NotUnmounted(f"{place} is a mount of {mount.fstype} and not of ProcoreFS; use umount")
    if entry is None:
        # no daemon of this user: nobody inside could finish anything, so nobody is waited for
        _check(unmount(place, lazy=_is_dead(place)), place, None)
        return
    within = next((other.mountpoint for other in mounts if place in other.mountpoint.parents), None)
    if within is not None:
        raise Busy(f"{place} is busy: {within} is mounted in it; unmount that first")
    _refuse_busy(place, entry)
    _check(unmount(place, lazy=False), place, entry)


def _is_dead(place: Path) -> bool:
    return errno_of(lambda: os.statvfs(place), 3.0) in (errno.ENOTCONN, errno.ECONNABORTED)


def _refuse_busy(place: Path, entry: Entry, *, mapped: bool = False) -> None:
    found = holders(place, frozenset({entry.pid, os.getpid()}), mapped=mapped)
    if found:
        named = [f"{holder.name} (process {holder.pid}) {holder.what}" for holder in found[:_NAMED_HOLDERS]]
        more = len(found) - len(named)
        text = "; ".join(named) + (f"; and {more} more" if more else "")
        raise Busy(f"{place} is busy: {text}; end that and try again, for nothing was changed")


def _check(result: int, place: Path, entry: Entry | None) -> None:
    """Turn the kernel's answer into a sentence. A mount that somebody else took away meanwhile is fine."""
    if result == 0 or mount_at(place, read_mounts()) is None:
        return
    if result == errno.EBUSY:
        if entry is not None:
            _refuse_busy(place, entry, mapped=True)
        raise Busy(
            f"{place} is busy: a process that you may not see uses it (root's fuser -vm '{place}' shows it); "
            "nothing was changed"
        )
    if result == errno.EPERM:
        raise NotUnmounted(f"{place} was mounted by another user; only that user or root may unmount it")
    if result == errno.ENOENT:
        raise NotUnmounted("fusermount3 is missing; install the package fuse3")
    if result == errno.EIO:
        raise NotUnmounted(f"{place} cannot be unmounted; `fusermount3 -u '{place}'` says why")
    raise NotUnmounted(f"{place} cannot be unmounted ({os.strerror(result)}); run: umount -l '{place}'")


def _end(entry: Entry, timeout_s: float) -> None:
    """Wait for the daemon: it ends by itself when its mount is gone; asking only spares it a moment."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(ControlError):
        ask(Path(entry.socket), StopRequest(), type(None), timeout_s=min(2.0, max(timeout_s, 0.1)))
    if wait_for_end(entry.pid, entry.born, max(deadline - time.monotonic(), 0.1)):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(entry.pid, signal.SIGTERM)
    raise NotUnmounted(
        f"{entry.mountpoint} is unmounted, but its daemon (process {entry.pid}) did not end within "
        f"{timeout_s:g} seconds; its log is {entry.log}"
    )
