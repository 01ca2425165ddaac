"""Aborts a FUSE connection: the daemon does it at shutdown, the guard process when the daemon died or hangs.

Only an abort ends every waiting request and frees threads that are blocked in a kernel notification. The kernel names a
connection by the mount's device number. With fusectl mounted, the connection's owner aborts it through
/sys/fs/fuse/connections/N/abort; otherwise root does it with umount2(MNT_FORCE | MNT_DETACH). Neither way calls the
filesystem, so both work while it hangs. The code is in C (src/guard.c), because the guard is a process without Python.
"""

import contextlib
import errno
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from procorefs.kernel.bridge.native import abort_connection, start_guard
from procorefs.storage.blocking_work import loop_waits
from procorefs.storage.mountinfo import Mount, read_mounts

log = logging.getLogger(__name__)

GUARD_TIMEOUT_S = 60.0
"""A loop that has not run for this time counts as hung: long, because the guard's decision is final."""

_BEATS_A_TIMEOUT = 12


class NotMounted(Exception):
    """No FUSE filesystem is mounted there."""


@dataclass(slots=True, frozen=True)
class Connection:
    """A FUSE connection by the kernel's names, so that it is found again without a call into the mount."""

    device: bytes
    """The device number as in mountinfo, such as `0:43`."""
    mounted: bytes
    """The mount point as in mountinfo, escaped."""
    mountpoint: bytes

    @property
    def number(self) -> int:
        return int(self.device.partition(b":")[2])

    @property
    def fields(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The arguments of guard.c: the three fields, and the file that aborts the connection."""
        abort_file = b"/sys/fs/fuse/connections/%d/abort" % self.number
        return self.device, self.mounted, self.mountpoint, abort_file

    def abort(self) -> bool:
        """End all requests of the connection. Returns whether that succeeded; logs why it did not."""
        error = abort_connection(*self.fields)
        if error not in {0, errno.ENOENT}:  # ENOENT: it is gone already
            log.warning(
                "The FUSE connection of %s could not be aborted (%s): mount fusectl on"
                " /sys/fs/fuse/connections, or unmount as root.",
                os.fsdecode(self.mountpoint),
                os.strerror(error),
            )
        return error == 0


def find_connection(mountpoint: Path, mounts: Iterable[Mount] | None = None) -> Connection:
    """Find the connection in the kernel's list of mounts, without a call into the mount. Raises NotMounted.

    *mountpoint* is absolute and free of symbolic links (resolved before it was mounted on).
    """
    found = None
    for mount in read_mounts() if mounts is None else mounts:
        if mount.is_fuse and mount.mountpoint == mountpoint:
            found = mount  # a later one covers an earlier one
    if found is None:
        raise NotMounted(f"No FUSE filesystem is mounted at {mountpoint}.")
    return Connection(device=found.device, mounted=found.escaped, mountpoint=os.fsencode(mountpoint))


class Guard:
    """A process that aborts the connection when this one dies, even by kill -9, or its loop hangs.

    Start it on the main thread, early (it keeps a copy of the process's memory) and after the daemon has its final
    process id. The end of the `with` ends it without an abort; this must be the last step, after the unmount.
    """

    __slots__ = ("_pipe_fd", "_timeout_s", "pid")

    def __init__(self, connection: Connection, timeout_s: float = GUARD_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._pipe_fd: int | None
        self.pid, self._pipe_fd = start_guard(connection.fields, timeout_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send the guard heartbeats, until cancelled."""
        task_status.started()
        with self._beating_for_the_disk():
            while self._beat():  # noqa: ASYNC110  (a clock is what is wanted)
                await trio.sleep(self._timeout_s / _BEATS_A_TIMEOUT)
        log.warning("The guard process %d has ended: a hang will not end automatically any more.", self.pid)
        self.dismiss()

    @contextlib.contextmanager
    def _beating_for_the_disk(self) -> Iterator[None]:
        """Send heartbeats from a thread while the loop waits for a slow disk."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(self._timeout_s / _BEATS_A_TIMEOUT):
                if loop_waits.is_active():
                    self._beat()

        thread = threading.Thread(target=beat, name="guard-disk", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def dismiss(self) -> None:
        """End the guard without aborting, and reap it. May be called again."""
        if self._pipe_fd is None:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)  # first: it would take the closed pipe for the daemon's death
            os.waitpid(self.pid, 0)
        os.close(self._pipe_fd)
        self._pipe_fd = None

    def _beat(self) -> bool:
        """Send a heartbeat; returns whether the guard still runs."""
        if self._pipe_fd is None:
            return False
        try:
            os.write(self._pipe_fd, b"\n")
        except BlockingIOError:
            pass  # the pipe is full of heartbeats
        except BrokenPipeError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dismiss()
