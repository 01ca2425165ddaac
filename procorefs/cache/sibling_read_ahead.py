"""Reading ahead over files: who reads one file of a folder after the other soon has the next ones at hand.

    open ─▶ trail of the folder ─▶ third file in a row? ─▶ the next files ─▶ queue ─▶ a few workers ─▶ chunk cache

A small file costs its reader whole round trips to the storage and hardly any bytes, so a copy tool that reads them one
by one mostly waits. Copy tools go in one of two orders: as the folder is listed (cp -r, tar), or by name (rsync, a
shell's `*`). Bytes that nobody reads are wasted, so it begins with the third file read through in a row, and ends with
the row; but who goes on with the first file of another folder goes on in the same manner.
"""

import enum
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cachetools
import trio

from procorefs.cache.chunks import MIB
from procorefs.cache.reader import ContentReader, Reader
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import Version

log = logging.getLogger(__name__)

FOLDERS = 64
"""Trails kept; to forget one costs somebody a few round trips."""

BEGIN_RUN = 2
"""So many steps from one file to the next in order make a row."""

MOST_FILES_AHEAD = 16
LARGEST_BYTES = 4 * MIB
"""Larger files are read ahead well enough while they are read."""

WORKERS = 6
"""Downloads at a time; they share the content reader's streams with those who wait."""


class Order(enum.Enum):
    """How somebody goes through a folder."""

    LISTED = enum.auto()
    NAMED = enum.auto()


class Position(NamedTuple):
    """A file in its folder."""

    folder: int
    inode: int
    name: bytes


Following = Callable[[Position, Order, int], list[tuple[Position, Version]]]
"""At most so many files of the folder that come after a position in that order."""


@dataclass(slots=True)
class _Trail:
    """How a folder is being gone through."""

    position: Position
    reader: Reader
    orders: frozenset[Order] = frozenset(Order)
    """Those that every step of the row was in."""
    run: int = 0
    ahead: deque[Position] = field(default_factory=deque)
    """Files sent ahead of the reader that it has not opened yet."""
    end: Position | None = None
    """The last file sent ahead."""


class SiblingReadAhead:
    """Notices rows of files and downloads what comes next; forgets them as easily."""

    def __init__(self, content: ContentReader, following: Following) -> None:
        self._content = content
        self._following = following
        self._latest: _Trail | None = None
        self._trails: cachetools.LRUCache[int, _Trail] = cachetools.LRUCache(FOLDERS)
        self._send, self._receive = trio.open_memory_channel[Version](2 * MOST_FILES_AHEAD)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)
            task_status.started()

    def opened(self, position: Position, reader: Reader) -> None:
        """A file was opened for reading; costs a look into the tree, and only within a row."""
        trail = self._trails.get(position.folder)
        orders = self._orders(trail, trail.position, position) if trail is not None else frozenset()
        if trail is not None and orders:
            trail.run += 1
            trail.orders, trail.position, trail.reader = orders, position, reader
            while trail.ahead and trail.ahead.popleft() != position:
                pass
        else:
            trail = self._trails[position.folder] = self._begin(position, reader)
        self._latest = trail
        if trail.run >= BEGIN_RUN and self._content.keeps_ahead:
            self._send_ahead(trail, min(trail.orders, key=lambda order: order.value))

    def _begin(self, position: Position, reader: Reader) -> _Trail:
        """A trail of one file; it takes over the row of the latest one if it starts where that would go on."""
        latest = self._latest
        if latest is not None and latest.run >= BEGIN_RUN and latest.position.folder != position.folder:
            orders = self._orders(latest, Position(position.folder, 0, b""), position)
            if orders:
                return _Trail(position, reader, orders, latest.run)
        return _Trail(position, reader)

    def _orders(self, trail: _Trail, before: Position, position: Position) -> frozenset[Order]:
        """The orders of a row, whose last file was read through, in which `position` comes right after `before`."""
        if position == before or not trail.reader.is_read_through:
            return frozenset()
        if before == trail.position and trail.ahead and trail.ahead[0] == position:
            return trail.orders  # just what was sent ahead: no look into the tree
        return frozenset(
            order
            for order in trail.orders
            if [following for following, _ in self._following(before, order, 1)] == [position]
        )

    def _send_ahead(self, trail: _Trail, order: Order) -> None:
        room = min(MOST_FILES_AHEAD, 2**trail.run) - len(trail.ahead)
        if room <= 0:
            return
        start = trail.end if trail.ahead and trail.end is not None else trail.position
        for position, version in self._following(start, order, room):
            trail.ahead.append(position)
            trail.end = position
            if version.size_bytes > LARGEST_BYTES or self._content.holds(version):
                continue
            try:
                self._send.send_nowait(version)
            except trio.WouldBlock:
                return  # the workers are behind: those who wait need the storage more

    async def _work(self) -> None:
        async for version in self._receive:
            try:
                await self._fetch(version)
            except ProcoreError as error:
                log.debug("Version %d was not read ahead: %s", version.id, error)

    async def _fetch(self, version: Version) -> None:
        if self._content.holds(version):
            return
        reader = self._content.open(version)
        try:
            for offset in range(0, version.size_bytes, MIB):
                await reader.read(offset, MIB)
        finally:
            reader.close()
