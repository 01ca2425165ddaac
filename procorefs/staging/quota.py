"""Limits the staged bytes: decides which writes wait until uploads have freed some, and which fail.

    take() ─▶ within the reserve? ─▶ else check limit and disk ─▶ else wait_for(): a queue, which freed() grants

A write waits only while the outbox makes progress and can free something; otherwise it fails immediately.
"""

import enum
import errno
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

import trio

from procorefs.cache.chunks import MIB

PATIENCE_S = 60.0
"""How long a writer waits without any progress of the outbox."""

RESERVE_BYTES = 64 * MIB
"""What stays free on the disk, for the journal and the tree on the same disk; a twentieth of a small disk."""

_UNCHECKED_BYTES = 16 * MIB
"""How much is granted between two checks of the disk."""
_RECHECK_S = 1.0
"""How often a waiting write checks the disk and the outlook, which change without an event."""
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StagingFull(Exception):
    """There is no space for more staged bytes; the text says what is full."""


class Outlook(enum.Enum):
    """Whether uploads will free staged bytes."""

    NONE = "none"
    SOON = "soon"
    PACED = "paced"
    """The call budget limits uploads: a pause does not mean that they have stopped."""


class Quota:
    """Accounts for staged bytes. Waiting is first come, first served, and cancellable."""

    def __init__(
        self, limit_bytes: int, disk: Callable[[], os.statvfs_result], outlook: Callable[[], Outlook]
    ) -> None:
        """`outlook`: whether uploads will free some bytes."""
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        """May exceed the limit: see `take_to_complete` and `put_back`."""
        self._disk = disk
        self._outlook = outlook
        self._unchecked = 0
        """Bytes that may be taken without a check of the disk; 0 while writes wait."""
        self._queue: deque[_Waiter] = deque()
        self._steps = 0
        """Counts the outbox's steps of progress."""

    def take(self, size_bytes: int) -> bool:
        """Take bytes without waiting; False: there is no space, or others wait for it already."""
        if size_bytes <= self._unchecked:
            self._unchecked -= size_bytes
            self.used_bytes += size_bytes
            return True
        if self._queue or not self._fits(size_bytes):
            return False
        self.used_bytes += size_bytes
        left = min(self.limit_bytes - self.used_bytes, self._disk_free() - size_bytes, _UNCHECKED_BYTES)
        self._unchecked = max(left, 0)
        return True

    def left_bytes(self) -> int:
        """How many bytes can be taken now."""
        return max(min(self.limit_bytes - self.used_bytes, self._disk_free()), 0)

    async def wait_for(self, cost: Callable[[], int]) -> int:
        """Wait until the current `cost` fits, and take it; returns how much was taken.

        Raises StagingFull when uploads will not free enough.
        """
        waiter = _Waiter(cost)
        self._queue.append(waiter)
        self._unchecked = 0
        try:
            await self._wait(waiter)
        except BaseException:
            if waiter.granted.is_set():
                self.freed(waiter.size_bytes)
            else:
                self._queue.remove(waiter)
                self._grant()
            raise
        return waiter.size_bytes

    async def take_for(self, cost: Callable[[], int], ready: Callable[[], Awaitable[None]]) -> int:
        """Take the cost of an operation and return right after `ready` has returned.

        The cost may change during each wait, so the result may be more than is needed. Raises StagingFull.
        """
        taken = 0

        def lacking() -> int:
            return max(cost() - taken, 0)

        try:
            while True:
                await ready()
                if self.take(lacking()):
                    return max(cost(), taken)
                taken += await self.wait_for(lacking)
        except BaseException:
            if taken:
                self.freed(taken)
            raise

    def take_to_complete(self, size_bytes: int) -> None:
        """Take bytes of a base version that an upload needs, even beyond the limit: only uploads free any.

        Raises StagingFull when the disk is full.
        """
        if size_bytes > self._disk_free():
            raise StagingFull(self._reason(size_bytes))
        self.put_back(size_bytes)

    def put_back(self, size_bytes: int) -> None:
        """Add bytes that are on the disk already."""
        self.used_bytes += size_bytes
        self._unchecked = max(min(self._unchecked, self.limit_bytes - self.used_bytes), 0)

    def freed(self, size_bytes: int) -> None:
        """Return bytes that are no longer staged."""
        self.used_bytes -= size_bytes
        self.progress()
        self._grant()

    def progress(self) -> None:
        """Note that the outbox made progress: waiting writes continue to wait."""
        self._steps += 1

    async def _wait(self, waiter: "_Waiter") -> None:
        steps, give_up_at = self._steps, trio.current_time() + PATIENCE_S
        self._grant()
        while not waiter.granted.is_set():
            now, size_bytes, outlook = trio.current_time(), waiter.cost(), self._outlook()
            if steps != self._steps or outlook is Outlook.PACED:
                steps, give_up_at = self._steps, now + PATIENCE_S
            if now >= give_up_at or size_bytes > self.limit_bytes or outlook is Outlook.NONE:
                raise StagingFull(self._reason(size_bytes))
            with trio.move_on_after(_RECHECK_S):
                await waiter.granted.wait()
            self._grant()

    def _grant(self) -> None:
        while self._queue:
            waiter = self._queue[0]
            waiter.size_bytes = waiter.cost()
            if not self._fits(waiter.size_bytes):
                return
            self._queue.popleft()
            self.used_bytes += waiter.size_bytes
            waiter.granted.set()

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.limit_bytes and size_bytes <= self._disk_free()

    def _disk_free(self) -> int:
        """Free bytes on the disk beyond the reserve."""
        disk = self._disk()
        reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 20)
        return disk.f_bavail * disk.f_frsize - reserve

    def _reason(self, size_bytes: int) -> str:
        if size_bytes > self._disk_free():
            return f"The disk of the state directory has no space for {size_bytes} bytes beyond its reserve"
        if size_bytes > self.limit_bytes:
            return f"{size_bytes} bytes are more than staging_size allows ({self.limit_bytes})"
        return (
            f"{self.used_bytes} bytes wait for their upload ({self.limit_bytes} at most), and none is moving"
        )


class _Waiter:
    """A waiting write; its cost may change while it waits."""

    __slots__ = ("cost", "granted", "size_bytes")

    def __init__(self, cost: Callable[[], int]) -> None:
        self.cost = cost
        self.size_bytes = 0
        """What was granted."""
        self.granted = trio.Event()


def refuse(error: OSError) -> NoReturn:
    """Raise StagingFull when the disk is full, else the error as it is."""
    if error.errno in _FULL:
        raise StagingFull(f"The disk of the state directory is full ({error.strerror})") from error
    raise error
