"""What people and programs ask of the outbox: counts and lists, send at once, wait, retry, discard.

Paths are those that programs see, from the root of the mount, with `/` between the components; the empty path is the
root, and so everything.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import trio

from procorefs.journal.change import Change, Pending
from procorefs.journal.states import MOVING, STUCK, TO_DISCARD, TO_RETRY, ChangeState
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.upload.attempts import Attempts
from procorefs.upload.counters import Counters
from procorefs.upload.item_states import ItemStates
from procorefs.upload.items import Counts, Item, is_at_or_below
from procorefs.upload.outcomes import Refused
from procorefs.upload.planning.queue import Queue
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

ITEMS_AT_ONCE = 256
"""Changes that are looked at before other tasks get a turn: a hundred thousand may wait."""

DRAINED_LOOK_S = 0.5


class _Asked(NamedTuple):
    """When `settled` was asked for."""

    begun: int
    """Tries that had begun by then (attempts.py)."""
    at_s: float
    """By clocks.unix_s."""
    sequence: int
    """Of the last entry of bytes in the journal."""


class Commands:
    """Answers the commands, fsync and status."""

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
        """Everything, by state; costs no look through the journal."""
        self._states.count_new()
        return self._counters.counts(self._attempts.warning, self._attempts.pace_s())

    def stuck(self) -> list[Item]:
        """All items whose state is in STUCK, oldest first."""
        items = (self._states.item(self._view.change(inode)) for inode in self._counters.inodes(STUCK))
        stuck = [item for item in items if item is not None and item.state in STUCK]
        return sorted(stuck, key=lambda item: item.since)

    def items(self) -> Iterator[tuple[Change, Item]]:
        """All changes that count, with their items."""
        for change in self._view.changes():
            item = self._states.item(change)
            if item is not None:
                yield change, item

    def waiting(self, below: Sequence[str]) -> list[Item]:
        """All items at or below these paths, in any state; a moved or removed one also below where it was."""
        return [item for _, item in self.items() if is_at_or_below(item.path, below)]

    def progress(self, inode: Inode) -> tuple[int, int]:
        """Differs from an earlier answer when a try of the inode has succeeded or bytes of it were sent."""
        transfer = self._attempts.transfers.get(inode)
        number = transfer.number if transfer is not None else None
        return self._attempts.last_done(inode), self._counters.sent_bytes(number)

    def moves(self) -> bool:
        """Whether anything gets on by itself."""
        self._states.count_new()
        return any(self._states.moves(inode) for inode in self._counters.inodes(MOVING))

    # At once

    def hurry(self, below: Sequence[str]) -> None:
        """Send at once what waits its time (write_back, deletes, backoff) at or below these paths.

        Once: what is changed afterwards waits again. `held` stays held.
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
        """Send one change without waiting its time."""
        self._attempts.hurry(inode, self._view.change(inode))
        self._queue.touched(inode)

    async def settled(self, below: Sequence[str]) -> list[Item]:
        """Hurry, and wait until nothing that is now at or below these paths can move; returns what is left of it.

        May be cancelled at any time, without effect.
        """
        for inode in self._dirty_files.written:
            if is_at_or_below(self._view.path(inode), below):
                await self._edits.sessions.flush(inode)
        asked = _Asked(self._attempts.begun, clocks.unix_s(), self._edits.changes.sequence)
        wanted = []
        for number, (change, item) in enumerate(self.items()):
            if is_at_or_below(item.path, below):
                wanted.append(change)
                # also what is just being sent: newer bytes, of a program that goes on writing, come after it
                if item.state in (ChangeState.PENDING, ChangeState.CHECKED_OUT, ChangeState.UPLOADING):
                    self.hurry_one(change.inode)
            if number % ITEMS_AT_ONCE == ITEMS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        wanted = [change for change in wanted if not await self._arrived(change, asked)]
        unwanted = self._edits.takeover.take_unwanted()
        for change in filter(None, map(self._view.change, unwanted)):
            self.hurry_one(change.inode)
            await self._arrived(change, asked)
        left = (
            self._states.item(self._view.change(inode))
            for inode in {*(one.inode for one in wanted), *unwanted}
        )
        return [item for item in left if item is not None]

    async def _arrived(self, wanted: Change, asked: _Asked) -> bool:
        """Wait until a change does not move any more, or what was wanted of it when it was asked for is in Procore.

        False: something of that may be left. A program that writes on and on keeps nobody waiting; a handle that was
        released late, because the kernel waits for nothing there, is no writing. The document may become another inode
        meanwhile.
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
        """Wait until what is wanted of an inode now is in Procore; raises why it is not, once that is known."""
        wanted = self._view.change(inode)
        if wanted is None:
            return
        if wanted.state is not ChangeState.FAILED:  # only a `retry` tries that again
            self.hurry_one(inode)
        while self._states.moves(wanted.inode):  # the document may become another inode
            await self._attempts.news_of(wanted.inode)
        change = self._view.change(wanted.inode)
        if change is not None and self._states.state(change) in TO_RETRY:
            raise self._attempts.error_of(inode) or Refused(self._states.reason(change))

    async def drained(self) -> None:
        """Wait until nothing is left that gets on by itself."""
        while self.moves():  # noqa: ASYNC110 - it is about all changes: there is no one event for that
            await trio.sleep(DRAINED_LOOK_S)

    # Once more, or not at all

    def retry(self, below: Sequence[str]) -> list[Item]:
        """Send what is failed, incomplete or checked out at or below these paths; returns what it was.

        What these wait for, wherever it is, is sent as well.
        """
        found = []
        for change, item in list(self.items()):
            if item.state in TO_RETRY and is_at_or_below(item.path, below):
                found.append(item)
                before = self._states.failed_blocker(change.inode)
                self._retry(change)
                if before is not None:
                    self._retry(before)
        return found

    def _retry(self, change: Change) -> None:
        if change.is_idle:  # a refused removal that was taken back: there is nothing left to do
            self._edits.changes.settle(change)
            return
        self._edits.sessions.promise(change.inode)  # as `settled` does with what is being written
        self._edits.sessions.promise_incomplete(change)
        change.step(Pending())
        change.touch()
        if change.used_upload is None:
            change.drop_upload()
        self._edits.changes.save_if_current(change)
        self.hurry_one(change.inode)

    def discard(self, below: Sequence[str]) -> list[Item]:
        """Throw away what is failed, incomplete or held at or below these paths; returns what it was.

        The tree shows what Procore has again. What moves is never touched.
        """
        found = []
        items = {change.inode: item for change, item in self.items()}
        for inode, item in items.items():
            change = self._view.change(inode)
            if change is None or not is_at_or_below(item.path, below):
                continue
            going = [change, *self._placed_in(change)]
            is_free = not any(self._dirty_files.is_open(one.inode) for one in going)
            if is_free and item.state in TO_DISCARD:
                found += [items[one.inode] for one in going if one.inode in items]
                for one in reversed(going):
                    self._results.dismiss(one)
        return found

    def _placed_in(self, change: Change) -> list[Change]:
        """What has no place any more when a folder goes that never was in Procore; folders before what is in them."""
        if not change.is_folder or change.document is not None:
            return []
        below = (self._view.change(node.inode) for node in self._view.descendants(change.inode))
        return [one for one in below if one is not None]
