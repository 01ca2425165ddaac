"""`procorefs umount`: sends waiting changes, unmounts, and ends the daemon; reports a busy mount and changes nothing.

It waits while the outbox makes progress, or until the timeout. Changes that are left stay in the journal, and the next
mount sends them. A daemon that still sends after an unmount by other means is ended in the same way.
"""

import contextlib
import errno
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click

from procorefs.cli.mounts import registry
from procorefs.cli.mounts.bounded_call import errno_of
from procorefs.cli.mounts.locate import given_path, locate, split_path
from procorefs.cli.mounts.processes import holders, signal_process, wait_for_end
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.mounts.unmounting import unmount
from procorefs.cli.support.duration import seconds_of
from procorefs.cli.support.error_output import complain
from procorefs.cli.support.formatting import counted, listed, staying
from procorefs.cli.support.progress import Progress
from procorefs.config import Failure, Paths, find_paths
from procorefs.service.control_socket import (
    ControlError,
    DrainRequest,
    Left,
    StopRequest,
    UnmountingRequest,
    WaitingRequest,
    ask,
)
from procorefs.storage.mountinfo import Mount, mount_at, read_mounts
from procorefs.storage.printable import printable, shell_word
from procorefs.upload.items import Counts

_END_S = 10.0
"""A daemon ends within 10 s."""
_LEAST_END_S = 6.0
"""The minimum for any timeout: the daemon ends its running calls and closes its stores."""
_ASK_AGAIN_S = 0.5
"""How often the daemon is asked to end."""
_UPDATE_S = 0.25
"""How often the daemon is asked for its progress."""
_STALL_S = 60.0
"""How long to wait without progress while Procore cannot be reached."""
_ANSWER_S, _LEAST_ANSWER_S = 5.0, 1.0
_NAMED_HOLDERS = 3


class Busy(Failure):
    """A process uses the mount; nothing was changed."""


class NotUnmounted(Failure):
    """The mount could not be unmounted, or its daemon still runs."""


class NotAllSent(Failure):
    """The mount was unmounted, but some changes are not in Procore."""


@click.command(short_help="Unmount a project and end its daemon.")
@click.option(
    "--timeout",
    "timeout_s",
    callback=seconds_of,
    metavar="S",
    help="Wait no longer than this. Default: as long as uploads make progress.",
)
@click.option("--now", is_flag=True, help="Do not wait: the next mount sends what is not sent yet.")
@click.argument("place", metavar="MOUNTPOINT|PROJECT")
def umount(timeout_s: float | None, now: bool, place: str) -> None:
    """Send all changes below MOUNTPOINT, unmount it and wait for the end of its daemon.

    When a program uses MOUNTPOINT, umount names the program and changes nothing. Changes that fail or take longer than
    the timeout are listed; the next mount sends them, and the exit status is 1. Files that stay on this machine because
    of their names are listed too, and do not affect the exit status.

    PROJECT is the project of the mount, as given to `mount` or as COMPANY/PROJECT in ids. A daemon whose mount point
    was removed by other means continues to send: name it by its PROJECT, or by its former MOUNTPOINT.
    """
    within_s = math.inf if timeout_s is None else timeout_s
    unmount_project(given_path(place), find_paths(os.environ), 0.0 if now else within_s, now=now)


def unmount_project(path: Path, paths: Paths, timeout_s: float, *, now: bool = False) -> None:
    """Unmount `path`, or end the daemon that was mounted there. Raises Busy, NotUnmounted, NotAllSent.

    `now`: do not send changes first.
    """
    deadline = time.monotonic() + timeout_s
    mounts = read_mounts()
    _refuse_inside(path, mounts)
    mountpoint = locate(path, mounts)
    mount = mount_at(mountpoint, mounts)
    entry = registry.find(mountpoint, paths)
    if mount is None and entry is None:
        entry = registry.find_detached(mountpoint, paths) or _daemon_of(str(path), paths)
        if entry is not None and not entry.detached:
            mount = mount_at(Path(entry.mountpoint), mounts)
    if mount is not None:
        left = _drain_and_unmount(mount, entry, mounts, deadline, now=now)
    elif entry is not None:
        left = _waiting(entry, deadline) if now else _drain(entry, deadline)
    else:
        raise NotUnmounted(
            f"nothing is mounted on {printable(str(mountpoint))}; `procorefs status` lists the mounts"
        )
    if entry is not None:
        _end(entry, paths, timeout_s=min(max(deadline - time.monotonic(), _LEAST_END_S), _END_S))
        _report(entry, left)


