"""Finds in /proc whether a process still runs, and which processes use files below a directory."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec

from procorefs.storage import processes

PROC = Path("/proc")


class Holder(msgspec.Struct, frozen=True):
    """A process that keeps a mount busy."""

    pid: int
    name: str
    what: str
    """How it uses the mount, for people."""


def birth(pid: int) -> str | None:
    """Distinguishes a process from a later one with the same id, also across reboots; None: it has ended."""
    ticks = processes.start_ticks(pid)
    return f"{processes.boot_id()}:{ticks}" if ticks else None


def wait_for_end(pid: int, born: str, timeout_s: float) -> bool:
    """Wait until that process has ended; False: it has not ended in time."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return birth(pid) != born
    try:
        if birth(pid) != born:
            return True
        return bool(select.select([handle], [], [], timeout_s)[0])
    finally:
        os.close(handle)


def signal_process(pid: int, born: str, number: signal.Signals) -> None:
    """Send a signal to that process, and never to a later one with the same id."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if birth(pid) == born:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def holders(directory: Path, without: frozenset[int] = frozenset(), *, mapped: bool = False) -> list[Holder]:
    """Processes that have a file below `directory` open or as current directory; with `mapped`, also mapped.

    Only root sees this for other users' processes, so an empty list proves nothing. Reading mappings can block while
    the process waits in the kernel: use `mapped` only if the mount is known to be busy.
    """
    found = []
    for process in PROC.iterdir():
        if process.name.isdigit() and int(process.name) not in without:
            what = next(_held_by(process, directory, mapped), None)
            if what is not None:
                found.append(Holder(int(process.name), _name(process), what))
    return found


def _held_by(process: Path, directory: Path, mapped: bool) -> Iterator[str]:
    for link, what in (("cwd", "works in"), ("root", "has as its root"), ("exe", "is run from")):
        target = _target(process / link)
        if _is_below(target, directory):
            yield f"{what} {target}"
    with contextlib.suppress(OSError):
        for number in (process / "fd").iterdir():
            target = _target(number)
            if _is_below(target, directory):
                yield f"has {target} open"
    if mapped:
        yield from (f"has {target} mapped" for target in _mapped_by(process) if _is_below(target, directory))


def _mapped_by(process: Path) -> list[str]:
    try:
        lines = (process / "maps").read_bytes().splitlines()
    except OSError:
        return []
    return [os.fsdecode(line.split(maxsplit=5)[5]) for line in lines if b"/" in line]


def _target(link: Path) -> str:
    # This reads only the name and does not access its target.
    try:
        return os.readlink(link)  # noqa: PTH115 - sockets and pipes are no paths
    except OSError:
        return ""


def _is_below(target: str, directory: Path) -> bool:
    return target == str(directory) or target.startswith(f"{directory}/")


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
