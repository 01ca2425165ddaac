"""What people and programs want of the outbox: at once, until it is done, once more, or not at all."""

from collections.abc import Sequence
from typing import NamedTuple

import trio

from procorefs.journal.change import Change, Stage
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.upload.item_states import ItemStates
from procorefs.upload.items import Item, is_at_or_below
from procorefs.upload.outcomes import Refused

AT_ONCE = 256
"""Changes that are looked at before everybody else gets a turn: a hundred thousand may wait."""


DRAINED_LOOK_S = 0.5


class Moment(NamedTuple):
    """When somebody asked for something."""

    begun: int
    """So many changes had begun to be carried out."""
    at_s: float
    """By clocks.unix_s."""
    sequence: int
    """Of the last entry of bytes in the journal."""


class Commands(ItemStates):
    """Takes orders and waits for what becomes of them."""

    def hurry(self, below: Sequence[str]) -> None:
        self._count_new()
        is_all = any(not folder for folder in below)
        for inode in self._tally.inodes(("pending", "checked_out")):
            change = self._view.change(inode)
            is_hurried = inode in self._hurried and inode not in self._not_before
            if (
                change is not None
                and not is_hurried
                and (is_all or is_at_or_below(self._path(change), below))
            ):
                self.hurry_one(inode)

    def hurry_one(self, inode: Inode) -> None:
        """Let a change go without waiting its time."""
        change = self._view.change(inode)
        if change is not None:
            self._hurried[inode] = change.touched_at_s
        self._not_before.pop(inode, None)
        self._outcomes.pop(inode, None)  # who has it checked out may have checked it in
        self._queue.touched(inode)

    async def settled(self, below: Sequence[str]) -> list[Item]:
        for inode in self._drafts.written:
            if is_at_or_below(self._view.path(inode), below):
                await self._edits.flush(inode)
        asked = Moment(self._begun, clocks.unix_s(), self._edits.sequence)
        wanted = []
        for number, (change, item) in enumerate(self._items()):
            if is_at_or_below(item.path, below):
                wanted.append(change)
                # also what is just being sent: newer bytes, of somebody who goes on writing, come after it
                if item.state in ("pending", "checked_out", "uploading"):
                    self.hurry_one(change.inode)
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        wanted = [change for change in wanted if not await self._arrived(change, asked)]
        strays, self._edits.strays = self._edits.strays, []
        for change in filter(None, map(self._view.change, strays)):
            self.hurry_one(change.inode)
            await self._arrived(change, asked)
        left = (self._item(self._view.change(inode)) for inode in {*(one.inode for one in wanted), *strays})
        return [item for item in left if item is not None]

    def moves(self) -> bool:
        """Whether anything gets on by itself."""
        self._count_new()
        return any(self._moves(inode) for inode in self._tally.inodes(("pending", "uploading")))

    async def drained(self) -> None:
        """Wait until nothing is left that gets on by itself."""
        while self.moves():  # noqa: ASYNC110 - it is about all changes: there is no one event for that
            await trio.sleep(DRAINED_LOOK_S)

    async def _arrived(self, wanted: Change, asked: Moment) -> bool:
        """Wait until a file does not move any more, or what was wanted of it when it was asked for is in Procore.

        False: something of that may be left. Who writes to a file on and on keeps nobody waiting; that a handle was
        released late, for the kernel waits for nothing there, is no writing. The document may become another inode
        meanwhile.
        """
        while self._moves(inode := wanted.inode):
            change = self._view.change(inode)
            if change is not None and change.touched_at_s > asked.at_s:
                if change.sequence > asked.sequence and self._done.get(inode, 0) > asked.begun:
                    return True
                self.hurry_one(inode)
            await self._news_of(inode)
        return False

    def _moves(self, inode: Inode) -> bool:
        """Whether it gets on by itself."""
        change = self._view.change(inode)
        if change is None or change.stage is Stage.OPEN:
            return False
        waiting = self._queue.blocked.get(inode)
        if waiting is not None and waiting.by != inode and self._view.change(waiting.by) is not None:
            return waiting.by in self._needed or self._moves(waiting.by)
        return self._item_state(change) in ("pending", "uploading")

    async def _news_of(self, inode: Inode) -> None:
        event = trio.Event()
        self._waiters.setdefault(inode, []).append(event)
        with trio.move_on_after(1.0):
            await event.wait()

    def progress(self, inode: Inode) -> tuple[int, int]:
        """Differs from an earlier one when something of an inode has moved: it was done once more, or bytes went."""
        transfer = self._transfers.get(inode)
        number = transfer.number if transfer is not None else None
        return self._done.get(inode, 0), self._tally.sent_bytes(number)

    async def reached(self, inode: Inode) -> None:
        """Wait until what is wanted of an inode now is in Procore; raises why it is not, once that is known."""
        wanted = self._view.change(inode)
        if wanted is None:
            return
        if wanted.stage is not Stage.FAILED:  # nobody tries that again before a `retry`
            self.hurry_one(inode)
        while self._moves(wanted.inode):  # the document may become another inode
            await self._news_of(wanted.inode)
        change = self._view.change(wanted.inode)
        if change is not None and self._item_state(change) in ("failed", "checked_out", "incomplete"):
            raise self._outcomes.get(inode) or Refused(self._reason(change))

    def retry(self, below: Sequence[str]) -> list[Item]:
        found = []
        for change, item in list(self._items()):
            if item.state in ("failed", "incomplete", "checked_out") and is_at_or_below(item.path, below):
                found.append(item)
                before = self._refused_before(change.inode)
                self._retry(change)
                if before is not None:
                    self._retry(before)
        return found

    def _retry(self, change: Change) -> None:
        if change.is_idle:  # a refused removal that was taken back: there is nothing left to do
            self._edits.settle(change)
            return
        self._edits.promise(change.inode)  # as `settled` does with what is being written
        change.stage = Stage.PENDING
        change.touch()
        if change.upload is not None and not change.upload.is_used:
            change.upload = None
        self._edits.note(change)
        self.hurry_one(change.inode)

    def discard(self, below: Sequence[str]) -> list[Item]:
        found = []
        items = {change.inode: item for change, item in self._items()}
        for inode, item in items.items():
            change = self._view.change(inode)
            if change is None or not is_at_or_below(item.path, below):
                continue
            going = [change, *self._lying_in(change)]
            is_free = not any(self._drafts.is_open(one.inode) for one in going)
            if is_free and item.state in ("failed", "incomplete", "held"):
                found += [items[one.inode] for one in going if one.inode in items]
                for one in reversed(going):
                    self._settling.dismiss(one)
        return found

    def _lying_in(self, change: Change) -> list[Change]:
        """What has no place any more when a folder goes that never was in Procore; folders before what is in them."""
        if not change.is_folder or change.document is not None:
            return []
        below = (self._view.change(node.inode) for node in self._view.descendants(change.inode))
        return [one for one in below if one is not None]
