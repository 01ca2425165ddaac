"""Answers what people and programs ask of the outbox: counts and lists, send at once, wait, retry, discard.

Paths are those that programs see, from the root of the mount, with `/` between the components. The empty path is the
root and means everything.
"""

import heapq
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import trio

from procorefs.journal.change import Change, Pending
from procorefs.journal.states import MOVING, TO_DISCARD, TO_RETRY, ChangeState
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.upload.attempts import Attempts
from procorefs.upload.counters import Counters
from procorefs.upload.item_states import ItemStates, staged_bytes
from procorefs.upload.items import Counts, Item, is_at_or_below
from procorefs.upload.outcomes import Refused
from procorefs.upload.planning.queue import Queue
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

ITEMS_AT_ONCE = 256
"""How many changes are handled before other tasks get a turn: a hundred thousand may wait."""

DRAINED_LOOK_S = 0.5


class _Asked(NamedTuple):
    """The moment at which `settled` was called."""

    begun: int
    """How many tries had begun (attempts.py)."""
    at_s: float
    """The time, by clocks.unix_s."""
    sequence: int
    """The sequence of the journal's last entry of bytes."""


class RunningUpload(msgspec.Struct, frozen=True):
    """A file whose bytes are being sent."""

    path: str
    sent_bytes: int
    size_bytes: int
    seconds: float
    """Since its try began."""

    @property
    def left_s(self) -> float | None:
        """Seconds until all bytes are sent, at the pace so far; None: unknown."""
        if not self.sent_bytes or not self.seconds:
            return None
        return (self.size_bytes - self.sent_bytes) * self.seconds / self.sent_bytes


