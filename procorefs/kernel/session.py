"""Mounts through the bridge, answers requests while the mount exists, and unmounts so that no request hangs."""

import errno
import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import trio

from procorefs.kernel.bridge.connection import Connection, Guard, NotMounted, find_connection
from procorefs.kernel.bridge.native import Bridge, pyfuse3
from procorefs.kernel.bridge.request_polling import poll_requests
from procorefs.kernel.flocks import Flocks
from procorefs.kernel.operations import Operations
from procorefs.storage.processes import give_usual_limit

log = logging.getLogger(__name__)

MOST_REQUESTS = 4096
"""Requests answered at a time; with pyfuse3's default, 99 waiting requests block the mount, interrupts included."""

READ_AHEAD_KIB = 1024
"""The maximum of one FUSE request (max_pages is 256); the kernel's default without root is 128 KiB."""

DETACH_TIMEOUT_S = 5.0

STDERR = 2
MOST_STDERR_BYTES = 4096


class MountRefused(Exception):
    """The kernel, or fusermount3 on its behalf, did not mount."""


class _AbortedRequestFilter(logging.Filter):
    """Drops a harmless log record: the error of answering an aborted request."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "fuse_reply" not in record.msg or os.strerror(errno.ENOENT) not in record.getMessage()


class _MountOption(str):
    """A mount option for libfuse in UTF-8: pyfuse3 encodes options as ASCII."""

    __slots__ = ()

    def encode(self, encoding: str = "", errors: str = "") -> bytes:  # noqa: ARG002 - the signature of str
        """UTF-8, as in /proc/mounts and /etc/fstab, for any `encoding`."""
        return super().encode("utf-8", "surrogateescape")


@contextmanager
def _stderr_noted(lines: list[str]) -> Iterator[None]:
    """Collect the lines that libfuse and fusermount3 write to stderr: they report the reason only there."""
    stderr = os.dup(STDERR)
    captured = os.memfd_create("fuse")
    try:
        os.dup2(captured, STDERR)
        try:
            yield
        finally:
            os.dup2(stderr, STDERR)
            text = os.pread(captured, MOST_STDERR_BYTES, 0)
            os.write(stderr, text)  # for the log
            lines += [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    finally:
        os.close(stderr)
        os.close(captured)


class Session:
    """One mount, for the block of a `with`. Raises MountRefused.

    At the end it first aborts the connection, which ends every waiting request and frees threads that are blocked in a
    notification. Then it unmounts, and last it ends the guard, which would do the same for a dead daemon.
    """

    def __init__(
        self, operations: Operations, flocks: Flocks, mountpoint: Path, mount_options: frozenset[str]
    ) -> None:
        self._operations = operations
        self._flocks = flocks
        self._mountpoint = mountpoint
        self._mount_options = mount_options
        self._ended = trio.Event()
        self._filter = _AbortedRequestFilter()

    def __enter__(self) -> Self:
        bridge = Bridge()
        bridge.set_opendir_policy(self._operations.may_keep_listing)
        bridge.set_writer(self._operations.write_at_once)
        poll_requests(bridge)
        bridge.set_flock_handler(self._flocks.asked, self._flocks.closed)
        said: list[str] = []
        try:
            with _stderr_noted(said):
                pyfuse3.init(
                    self._operations, os.fspath(self._mountpoint), set(map(_MountOption, self._mount_options))
                )
        except RuntimeError as error:
            raise MountRefused(
                f"The kernel did not mount at {self._mountpoint} ({'; '.join(said) or error}): "
                "is /dev/fuse there and usable, and does /etc/fuse.conf allow the options?"
            ) from error
        bridge.check()
        logging.getLogger("pyfuse3").addFilter(self._filter)
        self._connection = find_connection(self._mountpoint)
        self._guard = Guard(self._connection)
        return self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer requests until the mount ends, by an unmount or by `abort`."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._guard.run)
                task_status.started()
                await pyfuse3.main(max_tasks=MOST_REQUESTS)
                nursery.cancel_scope.cancel()
        finally:
            self._ended.set()

    def answered(self) -> None:
        """Make settings that INIT resets; call it after the first answered request."""
        widen_read_ahead(self._connection.device)

    async def ended(self) -> None:
        """Wait until no more requests come."""
        await self._ended.wait()

    @property
    def is_mounted(self) -> bool:
        """Whether the mount point is still in the kernel's list of mounts."""
        return _still_there(self._connection, self._mountpoint)

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.abort()
        _detach(self._connection, self._mountpoint)
        pyfuse3.close(unmount=False)
        logging.getLogger("pyfuse3").removeFilter(self._filter)
        self._guard.dismiss()


def _still_there(connection: Connection, mountpoint: Path) -> bool:
    """Whether our mount is still mounted there, and not a later one."""
    try:
        return find_connection(mountpoint).device == connection.device
    except NotMounted:
        return False


def _detach(connection: Connection, mountpoint: Path) -> None:
    """Unmount, even while programs use the mount."""
    if not _still_there(connection, mountpoint):
        return
    command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    try:
        with subprocess.Popen(
            [*command, "--", os.fspath(mountpoint)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as detaching:
            give_usual_limit(detaching.pid)
            try:
                _, said = detaching.communicate(timeout=DETACH_TIMEOUT_S)
            finally:
                detaching.kill()  # harmless if it has ended
        why = said.strip() if detaching.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        log.error(
            "%s could not be unmounted (%s); run: %s %s", mountpoint, why, " ".join(command), mountpoint
        )


def widen_read_ahead(device: bytes) -> None:
    """Increase the kernel's read-ahead for the mount with this device number ("0:43"), if this process may.

    A READ of 1 MiB costs the daemon as much as one of 128 KiB, so sequential reads get twice the throughput. Single
    reads stay small, because the kernel's window starts small. Call it after the answer to the kernel's INIT, which
    sets the window. (Documentation/ABI/testing/sysfs-class-bdi, read_ahead_kb)
    """
    setting = Path(f"/sys/class/bdi/{device.decode()}/read_ahead_kb")
    try:
        setting.write_text(f"{READ_AHEAD_KIB}\n")
    except OSError as error:
        log.debug("The kernel reads ahead as it does by default (%s: %s).", setting, error.strerror)
