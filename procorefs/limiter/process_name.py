"""Names processes so that no later one with the same pid is taken for one that died."""

import os
import socket
from pathlib import Path


def own_name() -> str:
    """This process: host, pid, when it began."""
    return f"{socket.gethostname()}/{os.getpid()}/{started(os.getpid())}"


def started(pid: int) -> str:
    """When a process began, in clock ticks since the boot; empty when it does not run (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
