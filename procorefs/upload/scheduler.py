"""Decides which change is sent next: sorts changes by their due time, and runs tries of those that are due.

touched inodes ─▶ when? (due.py) ─▶ queue ─▶ next step? (plan.py) ─▶ a worker (sender.py) ─▶ done, later, or failed
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

import trio

from procorefs.journal.change import Change
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.states import ChangeState
from procorefs.staging.quota import PATIENCE_S, Outlook
from procorefs.staging.staging_area import StagingFull
from procorefs.storage.failures import first_cause
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.attempts import Attempts, Transfer
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.failures import Failures
from procorefs.upload.item_states import ItemStates
from procorefs.upload.outcomes import Blocked, Superseded
from procorefs.upload.planning.blocking import Blocking, WaitCheck
from procorefs.upload.planning.due import DueTimes
from procorefs.upload.planning.plan import Goal, Wait
from procorefs.upload.planning.queue import Queue
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.sender import ChangeSender
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

WORKERS = 8
"""How many tries run at a time: calls are scarce, and transfers are limited by the network."""

AT_ONCE = 256
"""How many changes are handled before other tasks get a turn: a hundred thousand may wait."""

FLUSH_AGAIN_S = 2.0
"""Bytes that could not be journaled at the last close, because the disk was full, are tried again after this time."""

LISTING_AGAIN_S = 1.0
"""A change that waits for the first listing is checked again after this time."""

CATCH_UP_S = 5.0
"""The pause after a failed poll, while nothing may be sent before one."""


class Workers:
    """Runs at most WORKERS tries, one for each inode."""

    def __init__(
        self,
        view: View,
        calls: InFlightCalls,
        queue: Queue,
        attempts: Attempts,
        states: ItemStates,
        sender: ChangeSender,
        failures: Failures,
    ) -> None:
        self._view = view
        self._calls = calls
        self._queue = queue
        self._attempts = attempts
        self._states = states
        self._sender = sender
        self._failures = failures
        self._is_ending = False

    @property
    def has_free(self) -> bool:
        """Whether another try may begin."""
        return len(self._queue.sending) < WORKERS and not self._is_ending

    async def finish(self) -> None:
        """Begin no more tries and wait for the calls under way: answered calls need not be confirmed later."""
        self._is_ending = True
        while self._queue.sending:
            await self._attempts.news_of(next(iter(self._queue.sending)))

    def start(self, nursery: trio.Nursery, inode: Inode, goal: Goal) -> None:
        """Begin a try of the inode's change."""
        self._queue.sending.add(inode)
        self._states.count(inode)
        nursery.start_soon(self._run, inode, goal)

    async def _run(self, inode: Inode, goal: Goal) -> None:
        change = self._view.change(inode)
        if change is None:
            self._end(inode, None)
            return
        number, is_sent = self._attempts.begin(), False
        error: Exception | None = None
        scope = trio.CancelScope()
        try:
            with scope:
                if change.has_bytes:
                    generation = change.staged.number if change.staged is not None else None
                    self._attempts.transfers[inode] = Transfer(change, generation, scope)
                is_sent = await self._sender.send(change, goal)
        except Exception as caught:
            cause = first_cause(caught)  # nurseries below wrap errors in groups
            error = cause if isinstance(cause, Exception) else caught
        finally:
            self._end(inode, error)
        if error is None and scope.cancelled_caught:
            error = Superseded()
        if error is None:
            self._attempts.succeeded(inode, number if is_sent else None)
        else:
            self._failures.take_up(inode, change, error)

    def _end(self, inode: Inode, error: Exception | None) -> None:
        self._attempts.transfers.pop(inode, None)
        self._queue.sending.discard(inode)
        # Do not touch a blocked change: it and the changes that wait for it would wake each other for ever.
        if not isinstance(error, Blocked) or inode in self._attempts.missed:
            self._queue.touched(inode)
        self._attempts.missed.discard(inode)
        self._queue.wake()  # a worker is free
        self._attempts.tell(inode)

    def give_way(self, inode: Inode, change: Change | None) -> None:
        """Cancel a transfer that is no longer wanted, or that newer bytes replace, unless that happened too often.

        The last call, which makes the version, is never cancelled.
        """
        running = self._attempts.transfers.get(inode)
        if running is None or running.scope.cancel_called or self._calls.is_under_way(inode):
            return
        if change is not running.change or not change.has_bytes or change.state is ChangeState.GUARDED:
            running.scope.cancel()
        elif running.number is not None and change.staged and change.staged.number != running.number:
            is_late = change.upload is not None and change.upload.is_used
            if not is_late and change.gives_way:
                change.upload_dropped()
                running.scope.cancel()


@dataclass(frozen=True, slots=True)
class Planning:
    """Decides when a change is sent and what it waits for."""

    due: DueTimes
    blocking: Blocking
    check: WaitCheck
    situations: Situations
    guard: DeleteGuard


class CatchUp:
    """Delays sending until a lost or older tree is up to date."""

    def __init__(self, store: TreeStore, follower: Follower, queue: Queue, *, is_behind: bool) -> None:
        self._store = store
        self._follower = follower
        self._queue = queue
        self.is_behind = is_behind
        """Whether the tree may lack results of our own calls: nothing is sent before a poll."""

    async def run(self) -> None:
        """Wait for that poll. Before the first listing is complete there are no polls, and what is listed is
        current."""
        while self.is_behind and self._follower.complete:
            if await self._follower.caught_up():
                break
            await trio.sleep(CATCH_UP_S)
        self.is_behind = False
        self._queue.wake()

    def must_wait_for_listing(self, change: Change) -> bool:
        """Whether a document that the tree lacks may still exist, because the tree was lost and is not listed yet."""
        if self._follower.complete:
            return False
        if change.document is None:
            return is_unknown(change)
        known = self._store.known(change.document)
        return known is None or not self._store.reachable(known.node.inode)


