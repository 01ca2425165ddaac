"""Runs a system call that may hang in a child process, with a deadline.

A call into a mount whose daemon hangs waits in the kernel and ignores signals. So this code never waits for the child,
only for the pipe with its result. The child keeps no other file open: a reader of our output would wait for it.
"""

import errno
import os
import select
import signal
from collections.abc import Callable

_KILL_S = 1.0
"""A child that does not react to SIGKILL is left behind after this time."""


def errno_of(call: Callable[[], object], timeout_s: float) -> int:
    """0 when the call worked, else its errno; ETIMEDOUT when it did not end in time."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _report(call, writer)
        os.close(writer)
        if not select.select([reader], [], [], timeout_s)[0]:
            _kill(child)
            return errno.ETIMEDOUT
        result = os.read(reader, 16)
        os.waitpid(child, 0)
        return int(result) if result else errno.EIO
    finally:
        os.close(reader)


def _kill(child: int) -> None:
    """Kill the child and wait briefly for its end: a mount is busy until the process has ended."""
    os.kill(child, signal.SIGKILL)
    ending = os.pidfd_open(child)
    try:
        if select.select([ending], [], [], _KILL_S)[0]:
            os.waitpid(child, 0)
    finally:
        os.close(ending)


def _report(call: Callable[[], object], writer: int) -> None:
    number = errno.EIO
    try:
        _keep_only(writer)
        call()
        number = 0
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        os.write(writer, str(number).encode())
        os._exit(0)


def _keep_only(writer: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
