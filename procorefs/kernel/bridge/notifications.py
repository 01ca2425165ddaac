"""Sends cache invalidations to the kernel, in threads, so that a blocked notification delays no other.

    entry(), inode() -> queued (one dict, duplicates fold) -> batch (C, no GIL) -> thread(s) -> events set

A notification may block in the kernel until another request is answered: invalidate_entry during a mkdir in that
folder, invalidate_inode during a READ of that file. On the loop, or under a lock that a handler needs, this would block
the daemon for ever in uninterruptible sleep. So queued notifications go to a thread as one batch; when one of them
blocks, another thread takes over the rest. Only an abort of the connection (connection.py) frees a thread that is
blocked behind a request without an answer, so a shutdown aborts first.
"""

import errno
import logging
import math
import os
from dataclasses import dataclass

import trio

from procorefs.kernel.bridge.native import NotificationBatch, invalidate_listing, pyfuse3

log = logging.getLogger(__name__)

MAX_THREADS = 64
STUCK_S = 0.1
"""If a notification takes longer, another thread takes over the rest of its batch."""

_CHECK_INTERVAL_S = 0.05
RECENT_S = 0.1
"""A request may have waited this long for the loop since the kernel resolved its path."""

_EXPECTED = {0, errno.ENOENT, errno.ENOSYS}
"""ENOENT: the kernel did not know it, so there is nothing to forget. ENOSYS: libfuse
says so until the kernel's INIT has been answered (a kernel without notifications can't mount)."""
_UNMOUNTED = {errno.ENOTCONN, errno.ENODEV}
"""The mount is being unmounted: no cache can be stale."""

_Job = tuple[int, bytes | None]
"""Inode and name: that entry of the folder; inode and None: the inode's own data and attributes."""


@dataclass(slots=True, eq=False)
class _Batch:
    jobs: tuple[_Job, ...]
    settled: tuple[trio.Event | None, ...]
    """One for each job; None: nothing waits for it."""
    notices: NotificationBatch
    unreported: int


class Notifier:
    """The kernel's notifications of one mount. All methods are called on the loop."""

    __slots__ = ("_dropped_s", "_entries", "_open", "_queued", "_threads", "_under_way", "_wake", "sent")

    def __init__(self) -> None:
        self.sent = {"entry": 0, "inode": 0, "listing": 0, "attributes": 0}
        """How many were sent, by what the kernel drops; duplicates that were folded count once."""
        self._queued: dict[_Job, trio.Event | None] = {}
        """In the order queued; not in a batch yet."""
        self._open: dict[int, set[trio.Event]] = {}
        """Inode -> its invalidations that are not carried out yet."""
        self._under_way: set[_Batch] = set()
        self._entries = 0
        """Invalidations of entries that are not carried out yet."""
        self._dropped_s = -math.inf
        """When (trio's clock) the last one was carried out."""
        self._threads = trio.CapacityLimiter(MAX_THREADS)
        self._wake = trio.Event()

    def entry(self, parent: int, name: bytes) -> None:
        """Make the kernel drop the entry *name* of the folder *parent*."""
        is_new = (parent, name) not in self._queued
        self._entries += is_new
        self.sent["entry"] += is_new
        self._queued[(parent, name)] = None
        self._wake.set()

    def inode(self, inode: int) -> trio.Event:
        """Make the kernel drop the inode's cached data and attributes; sets the event when that is done."""
        event = self._queued.get((inode, None))
        if event is None:
            self.sent["inode"] += 1
            event = self._queued[(inode, None)] = trio.Event()
            self._open.setdefault(inode, set()).add(event)
            self._wake.set()
        return event

    def listing(self, folder: int) -> None:
        """Make the kernel drop the cached listing of a directory; in place, because directories never block."""
        self.sent["listing"] += 1
        error = invalidate_listing(folder)
        if error not in _EXPECTED | _UNMOUNTED:
            log.warning("The kernel keeps the listing of folder inode %d: %s.", folder, os.strerror(error))

    def attributes(self, inode: int) -> None:
        """Make the kernel drop a file's cached attributes and keep its data; in place, because this waits for no page.

        Only while the session lasts.
        """
        self.sent["attributes"] += 1
        try:
            pyfuse3.invalidate_inode(inode, attr_only=True)
        except OSError as error:
            if error.errno not in _EXPECTED | _UNMOUNTED:
                log.warning("The kernel keeps the attributes of inode %d: %s.", inode, error.strerror)

    @property
    def drops_entries(self) -> bool:
        """Whether the kernel is about to drop entries, or did so a moment ago.

        It may have resolved the path of a request that is answered now with one of them.
        """
        return self._entries > 0 or trio.current_time() - self._dropped_s < RECENT_S

    def is_settled(self, inode: int) -> bool:
        """Whether `settled` would return immediately."""
        return not self._open.get(inode)

    async def settled(self, inode: int) -> None:
        """Wait until every queued invalidation of *inode* has been carried out."""
        while events := self._open.get(inode):
            await next(iter(events)).wait()  # then check again: another may have been queued meanwhile

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send queued notifications until cancelled; then abandon blocked threads."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    await self._something_to_do()
                    self._begin_batch(nursery)
                    for batch in tuple(self._under_way):
                        self._report(batch)
                        self._take_over(batch, nursery)
        finally:
            self._give_up()

    async def _something_to_do(self) -> None:
        with trio.move_on_after(_CHECK_INTERVAL_S if self._under_way else float("inf")):
            await self._wake.wait()
        self._wake = trio.Event()

    def _begin_batch(self, nursery: trio.Nursery) -> None:
        if not self._queued or not self._threads.available_tokens:
            return  # all threads are blocked: jobs stay queued until one is free
        jobs = tuple(self._queued)
        batch = _Batch(jobs, tuple(self._queued.values()), NotificationBatch(jobs), len(jobs))
        self._queued.clear()
        self._under_way.add(batch)
        nursery.start_soon(self._carry_out, batch)

    def _take_over(self, batch: _Batch, nursery: trio.Nursery) -> None:
        is_stuck = batch.notices.unclaimed and batch.notices.quiet_s > STUCK_S
        if is_stuck and self._threads.available_tokens:
            nursery.start_soon(self._carry_out, batch)

    async def _carry_out(self, batch: _Batch) -> None:
        await trio.to_thread.run_sync(batch.notices.carry_out, abandon_on_cancel=True, limiter=self._threads)
        self._report(batch)
        self._wake.set()  # a thread is free

    def _report(self, batch: _Batch) -> None:
        """Set the events of jobs that were carried out since the last report, and log refused ones."""
        for index, error in batch.notices.finished():
            inode, name = batch.jobs[index]
            batch.unreported -= 1
            if name is not None:
                self._entries -= 1
                self._dropped_s = trio.current_time()
            self._settle(inode, batch.settled[index])
            if error not in _EXPECTED | _UNMOUNTED:
                log.warning("The kernel keeps inode %d, name %r: %s.", inode, name, os.strerror(error))
        if not batch.unreported:
            self._under_way.discard(batch)

    def _settle(self, inode: int, event: trio.Event | None) -> None:
        if event is None:
            return
        event.set()
        waiting = self._open[inode]
        waiting.discard(event)
        if not waiting:
            del self._open[inode]

    def _give_up(self) -> None:
        """Send nothing more, and end every wait."""
        for batch in self._under_way:
            batch.notices.stop()
        for events in self._open.values():
            for event in events:
                event.set()
        self._queued.clear()
        self._open.clear()
        self._under_way.clear()
        self._entries = 0
