"""Polls Procore for who has a document checked out: before it is locked or opened, and while a program waits for it."""

import logging
from functools import partial

import cachetools
import trio

from procorefs.locks.claims import CheckOutTimes, Claims
from procorefs.locks.tree_documents import HeldByAnother, Holder
from procorefs.procore.errors import ProcoreError
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.shared_task import SharedTask

log = logging.getLogger(__name__)

POLLS_REMEMBERED = 4096


class HolderPolls:
    """One call serves all requests that come while it runs or a moment later. `run` must run."""

    def __init__(self, claims: Claims, times: CheckOutTimes) -> None:
        self._claims = claims
        self._documents = claims.documents
        self._times = times
        self._nursery: trio.Nursery | None = None
        self._shared = SharedTask()
        self._given_up: set[Inode] = set()
        """Files whose poll a request stopped to wait for, unless it has ended since."""
        self._polled_at_s: cachetools.LRUCache[Inode, float] = cachetools.LRUCache(POLLS_REMEMBERED)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def note(self, inode: Inode) -> None:
        """An answer to a change of ours says who has it, as a poll would."""
        self._polled_at_s[inode] = trio.current_time()

    async def nobody_else(self, inode: Inode, *, wait: bool) -> None:
        """Wait until nobody else has it checked out. Costs polls and nothing else.

        Raises HeldByAnother (unless `wait`), and what a poll raises that could not tell whether a known holder is gone.
        Can be cancelled at any time.
        """
        while not self._claims.is_kept(inode) and self._documents.held(inode) is not None:
            try:
                await self.poll(inode)
            except ProcoreError as error:
                if self._claims.holder(inode) is not None:
                    raise
                log.info("Nobody is known to hold inode %d, and asking failed: %s", inode, error)
            holder = self._claims.holder(inode)
            if holder is None:
                return
            if not wait:
                raise HeldByAnother(holder)
            await trio.sleep(self.next_s(holder))

    async def look(self, inode: Inode) -> None:
        """Learn who has the file checked out, before a program opens it. Raises ProcoreError.

        A poll that a request has stopped to wait for is not waited for again.
        """
        if self._claims.is_kept(inode) or self._documents.held(inode) is None:
            return
        if self._shared.running(inode) and inode in self._given_up:
            return
        self._given_up.discard(inode)
        try:
            await self.poll(inode)
        except trio.Cancelled:
            if self._shared.running(inode):
                self._given_up.add(inode)
            raise

    async def poll(self, inode: Inode) -> None:
        """Ask Procore, unless there is a fresh answer; requests that come meanwhile share the call."""
        polled_at_s = self._polled_at_s.get(inode)
        if polled_at_s is None or trio.current_time() - polled_at_s >= self._times.fresh_s:
            assert self._nursery is not None
            await self._shared.join(self._nursery, inode, partial(self.refresh, inode))

    async def refresh(self, inode: Inode) -> None:
        """Ask Procore."""
        held = self._documents.held(inode)
        if held is None:
            return
        begun_at_s = trio.current_time()
        await self._documents.refresh(held.document)
        self._polled_at_s[inode] = begun_at_s

    def next_s(self, holder: Holder | None) -> float:
        """How long until a waiter polls again."""
        times = self._times
        if holder is None or holder.until_s is None:
            return times.poll_every_s
        return min(
            times.poll_every_s,
            max(holder.until_s + times.end_margin_s - self._claims.wall_s(), times.fresh_s),
        )
