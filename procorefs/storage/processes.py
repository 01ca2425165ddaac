"""Processes of this machine: how one is told from a later one with its id, and the limits of the daemon's own."""

import os
import resource
import socket
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Names this boot of the machine; empty where the kernel does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> str:
    """When a process began, in clock ticks since the boot; empty when it does not run any more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # comm, the second field, may hold spaces and brackets; state and start time are counted from its end (proc(5))
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def process_name() -> str:
    """This process among all hosts: host name, id, and when it began."""
    return f"{socket.gethostname()}/{os.getpid()}/{start_ticks(os.getpid())}"


_USUAL: list[tuple[int, int]] = []
"""Soft and hard limit before the soft one was raised; empty: it was not."""


def raise_limit() -> None:
    """Raise the soft limit of this process to the hard one, which needs no right."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    with suppress(ValueError, OSError):  # a kernel whose nr_open was lowered; the daemon runs all the same
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _USUAL[:] = [(soft, hard)]


def forbid_core_dumps() -> None:
    """A crash must not leave tokens and document contents in a file, or send them to a service that collects those."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def give_usual_limit(pid: int) -> None:
    """Give a program that this process started the limit that it would have had: some loop over all descriptors."""
    with suppress(OSError):  # it has ended
        for usual in _USUAL:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
