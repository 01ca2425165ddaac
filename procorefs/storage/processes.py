"""Identifies processes beyond their ids, and sets what the daemon and child processes may have: limits, environment."""

import os
import resource
import socket
import struct
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

SECRETS = ("PROCOREFS_CLIENT_SECRET", "PROCOREFS_REDIS_PASSWORD")
"""Variables that no child process needs, apart from commands of ours."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The id of this boot of the machine; empty if the kernel has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> str:
    """When a process started, in clock ticks since the boot; empty if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # comm, the second field, may contain spaces and brackets: count the later fields from its end (proc(5)).
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def process_name() -> str:
    """Identifies this process among all hosts: host name, process id and start time."""
    return f"{socket.gethostname()}/{os.getpid()}/{start_ticks(os.getpid())}"


def uid_of_peer(connected: "socket.socket | trio.socket.SocketType") -> int:
    """The user id of the process at the other end of a Unix socket (SO_PEERCRED of unix(7))."""
    pid_uid_gid = struct.Struct("iII")
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, pid_uid_gid.size)
    return int(pid_uid_gid.unpack(found)[1])


_USUAL: list[tuple[int, int]] = []
"""The soft and hard limit before `raise_limit`; empty: the limit was not raised."""


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard limit, which needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    with suppress(ValueError, OSError):  # fs.nr_open was lowered; the daemon runs with the soft limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _USUAL[:] = [(soft, hard)]


def forbid_core_dumps() -> None:
    """Forbid core dumps: they would contain tokens and document contents.

    The limit does not hold for a program that the kernel pipes the dump to; the filter leaves that one no memory
    (core(5)).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    with suppress(OSError):  # a kernel without core dumps
        Path("/proc/self/coredump_filter").write_text("0")


def give_usual_limit(pid: int) -> None:
    """Give a child process the original limit of open files: some programs loop over all descriptors."""
    with suppress(OSError):  # it has ended
        for usual in _USUAL:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)


def forget_secrets(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove the secrets before a program is started that lives long: a browser, an editor, the mount's guard."""
    for variable in SECRETS:
        environment.pop(variable, None)


def child_environment() -> dict[str, str]:
    """The environment without secrets, for a program that is not ours."""
    environment = dict(os.environ)
    forget_secrets(environment)
    return environment
