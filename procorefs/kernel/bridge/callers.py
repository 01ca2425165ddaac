"""What /proc tells of the thread behind a request: is it told to stop, does it exit, does it make thumbnails?"""

import signal
from pathlib import Path

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
_ENDING_MASK = sum(1 << (number - 1) for number in _ENDING)


def is_told_to_stop(status: bytes) -> bool:
    """Say of a thread's /proc/TID/status whether a signal that ends programs is pending and not blocked."""
    masks = {b"SigPnd": 0, b"ShdPnd": 0, b"SigBlk": 0}
    for line in status.splitlines():
        name, _, value = line.partition(b":")
        if name in masks:
            masks[name] = int(value, 16)
    pending = masks[b"SigPnd"] | masks[b"ShdPnd"]
    return bool(pending & ~masks[b"SigBlk"] & _ENDING_MASK)


_EXITING = 0x4  # PF_EXITING of proc_pid_stat(5), flags


def is_exiting(tid: int) -> bool:
    """Whether a thread is on its way out and closes what it left open: no signal reaches it any more."""
    try:
        fields = Path(f"/proc/{tid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return True
    return bool(int(fields[6]) & _EXITING)


def caller_is_told_to_stop(tid: int) -> bool:
    """Whether a signal that ends programs is pending for the thread.

    A thread that cannot be seen (gone, or in another PID namespace) counts as told to stop: Ctrl-C in a container must
    not hang, and EINTR there is the lesser evil.
    """
    try:
        return is_told_to_stop(Path(f"/proc/{tid}/status").read_bytes())
    except OSError:
        return True


def is_thumbnailer(arguments: list[bytes]) -> bool:
    """Whether a command line is that of a thumbnailer: most say so in their name, KDE's in an argument."""
    if not arguments:
        return False
    program = arguments[0].rpartition(b"/")[2]
    if program.startswith(b"kio"):
        return any(b"thumbnail" in argument for argument in arguments[1:])
    return b"thumbnail" in program or program.startswith(b"tumbler")


def asks_for_thumbnail(tid: int) -> bool:
    """Whether the thread belongs to a thumbnailer; one whose command line cannot be read does not."""
    try:
        return is_thumbnailer(Path(f"/proc/{tid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0"))
    except OSError:
        return False
