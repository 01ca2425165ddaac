"""The outbox: decides when each change goes, lets a few workers carry them out, and says how things stand.

touched inodes ─▶ when? (due.py) ─▶ queue ─▶ a worker (sender.py) ─▶ done, or: later, blocked, failed
"""

import logging
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

import trio

from procorefs.journal.change import Change, Location, Stage
from procorefs.procore.errors import (
    ProcoreError,
)
from procorefs.staging.staging_area import StagingFull
from procorefs.storage import clocks
from procorefs.storage.failures import first_cause
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode
from procorefs.upload.commands import AT_ONCE, Commands
from procorefs.upload.due import DEPARTURE_S, LOOK_AGAIN_S, DueFacts, is_departure, pause_s, retry_pause_s
from procorefs.upload.item_states import Transfer
from procorefs.upload.outcomes import Blocked, NotYet, Refused, Superseded
from procorefs.upload.reactions import Reaction, is_foreseen, reaction_to
from procorefs.vfs.change_store import is_unknown

log = logging.getLogger(__name__)

WORKERS = 8
"""Changes carried out at a time: calls are scarce, and transfers are limited by the line."""

CHECKED_OUT_S = 15.0
"""Somebody else's check-out is looked at no more often than this."""

BUSY_EVERY = 20
"""Looking for busy folders takes no more than one part in so many of the time."""

LONGEST_PAUSE_S = 30.0
CHECK_S = 60.0
"""So often it is made sure that whatever waits waits for something."""

FLUSH_AGAIN_S = 2.0
"""Bytes that could not be journaled when their writer went, for the disk was full, are tried again after so long."""

PATIENCE_S = 60.0
"""A writer waits for room that something frees within this time."""

IN_CIRCLES_S = 30.0
"""What still waits for itself after it has stepped aside is looked at again after so long."""

BUSY_FOR_S = 60.0
"""So long a temporary file that nobody has open keeps its folder's departures waiting."""


CATCH_UP_S = 5.0
"""Between looks that fail, while nothing may be sent before one."""


