"""A system call that may hang, made in a child that is left behind at a deadline.

A call into a mount whose daemon is stuck waits in the kernel, past signals. So nothing here waits for the
child itself: only for the pipe on which it tells the result.
"""

import errno
import os
import select
from collections.abc import Callable


def errno_of(call: Callable[[], object], timeout_s: float) -> int:
    """0 when the call worked, else its errno; ETIMEDOUT when it did not end in time."""
    reader, writer = os.pipe()
    try:
        child = os.fork()
        if child == 0:
            _tell(call, writer)
        os.close(writer)
        if not select.select([reader], [], [], timeout_s)[0]:
            return errno.ETIMEDOUT
        told = os.read(reader, 16)
        os.waitpid(child, 0)
        return int(told) if told else errno.EIO
    finally:
        os.close(reader)


def _tell(call: Callable[[], object], writer: int) -> None:
    number = errno.EIO
    try:
        call()
        number = 0
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        os.write(writer, str(number).encode())
        os._exit(0)