class Commands:
    """The commands; also used by fsync and status."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        edits: LocalEdits,
        queue: Queue,
        attempts: Attempts,
        counters: Counters,
        states: ItemStates,
        results: ResultApplier,
    ) -> None:
        self._view = view
        self._dirty_files = dirty_files
        self._edits = edits
        self._queue = queue
        self._attempts = attempts
        self._counters = counters
        self._states = states
        self._results = results

    # Questions

    def counts(self) -> Counts:
        """The counts by state, without a scan of the journal."""
        self._states.count_new()
        return self._counters.counts(self._attempts.warning, self._attempts.pace_s())

    def stuck(self, states: Collection[ChangeState], most: int) -> list[Item]:
        """The oldest items in these states, except those that the delete guard itself holds.

        Only these get a path and a reason, because a hundred thousand may be stuck.
        """
        self._states.count_new()
        changes = (self._view.change(inode) for inode in self._counters.inodes(states))
        named = (
            change for change in changes if change is not None and change.state is not ChangeState.GUARDED
        )
        oldest = heapq.nsmallest(most, named, key=lambda change: change.since_s)
        items = (self._states.item(change) for change in oldest)
        return [item for item in items if item is not None and item.state in states]

    def items(self) -> Iterator[tuple[Change, Item]]:
        """All changes that count, each with its item."""
        for change in self._view.changes():
            item = self._states.item(change)
            if item is not None:
                yield change, item

    def waiting(self, below: Sequence[str]) -> list[Item]:
        """All items at or below these paths, in any state; a moved or removed item also below its old place."""
        return [item for _, item in self.items() if is_at_or_below(item.path, below)]

    def progress(self, inode: Inode) -> tuple[int, int]:
        """A value that changes when a try of the inode succeeds or bytes of it are sent."""
        transfer = self._attempts.transfers.get(inode)
        number = transfer.number if transfer is not None else None
        return self._attempts.last_done(inode), self._counters.sent_bytes(number)

    def uploads(self, most: int) -> list[RunningUpload]:
        """The first of the uploads that run."""
        return [
            RunningUpload(
                self._states.path(transfer.change),
                self._counters.sent_bytes(transfer.number),
                staged_bytes(transfer.change),
                trio.current_time() - transfer.began_s,
            )
            for transfer in islice(self._attempts.transfers.values(), most)
        ]

    def moves(self) -> bool:
        """Whether anything waits that is sent automatically."""
        self._states.count_new()
        return any(self._states.moves(inode) for inode in self._counters.inodes(MOVING))

    # At once

    def hurry(self, below: Sequence[str]) -> None:
        """Send at once what is delayed (write_back, deletes, backoff) at or below these paths.

        What is changed afterwards is delayed again. `held` changes stay held.
        """
        self._states.count_new()
        is_all = any(not folder for folder in below)
        for inode in self._counters.inodes((ChangeState.PENDING, ChangeState.CHECKED_OUT)):
            change = self._view.change(inode)
            if change is None or self._attempts.was_hurried(inode):
                continue
            if is_all or is_at_or_below(self._states.path(change), below):
                self.hurry_one(inode)

    def hurry_one(self, inode: Inode) -> None:
        """Send one change without its delay."""
        self._attempts.hurry(inode, self._view.change(inode))
        self._queue.touched(inode)

    async def settled(self, below: Sequence[str]) -> list[Item]:
        """Hurry what is at or below these paths, wait until it is sent or cannot be, and return what is left.

        May be cancelled at any time without effect.
        """
        for inode in self._dirty_files.written:
            if is_at_or_below(self._view.path(inode), below):
                await self._edits.sessions.flush(inode)
        asked = _Asked(self._attempts.begun, clocks.unix_s(), self._edits.changes.sequence)
        wanted = []
        for number, (change, item) in enumerate(self.items()):
            if is_at_or_below(item.path, below):
                wanted.append(change)
                # also a change that is being sent: its newer bytes are sent after that
                if item.state in (ChangeState.PENDING, ChangeState.CHECKED_OUT, ChangeState.UPLOADING):
                    self.hurry_one(change.inode)
            if number % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        wanted = [change for change in wanted if not await self._arrived(change, asked)]
        unwanted = self._edits.takeover.take_unwanted()
        for change in filter(None, map(self._view.change, unwanted)):
            self.hurry_one(change.inode)
            await self._arrived(change, asked)
        self._results.show_changed_folders()
        left = (
            self._states.item(self._view.change(inode))
            for inode in {*(one.inode for one in wanted), *unwanted}
        )
        return [item for item in left if item is not None]

    async def _arrived(self, wanted: Change, asked: _Asked) -> bool:
        """Wait until a change is stuck, or what was wanted of it at `asked` is in Procore. False: a part may be
        left.

        Later writes of a program that keeps writing are not waited for. A late release is not a write. The document
        may get another inode meanwhile.
        """
        while self._states.moves(inode := wanted.inode):
            change = self._view.change(inode)
            if change is not None and change.touched_at_s > asked.at_s:
                if change.sequence > asked.sequence and self._attempts.last_done(inode) > asked.begun:
                    return True
                self.hurry_one(inode)
            await self._attempts.news_of(inode)
        return False

    async def reached(self, inode: Inode) -> None:
        """Wait until what is wanted of an inode now is in Procore. Raises the reason once it is known that it fails."""
        wanted = self._view.change(inode)
        if wanted is None:
            return
        if wanted.state is not ChangeState.FAILED:  # only `retry` sends it again
            self.hurry_one(inode)
        while self._states.moves(wanted.inode):  # the document may get another inode
            await self._attempts.news_of(wanted.inode)
        change = self._view.change(wanted.inode)
        if change is not None and self._states.state(change) in TO_RETRY:
            raise self._attempts.error_of(inode) or Refused(self._states.reason(change))

    async def drained(self) -> None:
        """Wait until nothing is left that is sent automatically."""
        while self.moves():  # noqa: ASYNC110 - it is about all changes: there is no one event for that
            await trio.sleep(DRAINED_LOOK_S)

    # Once more, or not at all

    async def _items_below(self, below: Sequence[str]) -> list[tuple[Change, Item]]:
        """All changes at or below these paths that count, with their items."""
        found = []
        for number, change in enumerate(self._view.changes(), 1):
            if number % ITEMS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            item = self._states.item(change) if self._view.change(change.inode) is change else None
            if item is not None and is_at_or_below(item.path, below):
                found.append((change, item))
        return found

    async def retry(self, below: Sequence[str]) -> list[Item]:
        """Send what is failed, incomplete, checked out or guarded at or below these paths, and return it.

        What these changes wait for is sent as well, wherever it is.
        """
        found = []
        for number, (change, item) in enumerate(await self._items_below(below), 1):
            if number % ITEMS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            if item.state in TO_RETRY and self._view.change(change.inode) is change:
                found.append(item)
                before = self._states.failed_blocker(change.inode)
                self._retry(change)
                if before is not None:
                    self._retry(before)
        return found

    def _retry(self, change: Change) -> None:
        if change.is_idle:  # a refused removal that was taken back: nothing is left to do
            self._edits.changes.settle(change)
            return
        self._edits.sessions.promise(change.inode)  # as `settled` does for a file that is being written
        self._edits.sessions.promise_incomplete(change)
        change.step(Pending())
        change.touch()
        change.passes_guard = True
        if change.used_upload is None:
            change.drop_upload()
        self._edits.changes.save_if_current(change)
        self.hurry_one(change.inode)

    async def discard(self, below: Sequence[str]) -> list[Item]:
        """Throw away what is failed, incomplete, held or guarded at or below these paths, and return it.

        The mount shows again what Procore has, and the folders above deletions that the delete guard holds. Changes
        that are sent automatically are left alone, and so are changes that only wait for one that the guard holds.
        """
        found = []
        items = {change.inode: item for change, item in await self._items_below(below)}
        for number, (inode, item) in enumerate(items.items(), 1):
            if number % ITEMS_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            change = self._view.change(inode)
            if change is None or inode in self._queue.sending:
                continue
            if item.state is ChangeState.GUARDED and change.is_removed:
                found += self._take_back(change)
                continue
            if item.state is ChangeState.GUARDED and change.state is not ChangeState.GUARDED:
                continue
            going = [change, *self._placed_in(change)]
            is_free = not any(self._dirty_files.is_open(one.inode) for one in going)
            if is_free and item.state in TO_DISCARD:
                found += [items[one.inode] for one in going if one.inode in items]
                for one in reversed(going):
                    self._results.dismiss(one)
        return found

    def _take_back(self, change: Change) -> list[Item]:
        """Show a removed document again, and the removed folders that Procore has it in; returns what they were."""
        above = (self._view.change(folder) for folder, _ in self._view.store.place(change.inode) or ())
        going = [change, *(one for one in above if one is not None and one.is_removed)]
        items = [self._states.item(one) for one in going]
        for one in reversed(going):
            self._edits.takeover.leave_inside(one)
            self._results.dismiss(one)
        return [item for item in items if item is not None]

    def _placed_in(self, change: Change) -> list[Change]:
        """The changes below a folder that never was in Procore, which end with it; folders before their entries."""
        if not change.is_folder or change.document is not None:
            return []
        below = (self._view.change(node.inode) for node in self._view.descendants(change.inode))
        return [one for one in below if one is not None]