def _daemon_of(project: str, paths: Paths) -> Entry | None:
    """The daemon of that project, first one that sends without a mount point, or None. Raises NotUnmounted."""
    found = [
        entry
        for entry in registry.running(paths)
        if project in (entry.source, f"{entry.company_id}/{entry.project_id}")
    ]
    found = [entry for entry in found if entry.detached][:1] or found
    if len(found) > 1:
        places = " and ".join(printable(entry.mountpoint) for entry in found)
        raise NotUnmounted(f"{printable(project)} is mounted at {places}; name one of these mount points")
    return found[0] if found else None


def _refuse_inside(path: Path, mounts: list[Mount]) -> None:
    """Refuse a path below a mount. Raises NotUnmounted."""
    place, below = split_path(str(path), mounts)
    mount = mount_at(place, mounts)
    if below and mount is not None and mount.is_ours:
        raise NotUnmounted(
            f"{printable(str(path))} is inside the mount {place}; run `procorefs umount {shell_word(place)}` to "
            "unmount that"
        )


def _drain_and_unmount(
    mount: Mount, entry: Entry | None, mounts: list[Mount], deadline: float, *, now: bool
) -> Left:
    """Drain the outbox and unmount; returns the changes that were not sent."""
    place = mount.mountpoint
    if not mount.is_ours:
        raise NotUnmounted(f"{place} is a mount of {mount.fstype} and not of ProcoreFS; use umount")
    if entry is None:
        # No daemon of this user runs: programs in the mount cannot continue, so do not wait for them.
        _check(unmount(place, lazy=_is_dead(place)), place, None)
        return Left([], 0)
    within = next((other.mountpoint for other in mounts if place in other.mountpoint.parents), None)
    if within is not None:
        raise Busy(f"{place} is busy: {within} is mounted below it; unmount that first")
    _refuse_busy(place, entry)
    left = _waiting(entry, deadline) if now else _drain(entry, deadline)
    _tell_daemon(entry, continues=False)
    try:
        _check(unmount(place, lazy=False), place, entry)
    except Failure:
        _tell_daemon(entry, continues=True)
        raise
    return left


def _tell_daemon(entry: Entry, *, continues: bool) -> None:
    """Tell the daemon whether to send what is left after the unmount."""
    with contextlib.suppress(ControlError):
        ask(Path(entry.socket), UnmountingRequest(continues), type(None), timeout_s=_LEAST_ANSWER_S)


def _drain(entry: Entry, deadline: float) -> Left:
    """Wait while changes reach Procore; returns what is left, or nothing if the daemon does not answer."""
    socket = Path(entry.socket)
    deadline_check = DrainDeadline()
    answer_s = _answer_s(deadline)
    try:
        with Progress(f"Sending {entry.mountpoint} before it is unmounted") as progress:
            counts = ask(socket, DrainRequest(), Counts, timeout_s=answer_s)
            while counts.moving and time.monotonic() < deadline and deadline_check.continues(counts):
                progress.show(counts)
                time.sleep(min(_UPDATE_S, max(deadline - time.monotonic(), 0.0)))
                counts = ask(socket, DrainRequest(), Counts, timeout_s=answer_s)
    except ControlError:
        return Left([], 0)
    return _waiting(entry, deadline)


def _waiting(entry: Entry, deadline: float) -> Left:
    """The changes that are not sent, without waiting; nothing if the daemon does not answer."""
    try:
        return ask(Path(entry.socket), WaitingRequest(("",)), Left, timeout_s=_answer_s(deadline))
    except ControlError:
        return Left([], 0)


