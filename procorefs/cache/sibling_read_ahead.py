"""Downloads the next files of a folder when a program reads its files one after the other.

    open ─▶ sequence of the folder ─▶ third file in order? ─▶ the next files ─▶ queue ─▶ workers ─▶ chunk cache

A small file costs its reader whole round trips to the storage and hardly any bytes, so a copy tool that reads files one
by one mostly waits. Copy tools read in one of two orders: as the folder is listed (cp -r, tar), or by name (rsync, a
shell's `*`). Bytes that are not read are wasted, so downloads begin with the third file that is read to its end in one
order, and end with that order. A program that continues with the first file of another folder keeps its order.

A program that reads the head of each file, as file managers do to find out its type, gets the heads of the next files.
"""

import enum
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import cachetools
import trio

from procorefs.cache.chunks import MIB, SNIFF_BYTES
from procorefs.cache.reader import ContentReader, Reader
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import Version

log = logging.getLogger(__name__)

FOLDERS = 64
"""Sequences kept; to forget one costs its reader a few round trips."""

BEGIN_RUN = 2
"""Downloads begin after this many steps from one file to the next in order."""

MOST_FILES_AHEAD = 16
LARGEST_BYTES = 4 * MIB
"""Larger files are read ahead well enough while they are read."""

WORKERS = 6
"""Downloads at a time; they share the content reader's streams with waiting readers."""


class Order(enum.Enum):
    """The order in which a program reads a folder."""

    LISTED = enum.auto()
    NAMED = enum.auto()


class Position(NamedTuple):
    """A file in its folder."""

    folder: int
    inode: int
    name: bytes


Following = Callable[[Position, Order, int], list[tuple[Position, Version]]]
"""The files of the folder that come after a position in that order, at most so many."""


@dataclass(slots=True)
class _Sequence:
    """The files of one folder that are read one after the other."""

    position: Position
    reader: Reader
    orders: frozenset[Order] = frozenset(Order)
    """The orders that all steps so far fit."""
    run: int = 0
    ahead: deque[Position] = field(default_factory=deque)
    """Files that are downloaded ahead and not opened yet."""
    end: Position | None = None
    """The last file that is downloaded ahead."""
    heads: bool = False
    """Only the heads of large files are read."""


class SiblingReadAhead:
    """Recognises sequences and downloads what comes next; `run` must run."""

    def __init__(self, content: ContentReader, following: Following) -> None:
        self._content = content
        self._following = following
        self._latest: _Sequence | None = None
        self._sequences: cachetools.LRUCache[int, _Sequence] = cachetools.LRUCache(FOLDERS)
        self._send, self._receive = trio.open_memory_channel[tuple[Version, bool]](2 * MOST_FILES_AHEAD)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)
            task_status.started()

    def opened(self, position: Position, reader: Reader) -> None:
        """A file was opened for reading. Asks the tree only within a sequence."""
        sequence = self._sequences.get(position.folder)
        orders = self._orders(sequence, sequence.position, position) if sequence is not None else frozenset()
        if sequence is not None and orders:
            sequence.run += 1
            sequence.heads = _reads_heads(sequence)
            sequence.orders, sequence.position, sequence.reader = orders, position, reader
            while sequence.ahead and sequence.ahead.popleft() != position:
                pass
        else:
            sequence = self._sequences[position.folder] = self._begin(position, reader)
        self._latest = sequence
        if sequence.run >= BEGIN_RUN and self._content.keeps_ahead:
            self._download_ahead(sequence, min(sequence.orders, key=lambda order: order.value))

    def _begin(self, position: Position, reader: Reader) -> _Sequence:
        """A sequence of one file; it continues the latest one if it starts where that would continue."""
        latest = self._latest
        if latest is not None and latest.run >= BEGIN_RUN and latest.position.folder != position.folder:
            orders = self._orders(latest, Position(position.folder, 0, b""), position)
            if orders:
                return _Sequence(position, reader, orders, latest.run)
        return _Sequence(position, reader)

    def _orders(self, sequence: _Sequence, before: Position, position: Position) -> frozenset[Order]:
        """The orders in which `position` comes right after `before`, if the file before was read: all, or its head."""
        reader = sequence.reader
        if position == before or not (reader.is_read_through or reader.has_read_head_only):
            return frozenset()
        if before == sequence.position and sequence.ahead and sequence.ahead[0] == position:
            return sequence.orders  # downloaded ahead: the tree need not be asked
        return frozenset(
            order
            for order in sequence.orders
            if [following for following, _ in self._following(before, order, 1)] == [position]
        )

    def _download_ahead(self, sequence: _Sequence, order: Order) -> None:
        room = min(MOST_FILES_AHEAD, 2**sequence.run) - len(sequence.ahead)
        if room <= 0:
            return
        start = sequence.end if sequence.ahead and sequence.end is not None else sequence.position
        for position, version in self._following(start, order, room):
            sequence.ahead.append(position)
            sequence.end = position
            if self._is_done(version, heads=sequence.heads):
                continue
            try:
                self._send.send_nowait((version, sequence.heads))
            except trio.WouldBlock:
                return  # the workers are behind: waiting readers need the storage more

    def _is_done(self, version: Version, *, heads: bool) -> bool:
        """Whether nothing of the version is to be downloaded ahead."""
        if heads:
            return self._content.holds_head(version)
        return version.size_bytes > LARGEST_BYTES or self._content.holds(version)

    async def _work(self) -> None:
        async for version, heads in self._receive:
            try:
                await self._fetch(version, heads=heads)
            except ProcoreError as error:
                log.debug("Version %d was not read ahead: %s", version.id, error)

    async def _fetch(self, version: Version, *, heads: bool) -> None:
        if self._is_done(version, heads=heads):
            return
        reader = self._content.open(version)
        try:
            if heads:
                await reader.read(0, 1)  # brings the first chunk
                return
            for offset in range(0, version.size_bytes, MIB):
                await reader.read(offset, MIB)
        finally:
            reader.close()


def _reads_heads(sequence: _Sequence) -> bool:
    """Whether only heads are read, as the file shows that is the sequence's last one now; a small one tells nothing."""
    if not sequence.reader.is_read_through:
        return True
    return sequence.heads and sequence.reader.size_bytes <= SNIFF_BYTES
