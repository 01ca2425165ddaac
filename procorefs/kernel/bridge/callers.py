"""Reads from /proc whether the thread of a request is told to stop, exits, or belongs to a thumbnailer."""

import signal
from pathlib import Path

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_ENDING_MASK = sum(1 << (number - 1) for number in _ENDING)


def is_told_to_stop(status: bytes) -> bool:
    """Whether a thread's /proc/TID/status has a pending, unblocked signal that ends programs."""
    masks = {b"SigPnd": 0, b"ShdPnd": 0, b"SigBlk": 0}
    for line in status.split(b"\n"):  # the name of a program may have any other line break
        name, _, value = line.partition(b":")
        if name in masks:
            masks[name] = int(value, 16)
    pending = masks[b"SigPnd"] | masks[b"ShdPnd"]
    return bool(pending & ~masks[b"SigBlk"] & _ENDING_MASK)


_EXITING = 0x4
"""PF_EXITING in the flags of proc_pid_stat(5)."""


def is_exiting(tid: int) -> bool:
    """Whether a thread is exiting and closes its open files: it gets no more signals."""
    try:
        fields = Path(f"/proc/{tid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return True
    return bool(int(fields[6]) & _EXITING)


def caller_is_told_to_stop(tid: int) -> bool:
    """Whether a signal that ends programs is pending for the thread.

    A thread that is not visible (it has ended, or is in another PID namespace) counts as told to stop, because Ctrl-C
    in a container must not hang.
    """
    try:
        return is_told_to_stop(Path(f"/proc/{tid}/status").read_bytes())
    except OSError:
        return True


def is_thumbnailer(arguments: list[bytes]) -> bool:
    """Whether a command line is that of a thumbnailer: most have it in their name, KDE's has it in an argument."""
    if not arguments:
        return False
    program = arguments[0].rpartition(b"/")[2]
    if program.startswith(b"kio"):
        return any(b"thumbnail" in argument for argument in arguments[1:])
    return b"thumbnail" in program or program.startswith(b"tumbler")


def asks_for_thumbnail(tid: int) -> bool:
    """Whether the thread belongs to a thumbnailer; False if its command line cannot be read."""
    try:
        return is_thumbnailer(Path(f"/proc/{tid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0"))
    except OSError:
        return False
