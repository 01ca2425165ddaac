"""A system call that may hang, run in a child process with a deadline.

A call into a mount whose daemon is stuck waits in the kernel, past signals. So nothing here waits for such a
child: only for the pipe on which it tells the result. It keeps no other file open, for whoever reads our output
would wait for it.
"""

import errno
import os
import select
import signal
from collections.abc import Callable

_DYING_S = 1.0
"""A child in a system call that takes no signal is left behind after this."""


def errno_of(call: Callable[[], object], timeout_s: float) -> int:
    """0 when the call worked, else its errno; ETIMEDOUT when it did not end in time."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _tell(call, writer)
        os.close(writer)
        if not select.select([reader], [], [], timeout_s)[0]:
            _kill(child)
            return errno.ETIMEDOUT
        told = os.read(reader, 16)
        os.waitpid(child, 0)
        return int(told) if told else errno.EIO
    finally:
        os.close(reader)


def _kill(child: int) -> None:
    """End it, and give it the moment that takes: a mount is busy as long as somebody is dying in it."""
    os.kill(child, signal.SIGKILL)
    ending = os.pidfd_open(child)
    try:
        if select.select([ending], [], [], _DYING_S)[0]:
            os.waitpid(child, 0)
    finally:
        os.close(ending)


def _tell(call: Callable[[], object], writer: int) -> None:
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
