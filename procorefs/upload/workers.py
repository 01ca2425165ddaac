"""Runs tries of changes, each in a task of its own, and drops a transfer when newer bytes replace it."""

import trio

from procorefs.journal.change import Change
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.storage.failures import first_cause
from procorefs.tree.nodes import Inode
from procorefs.upload.attempts import Attempts, Transfer
from procorefs.upload.failures import Failures
from procorefs.upload.item_states import ItemStates
from procorefs.upload.outcomes import Blocked, Superseded
from procorefs.upload.planning.plan import Goal
from procorefs.upload.planning.queue import Queue
from procorefs.upload.sending.sender import ChangeSender
from procorefs.vfs.view import View

WORKERS = 8
"""Tries at a time: calls are scarce, and transfers are limited by the line."""


class Workers:
    """At most WORKERS tries, one an inode."""

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
        """Begin nothing more, and wait for the calls under way: what is answered need not be confirmed later."""
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
        # Nothing about a blocked change is new: it and the changes that wait for it would wake each other for ever.
        if not isinstance(error, Blocked) or inode in self._attempts.missed:
            self._queue.touched(inode)
        self._attempts.missed.discard(inode)
        self._queue.wake()  # a worker is free
        self._attempts.tell(inode)

    def give_way(self, inode: Inode, change: Change | None) -> None:
        """Drop a transfer that is not wanted any more, or for newer bytes, unless that happened too often.

        The last call, which makes the version, is never taken back.
        """
        running = self._attempts.transfers.get(inode)
        if running is None or running.scope.cancel_called or self._calls.is_under_way(inode):
            return
        if change is not running.change or not change.has_bytes:
            running.scope.cancel()
        elif running.number is not None and change.staged and change.staged.number != running.number:
            is_late = change.upload is not None and change.upload.is_used
            if not is_late and change.gives_way:
                change.dropped_uploads += 1
                running.scope.cancel()
