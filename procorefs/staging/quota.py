"""The quota of staged bytes: how many there may be, and which writes wait until uploads have freed some.

    take() ─▶ enough spare? ─▶ else a look at the limit and the disk ─▶ else wait_for(): a line, served by freed()

Waiting makes sense only while the outbox can still free something and gets on; otherwise the writer is told at once.
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
"""So long a writer waits without any progress of the outbox."""

RESERVE_BYTES = 64 * MIB
"""What stays free on the disk, for the journal and the tree that lie beside; of a small disk a twentieth."""

_SPARE_BYTES = 16 * MIB  # taken between two looks at the disk
_LOOK_S = 1.0  # others may free the disk, and `can_free` may change, without a word
_FULL = (errno.ENOSPC, errno.EDQUOT)


class StagingFull(Exception):
    """No room for more staged bytes; the text says what is full."""


class Outlook(enum.Enum):
    """Whether staged bytes will be freed without the writer's help."""

    NONE = "none"
    SOON = "soon"
    PACED = "paced"
    """Uploads go on, at the pace of the call budget: a standstill means nothing."""


class Quota:
    """The books of staged bytes. Waiting is first come, first served, and cancellable."""

    def __init__(
        self, limit_bytes: int, disk: Callable[[], os.statvfs_result], outlook: Callable[[], Outlook]
    ) -> None:
        """`outlook`: whether uploads will free some of it."""
        self.limit_bytes = limit_bytes
        self.used_bytes = 0  # may be over the limit: see `take_to_complete` and `put_back`
        self._disk = disk
        self._outlook = outlook
        self._spare = 0  # may be taken without a look; 0 while somebody waits
        self._line: deque[_Place] = deque()
        self._moves = 0  # counts what the outbox got done

    def take(self, size_bytes: int) -> bool:
        """Take room without waiting; False: there is none, or others wait for it already."""
        if size_bytes <= self._spare:
            self._spare -= size_bytes
            self.used_bytes += size_bytes
            return True
        if self._line or not self._fits(size_bytes):
            return False
        self.used_bytes += size_bytes
        left = min(self.limit_bytes - self.used_bytes, self._disk_room() - size_bytes, _SPARE_BYTES)
        self._spare = max(left, 0)
        return True

    def left_bytes(self) -> int:
        """How much more there is room for now."""
        return max(min(self.limit_bytes - self.used_bytes, self._disk_room()), 0)

    async def wait_for(self, cost: Callable[[], int]) -> int:
        """Take the room that something costs by then, as soon as there is so much; how much it was.

        Raises StagingFull when there will be none.
        """
        place = _Place(cost)
        self._line.append(place)
        self._spare = 0
        try:
            await self._stand(place)
        except BaseException:
            if place.granted.is_set():
                self.freed(place.size_bytes)
            else:
                self._line.remove(place)
                self._serve()
            raise
        return place.size_bytes

    async def take_for(self, cost: Callable[[], int], ready: Callable[[], Awaitable[None]]) -> int:
        """Take as much as something costs and return right after `ready` did; how much was taken, maybe too much.

        What it costs may change at each wait. Raises StagingFull.
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
        """Take room for base bytes that an upload needs: over the limit if need be, for only uploads free any.

        Raises StagingFull when the disk has none.
        """
        if size_bytes > self._disk_room():
            raise StagingFull(self._reason(size_bytes))
        self.put_back(size_bytes)

    def put_back(self, size_bytes: int) -> None:
        """Enter bytes that are on the disk already."""
        self.used_bytes += size_bytes
        self._spare = max(min(self._spare, self.limit_bytes - self.used_bytes), 0)

    def freed(self, size_bytes: int) -> None:
        """So many staged bytes are gone."""
        self.used_bytes -= size_bytes
        self.progress()
        self._serve()

    def progress(self) -> None:
        """The outbox got on, so who waits has reason to."""
        self._moves += 1

    async def _stand(self, place: "_Place") -> None:
        moves, patient_until = self._moves, trio.current_time() + PATIENCE_S
        self._serve()
        while not place.granted.is_set():
            now, size_bytes, outlook = trio.current_time(), place.cost(), self._outlook()
            if moves != self._moves or outlook is Outlook.PACED:
                moves, patient_until = self._moves, now + PATIENCE_S
            if now >= patient_until or size_bytes > self.limit_bytes or outlook is Outlook.NONE:
                raise StagingFull(self._reason(size_bytes))
            with trio.move_on_after(_LOOK_S):
                await place.granted.wait()
            self._serve()

    def _serve(self) -> None:
        while self._line:
            place = self._line[0]
            place.size_bytes = place.cost()
            if not self._fits(place.size_bytes):
                return
            self._line.popleft()
            self.used_bytes += place.size_bytes
            place.granted.set()

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self.limit_bytes and size_bytes <= self._disk_room()

    def _disk_room(self) -> int:
        """Bytes that the disk has beyond the reserve."""
        disk = self._disk()
        reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // 20)
        return disk.f_bavail * disk.f_frsize - reserve

    def _reason(self, size_bytes: int) -> str:
        if size_bytes > self._disk_room():
            return f"The disk of the state directory has no room for {size_bytes} bytes beyond its reserve"
        if size_bytes > self.limit_bytes:
            return f"{size_bytes} bytes are more than staging_size allows ({self.limit_bytes})"
        return (
            f"{self.used_bytes} bytes wait for their upload ({self.limit_bytes} at most), and none is moving"
        )


class _Place:
    """Somebody in line; what it costs may change with what others do meanwhile."""

    __slots__ = ("cost", "granted", "size_bytes")

    def __init__(self, cost: Callable[[], int]) -> None:
        self.cost = cost
        self.size_bytes = 0  # what was granted
        self.granted = trio.Event()


def refuse(error: OSError) -> NoReturn:
    """Raise StagingFull when the disk is full, else the error as it is."""
    if error.errno in _FULL:
        raise StagingFull(f"The disk of the state directory is full ({error.strerror})") from error
    raise error