def _answer_s(deadline: float) -> float:
    return min(_ANSWER_S, max(deadline - time.monotonic(), _LEAST_ANSWER_S))


class DrainDeadline:
    """Ends the drain when Procore is unreachable and nothing has moved for a while, but waits for the call budget."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._last: tuple[int, int] | None = None
        self._moved_s = 0.0

    def continues(self, counts: Counts) -> bool:
        """Whether to wait longer."""
        now = (counts.moving, counts.bytes_pending)
        if now != self._last or not counts.warning:
            self._last, self._moved_s = now, self._clock_s()
        return self._clock_s() - self._moved_s < _STALL_S


def _report(entry: Entry, left: Left) -> None:
    """Report files that stay here and changes that stay in the journal. Raises NotAllSent."""
    for line in staying(left.staying, Path(entry.mountpoint)):
        complain(line)
    if not left.total:
        return
    for line in listed(left.items, left.total, Path(entry.mountpoint)):
        complain(line)
    changes, verb = counted(left.total, "change"), "stays" if left.total == 1 else "stay"
    raise NotAllSent(
        f"{entry.mountpoint} is unmounted; {changes} {verb} in its journal, and the next mount continues"
    )


def _is_dead(place: Path) -> bool:
    return errno_of(lambda: os.statvfs(place), 3.0) in (errno.ENOTCONN, errno.ECONNABORTED)


def _refuse_busy(place: Path, entry: Entry, *, mapped: bool = False) -> None:
    found = holders(place, frozenset({entry.pid, os.getpid()}), mapped=mapped)
    if found:
        named = [f"{holder.name} (process {holder.pid}) {holder.what}" for holder in found[:_NAMED_HOLDERS]]
        more = len(found) - len(named)
        text = "; ".join(named) + (f"; and {more} more" if more else "")
        raise Busy(f"{place} is busy: {text}; end that and try again, nothing was changed")


def _check(result: int, place: Path, entry: Entry | None) -> None:
    """Turn the kernel's errno into a sentence. A mount that is already unmounted is fine."""
    if result == 0 or mount_at(place, read_mounts()) is None:
        return
    if result == errno.EBUSY:
        if entry is not None:
            _refuse_busy(place, entry, mapped=True)
        raise Busy(
            f"{place} is busy: a process of another user uses it (root's fuser -vm {shell_word(place)} shows it); "
            "nothing was changed"
        )
    if result == errno.EPERM:
        raise NotUnmounted(f"{place} was mounted by another user; only that user or root may unmount it")
    if result == errno.ENOENT:
        raise NotUnmounted("fusermount3 is missing; install the package fuse3")
    if result == errno.EIO:
        raise NotUnmounted(f"{place} cannot be unmounted; `fusermount3 -u {shell_word(place)}` says why")
    raise NotUnmounted(
        f"{place} cannot be unmounted ({os.strerror(result)}); run: umount -l {shell_word(place)}"
    )


def _end(entry: Entry, paths: Paths, timeout_s: float) -> None:
    """End the daemon and wait for its end: without a mount it would continue while it has changes to send."""
    deadline = time.monotonic() + timeout_s
    asked: Entry | None = entry
    while True:
        if asked is not None:
            with contextlib.suppress(ControlError):
                ask(Path(asked.socket), StopRequest(), type(None), timeout_s=min(2.0, timeout_s))
        left_s = deadline - time.monotonic()
        if wait_for_end(entry.pid, entry.born, max(min(left_s, _ASK_AGAIN_S), 0.1)):
            return
        if left_s <= 0:
            break
        asked = registry.find_again(entry, paths)  # after an unmount its socket changes
    signal_process(entry.pid, entry.born, signal.SIGTERM)
    raise NotUnmounted(
        f"{entry.mountpoint} is unmounted, but its daemon (process {entry.pid}) did not end within "
        f"{timeout_s:g} seconds; its log is {entry.log}"
    )