class FreeableSpace:
    """Whether a writer that waits for space in the staging area can expect some."""

    def __init__(self, queue: Queue, is_budget_closed: Callable[[], bool]) -> None:
        self._queue = queue
        self._is_budget_closed = is_budget_closed

    def outlook(self) -> Outlook:
        """Whether uploads will free space, as far as is known now."""
        if self._queue.sending:
            return Outlook.PACED if self._is_budget_closed() else Outlook.SOON
        is_soon = self._queue.next_due_s() < trio.current_time() + PATIENCE_S
        return Outlook.SOON if is_soon else Outlook.NONE


class Scheduler:
    """Starts tries of due changes until cancelled; `run` must run."""

    def __init__(
        self,
        view: View,
        edits: LocalEdits,
        queue: Queue,
        attempts: Attempts,
        states: ItemStates,
        planning: Planning,
        workers: Workers,
        catch_up: CatchUp,
    ) -> None:
        self._view = view
        self._edits = edits
        self._queue = queue
        self._attempts = attempts
        self._states = states
        self._planning = planning
        self._workers = workers
        self._catch_up = catch_up

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.take_up()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._planning.check.run)
            nursery.start_soon(self._catch_up.run)
            task_status.started()
            while True:
                self._sort_in()
                is_more_due = self._dispatch(nursery)
                if is_more_due or self._queue.fresh:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._queue.something_new(self._next_look_s())

    def take_up(self) -> None:
        """Take up the changes of an earlier run, once, before any is sent. They are sorted in and counted by state a
        few at a time, or when somebody asks for the counts."""
        changes = self._view.changes()
        self._planning.guard.start(changes)
        self._queue.all_touched([change.inode for change in changes])

    @property
    def _may_start(self) -> bool:
        return self._workers.has_free and not self._catch_up.is_behind

    def _next_look_s(self) -> float:
        if not self._may_start:
            return float("inf")
        return max(self._queue.next_due_s(), self._attempts.paused_until_s)

    # Due times

    def _sort_in(self) -> None:
        """Set the due time of each change that was touched."""
        for inode in self._queue.take_fresh(AT_ONCE):
            if self._edits.sessions.is_unflushed(inode) and not self._flush_late(inode):
                continue
            self._planning.guard.look(inode, self._view.change(inode))
            change = self._states.count(inode)
            if change is not None and change.state is ChangeState.OPEN:
                self._queue.put(inode, None)
                continue
            is_sending = inode in self._queue.sending
            if is_sending:
                self._workers.give_way(inode, change)
            if change is None:
                self._planning.blocking.forget(inode)
                self._attempts.forget(inode)
            elif is_sending:
                self._attempts.missed.add(inode)
            else:
                self._put(inode, self._planning.due.pause_s(change))

    def _put(self, inode: Inode, wait_s: float | None) -> None:
        self._queue.put(inode, None if wait_s is None else trio.current_time() + wait_s)
        if wait_s is None:
            self._attempts.tell(inode)

    def _flush_late(self, inode: Inode) -> bool:
        """Journal bytes that the disk refused at their writer's close; False if it still refuses, then it is tried
        again later."""
        try:
            self._edits.sessions.flushed_late(inode)
        except (OSError, StagingFull, sqlite3.Error) as error:
            change = self._view.change(inode)
            if change is not None:
                change.give_reason(f"it cannot be journaled: {error}")
            self._states.count(inode)
        if not self._edits.sessions.is_unflushed(inode):
            return True
        self._queue.fresh.discard(inode)
        self._queue.put(inode, trio.current_time() + FLUSH_AGAIN_S)
        return False

    # Dispatch

    def _dispatch(self, nursery: trio.Nursery) -> bool:
        """Give due changes to the workers; True if more may be due."""
        for _ in range(AT_ONCE):
            if not self._may_start or trio.current_time() < self._attempts.paused_until_s:
                return False
            inode = self._queue.take_due(trio.current_time())
            if inode is None:
                return False
            change = self._view.change(inode)
            if change is None or inode in self._queue.sending:
                continue
            if self._edits.sessions.is_unflushed(inode):
                self._queue.touched(inode)
                continue
            self._dispatch_one(nursery, inode, change)
        return True

    def _dispatch_one(self, nursery: trio.Nursery, inode: Inode, change: Change) -> None:
        self._planning.guard.look(inode, change)
        wait_s = self._planning.due.pause_s(change)
        if wait_s is None or wait_s > 0:
            self._queue.put(inode, None if wait_s is None else trio.current_time() + wait_s)
        elif self._catch_up.must_wait_for_listing(change):
            self._queue.put(inode, trio.current_time() + LISTING_AGAIN_S)
        else:
            goal = self._queue.take_goal(inode)
            step = self._planning.situations.step(change, goal)
            if isinstance(step, Wait):
                self._planning.blocking.block(inode, step)
            else:
                self._workers.start(nursery, inode, goal)
