"""Makes changes wait for each other, breaks cycles of such waits, and finds changes that wait for nothing.

In a cycle, a change that needs bytes of another document fetches them; otherwise a document whose name another change
waits for gets a temporary name.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import pairwise

import trio

from procorefs.journal.change import Change
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.states import MOVING, ChangeState
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode
from procorefs.upload.attempts import Attempts
from procorefs.upload.counters import Counters
from procorefs.upload.item_states import ItemStates
from procorefs.upload.planning.due import LOOK_AGAIN_S, is_departure
from procorefs.upload.planning.plan import Wait
from procorefs.upload.planning.queue import Queue
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

IN_CIRCLES_S = 30.0
"""Changes in a cycle in which no document can get a temporary name are checked again after this time."""

CHECK_S = 60.0
"""Interval of the check that each pending change has a due time, a worker or a blocker."""

CHECKED_AT_ONCE = 256
"""How many changes are checked before other tasks get a turn."""


class Blocking:
    """Records which change waits for which; synchronous."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        fates: ChangeFate,
        calls: InFlightCalls,
        queue: Queue,
        attempts: Attempts,
        states: ItemStates,
    ) -> None:
        self._view = view
        self._dirty_files = dirty_files
        self._fates = fates
        self._calls = calls
        self._queue = queue
        self._attempts = attempts
        self._states = states
        self._stepped_aside_s: dict[Inode, float] = {}  # by trio's clock: the last try

    def block(self, inode: Inode, wait: Wait) -> None:
        """Make a change wait for another one; in a cycle, fetch bytes or give a document a temporary name."""
        by = wait.by
        blocker = self._view.change(by)
        is_sending = by in self._queue.sending
        if (blocker is None and not is_sending) or by == inode:
            self._calls.forget_expired(by)
            self._queue.put(inode, trio.current_time() + LOOK_AGAIN_S)
            return
        self._queue.put(inode, None)
        self._queue.block(inode, wait)
        self._states.count(inode)
        self._attempts.tell(inode)
        if blocker is not None and not is_sending:
            self._speed_up(blocker)
        if circle := self._queue.circle(inode):
            self._break(circle)

    def _speed_up(self, blocker: Change) -> None:
        """Speed up a change that another one waits for: send a rename or removal at once, fetch bytes that another
        document has."""
        if is_departure(blocker) and not self._attempts.is_hurried(blocker):
            self._attempts.skip_wait(blocker)
            self._queue.look_at(blocker.inode)
        elif self._keeps_content_source(blocker) and self._fates.fate_of(blocker) is not Fate.SENT:
            self._fetch(blocker.inode)  # sending the change fetches them soon

    def _break(self, circle: Sequence[Inode]) -> None:
        for member in circle:
            change = self._view.change(member)
            if change is not None and self._keeps_content_source(change):
                self._fetch(member)
                return
        now_s = trio.current_time()
        aside = self._to_step_aside(circle, now_s)
        if aside is None:
            for member in circle:  # what they wait for may be over by now
                self._queue.put(member, now_s + IN_CIRCLES_S)
        else:
            self._stepped_aside_s[aside] = now_s
            self._queue.stepping_aside.add(aside)
            self._queue.put(aside, now_s)
        self._queue.wake()

    def _to_step_aside(self, circle: Sequence[Inode], now_s: float) -> Inode | None:
        """A member whose name the one before waits for, and that did not try this a moment ago."""
        for before, member in pairwise([circle[-1], *circle]):
            tried_s = self._stepped_aside_s.get(member, -IN_CIRCLES_S)
            if self._queue.blocked[before].is_for_name and now_s >= tried_s + IN_CIRCLES_S:
                return member
        return None

    def _fetch(self, inode: Inode) -> None:
        """Make the next try of a change only fetch the bytes of another document."""
        self._queue.fetching.add(inode)
        self._queue.look_at(inode)

    def _keeps_content_source(self, change: Change) -> bool:
        """Whether the change needs bytes of another document, which can be fetched now."""
        return (
            change.needs_version
            and change.state is ChangeState.PENDING
            and change.unclosed is None
            and not self._dirty_files.is_written(change.inode)
        )

    def forget(self, inode: Inode) -> None:
        """Forget a change that has ended."""
        self._queue.put(inode, None)
        self._queue.stepping_aside.discard(inode)
        self._queue.fetching.discard(inode)
        self._stepped_aside_s.pop(inode, None)


class WaitCheck:
    """Finds changes with neither a due time nor a worker nor a blocker, which a bug would leave waiting for ever."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        queue: Queue,
        counters: Counters,
        states: ItemStates,
        forget_expired: Callable[[], Awaitable[None]],
    ) -> None:
        """`forget_expired` forgets open calls that no change waits for."""
        self._forget_expired = forget_expired
        self._view = view
        self._dirty_files = dirty_files
        self._queue = queue
        self._counters = counters
        self._states = states

    async def run(self) -> None:
        """Check regularly, until cancelled."""
        suspects: set[Inode] = set()
        while True:
            await trio.sleep(CHECK_S)
            suspects = await self.check(suspects)
            await self._forget_expired()

    async def check(self, suspects: Collection[Inode]) -> set[Inode]:
        """Check once and return what was found. What was found twice in a row is logged and queued."""
        found = set()
        for number, inode in enumerate(self._counters.inodes(MOVING)):
            if number % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
            if not self._is_forgotten(inode):
                continue
            found.add(inode)
            if inode in suspects:
                change = self._view.change(inode)
                path = self._states.path(change) if change is not None else f"inode {inode}"
                log.warning("%s waits without a reason: it is checked again.", path)
                self._queue.touched(inode)
        return found

    def _is_forgotten(self, inode: Inode) -> bool:
        queue = self._queue
        if inode in queue.fresh or inode in queue.sending or queue.is_due(inode):
            return False
        waiting = queue.blocked.get(inode)
        if waiting is not None:
            return self._view.change(waiting.by) is None and waiting.by not in queue.sending
        return not self._dirty_files.is_written(inode)  # its last close queues it
