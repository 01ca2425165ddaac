"""Processes of this machine and boot, told from later ones with the same id."""

import os
import socket
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