class Scheduler(Commands):
    """Runs the workers; `run` must run. Answers face.Outbox."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._drafts.staging.room.can_free = self._can_free
        self.take_stock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check_regularly)
            nursery.start_soon(self._catch_up)
            task_status.started()
            while True:
                self._sort_in()
                is_more_due = self._dispatch(nursery)
                if is_more_due or self._queue.fresh:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._queue.something_new(self._next_look_s())

    async def _catch_up(self) -> None:
        """Send nothing before a look has shown what our own calls did, if the tree may lack that.

        Before the first listing is complete there are no looks, and what is listed is new.
        """
        while self._is_tree_behind and self._is_listed():
            if await self._polled_since(trio.current_time()):
                break
            await trio.sleep(CATCH_UP_S)
        self._is_tree_behind = False
        self._queue.wake()

    async def finish(self) -> None:
        """Begin nothing more, and wait for the calls under way: what is answered need not be looked into again."""
        self._is_ending = True
        while self._queue.sending:
            await self._news_of(next(iter(self._queue.sending)))

    def _next_look_s(self) -> float:
        if not self._has_worker:
            return float("inf")
        return max(self._queue.next_due_s(), self._paused_until_s)

    @property
    def _has_worker(self) -> bool:
        return len(self._queue.sending) < WORKERS and not self._is_ending and not self._is_tree_behind

    def _sort_in(self) -> None:
        for inode in self._queue.take_fresh(AT_ONCE):
            change = self._view.change(inode)
            if self._edits.is_unflushed(inode) and not self._flush_late(inode):
                continue
            change = self._view.change(inode)
            self._tally.count(inode, self._item_state(change), self._bytes_of(change))
            if change is not None and change.stage is Stage.OPEN:
                self._queue.put(inode, None)
                continue
            if inode in self._queue.sending:
                self._give_way(inode, change)
            if change is None:
                self._let_go(inode)
                continue
            if inode in self._queue.sending:
                self._missed.add(inode)
                continue
            wait_s = pause_s(change, self._facts(change))
            if wait_s is None:
                self._queue.put(inode, None)
                self._tell(inode)
            else:
                self._queue.put(inode, trio.current_time() + wait_s)

    def _flush_late(self, inode: Inode) -> bool:
        """Journal bytes whose writer has gone while the disk refused it; False: it still does, later once more."""
        try:
            self._edits.flushed_late(inode)
        except (OSError, StagingFull, sqlite3.Error) as error:
            change = self._view.change(inode)
            if change is not None:
                change.error = f"it cannot be journaled: {error}"
            self._tally.count(inode, self._item_state(change), self._bytes_of(change))
        if not self._edits.is_unflushed(inode):
            return True
        self._queue.fresh.discard(inode)
        self._queue.put(inode, trio.current_time() + FLUSH_AGAIN_S)
        return False

    async def _check_regularly(self) -> None:
        suspects: set[Inode] = set()
        while True:
            await trio.sleep(CHECK_S)
            suspects = await self.check(suspects)

    async def check(self, suspects: Collection[Inode]) -> set[Inode]:
        """Find what waits with neither a time nor a worker nor anything before it: it would wait for ever, by a fault.

        What was found the last time, too, is told of and looked at anew. Returns all that was found.
        """
        found = set()
        for number, inode in enumerate(self._tally.inodes(("pending", "uploading"))):
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            if not self._is_forgotten(inode):
                continue
            found.add(inode)
            if inode in suspects:
                change = self._view.change(inode)
                path = self._path(change) if change is not None else f"inode {inode}"
                log.warning("%s waits, and nothing would ever send it: it is looked at anew.", path)
                self._queue.touched(inode)
        return found

    def _is_forgotten(self, inode: Inode) -> bool:
        queue = self._queue
        if inode in queue.fresh or inode in queue.sending or queue.is_due(inode):
            return False
        waiting = queue.blocked.get(inode)
        if waiting is not None:
            return self._view.change(waiting.by) is None and waiting.by not in queue.sending
        return not self._drafts.is_written(inode)  # whose last close has it looked at

    def _let_go(self, inode: Inode) -> None:
        """There is no change any more."""
        self._queue.put(inode, None)
        self._hurried.pop(inode, None)
        self._steps_aside.discard(inode)
        self._stepped_aside_s.pop(inode, None)
        self._needed.discard(inode)
        self._done.pop(inode, None)
        self._not_before.pop(inode, None)
        self._tell(inode)

    def _give_way(self, inode: Inode, change: Change | None) -> None:
        """Drop a transfer that nobody wants any more, or for newer bytes, unless that happened too often.

        The last call, which makes the version, is never taken back.
        """
        running = self._transfers.get(inode)
        if running is None or running.scope.cancel_called or self._calls.is_under_way(inode):
            return
        if change is not running.change or not change.has_bytes:
            running.scope.cancel()
        elif running.number is not None and change.staged and change.staged.number != running.number:
            is_late = change.upload is not None and change.upload.is_used
            if not is_late and change.gives_way:
                change.dropped_uploads += 1
                running.scope.cancel()

    def _facts(self, change: Change) -> DueFacts:
        place = change.place
        fate = self.fate(change)
        is_sendable = True
        if fate is Fate.HELD and isinstance(place, Location):
            is_sendable = self._naming.place_refusal(place) is None
        return DueFacts(
            now_s=clocks.unix_s(),
            write_back_s=self._write_back_s,
            fate=fate,
            is_sendable=is_sendable,
            is_written=self._drafts.is_written(change.inode),
            is_read=self._drafts.is_open(change.inode) and not (change.is_placed and change.is_folder),
            is_folder_busy=is_departure(change) and self._is_folder_busy(change),
            is_hurried=self._is_hurried(change),
            is_needed=change.inode in self._needed,
            not_before_s=self._not_before.get(change.inode, 0.0),
        )

    def _is_hurried(self, change: Change) -> bool:
        return self._hurried.get(change.inode, -1.0) >= change.touched_at_s

    def _is_folder_busy(self, change: Change) -> bool:
        """Whether something is being written in the folder that the document is to leave."""
        known = self._store.known(change.document) if change.document is not None else None
        if known is None or known.node.parent is None:
            return False
        now_s = trio.current_time()
        if now_s > self._busy_until_s:
            began_s = time.perf_counter()
            self._busy = frozenset(self._busy_folders())
            took_s = time.perf_counter() - began_s
            self._busy_until_s = now_s + max(DEPARTURE_S / 4, BUSY_EVERY * took_s)
        return known.node.parent in self._busy

    def _busy_folders(self) -> Iterator[Inode]:
        """Folders in which a file is open for writing, or waits its time, and those above: they may be temporary."""
        folders = set(filter(None, map(self._folder_of, self._drafts.written)))
        now_s = clocks.unix_s()
        for change in self._view.changes():
            age_s = now_s - change.touched_at_s
            is_waiting = change.has_bytes and change.stage is Stage.PENDING and age_s < BUSY_FOR_S
            if is_waiting and (age_s < self._write_back_s or self.fate(change) is Fate.HELD):
                folder = self._folder_of(change.inode)
                if folder is not None:
                    folders.add(folder)
        for folder in folders:
            yield folder
            above = self._folder_of(folder)
            if above is not None:
                yield above

    def _folder_of(self, inode: Inode) -> Inode | None:
        step = self._view.parent(inode)
        return step[0] if step is not None else None

    def _dispatch(self, nursery: trio.Nursery) -> bool:
        """Give work to the workers; True: there may be more that is due."""
        for _ in range(AT_ONCE):
            if not self._has_worker or trio.current_time() < self._paused_until_s:
                return False
            inode = self._queue.take_due(trio.current_time())
            if inode is None:
                return False
            change = self._view.change(inode)
            if change is None or inode in self._queue.sending:
                continue
            if self._edits.is_unflushed(inode):
                self._queue.touched(inode)
                continue
            wait_s = pause_s(change, self._facts(change))
            if wait_s is None or wait_s > 0:
                self._queue.put(inode, None if wait_s is None else trio.current_time() + wait_s)
                continue
            if self._must_wait_for_listing(change):
                self._queue.put(inode, trio.current_time() + 1.0)
                continue
            if inode in self._steps_aside:
                self._steps_aside.discard(inode)
                self._start(nursery, inode, self._carrier.step_aside)
                continue
            if inode in self._needed:
                self._needed.discard(inode)
                self._start(nursery, inode, self._carrier.fetch)
                continue
            blocker = self._carrier.blocker(inode)
            if blocker is not None:
                self._block(inode, blocker, "another change goes first")
                continue
            self._start(nursery, inode, self._send)
        return True

    def _must_wait_for_listing(self, change: Change) -> bool:
        """After the tree was lost: what it does not know yet is not gone. And looks come after the first listing."""
        if is_unknown(change):
            return not self._is_listed()
        if change.document is None or self._is_listed():
            return False
        known = self._store.known(change.document)
        return known is None or not self._store.reachable(known.node.inode)

    def _block(self, inode: Inode, by: Inode, why: str) -> None:
        """Have a change wait for another one; where some wait for each other, one of them steps aside."""
        blocker = self._view.change(by)
        if (blocker is None and by not in self._queue.sending) or by == inode:
            self._calls.forget_expired(by)
            self._queue.put(inode, trio.current_time() + LOOK_AGAIN_S)
            return
        self._queue.put(inode, None)
        self._queue.block(inode, by, why)
        self._recount(inode)
        is_sending = by in self._queue.sending
        if blocker is not None and is_departure(blocker) and not is_sending and not self._is_hurried(blocker):
            self._hurried[by] = blocker.touched_at_s  # somebody needs the name
            self._queue.look_at(by)
        elif (
            blocker is not None
            and not is_sending
            and self._keeps_lender(blocker)
            and self.fate(blocker) is not Fate.SENT  # else it fetches them by itself soon
        ):
            self._fetch_for(by)
        if circle := self._queue.circle(inode):
            self._break(inode, circle)

    def _break(self, inode: Inode, circle: Sequence[Inode]) -> None:
        """Some wait for each other: who needs bytes of another one fetches them, else one steps aside."""
        for one in circle:
            change = self._view.change(one)
            if change is not None and self._keeps_lender(change):
                self._fetch_for(one)
                return
        change = self._view.change(inode)
        now_s = trio.current_time()
        tried_s = self._stepped_aside_s.get(inode, -IN_CIRCLES_S)
        if change is None or change.aside_from is not None or now_s < tried_s + IN_CIRCLES_S:
            self._queue.put(inode, now_s + IN_CIRCLES_S)
        else:
            self._stepped_aside_s[inode] = now_s
            self._steps_aside.add(inode)
            self._queue.put(inode, now_s)
        self._queue.wake()

    def _fetch_for(self, borrower: Inode) -> None:
        """Have a change fetch what it needs of another document's bytes, and no more."""
        self._needed.add(borrower)
        self._queue.look_at(borrower)

    def _keeps_lender(self, change: Change) -> bool:
        """Whether the document that has its bytes must stay until they are here, and they can be fetched now."""
        return (
            change.needs_version
            and change.stage is Stage.PENDING
            and change.unclosed is None
            and not self._drafts.is_written(change.inode)
        )

    async def _send(self, inode: Inode) -> None:
        """Carry a change out; what was taken for junk or temporary may have a name that Procore does not take."""
        change = self._view.change(inode)
        refusal = self._naming.sending_refusal(change) if change is not None else None
        if refusal is not None:
            raise Refused(f"{refusal}: rename it")
        await self._carrier.carry_out(inode)

    def _start(self, nursery: trio.Nursery, inode: Inode, work: Callable[[Inode], Awaitable[None]]) -> None:
        self._queue.sending.add(inode)
        self._tally.count(inode, "uploading", self._bytes_of(self._view.change(inode)))
        nursery.start_soon(self._carry_out, inode, work)

    async def _carry_out(self, inode: Inode, work: Callable[[Inode], Awaitable[None]]) -> None:
        change = self._view.change(inode)
        self._begun += 1
        begun = self._begun
        error: Exception | None = None
        scope = trio.CancelScope()
        try:
            with scope:
                if change is not None and change.has_bytes:
                    number = change.staged.number if change.staged is not None else None
                    self._transfers[inode] = Transfer(change, number, scope)
                await work(inode)
        except Exception as caught:
            cause = first_cause(caught)  # rooms have nurseries of their own
            error = cause if isinstance(cause, Exception) else caught
        finally:
            self._transfers.pop(inode, None)
            self._queue.sending.discard(inode)
            # Of a blocked one nothing is new: it and those who wait for it would wake each other for ever.
            if not isinstance(error, Blocked) or inode in self._missed:
                self._queue.touched(inode)
            self._missed.discard(inode)
            self._queue.wake()  # a worker is free
            self._tell(inode)
        if change is None:
            return
        if error is None and scope.cancelled_caught:
            error = Superseded()
        if error is None:
            self._tally.got_through()
            self._done[inode] = begun
            self._troubles, self._paused_until_s = 0, 0.0
            self._not_before.pop(inode, None)
        else:
            try:
                self._note_failure(inode, change, error)
            except (sqlite3.Error, OSError) as refused:
                # a full disk: it is in memory, and must not end the mount
                log.error("%s: %s; that can't be written down: %s", self._view.path(inode), error, refused)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))

    def _note_failure(self, inode: Inode, change: Change, error: Exception) -> None:
        self._edits.keep_unconfirmed(inode)
        if self._view.change(inode) is not change:
            self._queue.touched(inode)
            log.debug("What was sent of inode %d is not wanted any more: %r", inode, error)
            return
        match reaction_to(error, change.attempts):
            case Reaction.LOOK_ANEW:
                log.debug("What was sent of inode %d is not wanted any more: %r", inode, error)
            case Reaction.WAIT_FOR_OTHER:
                assert isinstance(error, Blocked)
                self._block(inode, error.by, str(error))
            case Reaction.WAIT_A_WHILE:
                self._wait_a_while(change, error)
            case Reaction.WAIT_FOR_CHECK_IN:
                self._later(change, error, CHECKED_OUT_S)
            case Reaction.TAKE_BACK:
                self._take_back(change, error)
            case Reaction.PAUSE:
                self._pause(error)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))
            case Reaction.TRY_AGAIN:
                if not isinstance(error, ProcoreError) and not change.attempts:
                    log.error("%s waits: %s", self._view.path(inode), error)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))
            case Reaction.FAIL:
                if not is_foreseen(error):
                    path = self._view.path(inode)
                    log.error("%s can't be sent, in an unforeseen way", path, exc_info=error)
                self._fail(change, error)

    def _wait_a_while(self, change: Change, error: Exception) -> None:
        assert isinstance(error, NotYet)
        change.error = str(error)
        self._not_before[change.inode] = clocks.unix_s() + error.wait_s
        self._queue.touched(change.inode)

    def _take_back(self, change: Change, error: Exception) -> None:
        assert isinstance(error, Refused)
        if error.take_back and change.document is not None:
            self._tell_of(change, error)
            self._settling.give_back(change, str(error))
        elif error.wishes is not None:
            self._tell_of(change, error)
            self._settling.give_up_wishes(change, error.wishes, str(error))
        else:
            self._fail(change, error)

    def _pause(self, error: Exception) -> None:
        """It is nothing about this change: nobody else would get through either."""
        self._tally.warning = str(error)
        if trio.current_time() < self._paused_until_s:
            return  # it was under way already when the others found that out
        self._troubles += 1
        wait_s = min(retry_pause_s(self._troubles, random.random()), LONGEST_PAUSE_S)
        self._paused_until_s = trio.current_time() + wait_s

    def _later(self, change: Change, error: Exception, wait_s: float) -> None:
        change.attempts += 1
        change.error = str(error)
        self._not_before[change.inode] = clocks.unix_s() + wait_s
        self._outcomes[change.inode] = error
        log.log(
            logging.WARNING if change.attempts == 5 else logging.INFO,
            "%s is tried again in %.0f s: %s",
            self._view.path(change.inode),
            wait_s,
            error,
        )
        self._queue.touched(change.inode)

    def _fail(self, change: Change, error: Exception) -> None:
        if is_unknown(change):
            for call in self._calls.given_up(change.inode, None):
                self._calls.forget(call)
            self._settling.dismiss(change)  # removed here while Procore refused to make it
            return
        self._tell_of(change, error)
        self._settling.fail(change, str(error))

    def _tell_of(self, change: Change, error: Exception) -> None:
        path = self._path(change)
        log.warning("%s was refused: %s", path, error)
        cause = error.__cause__ if isinstance(error, Refused) else None
        self._outcomes[change.inode] = cause if isinstance(cause, Exception) else error
        self._refused(path, str(error))

    def _can_free(self) -> bool:
        """Whether a writer who waits for room has something to wait for."""
        if self._queue.sending and self._is_budget_closed():
            self._drafts.staging.room.progress()  # calls are paced over the hour: waiting for one is no standstill
        soon_s = trio.current_time() + PATIENCE_S
        return self._drafts.frees_soon or bool(self._queue.sending) or self._queue.next_due_s() < soon_s
