"""The outbox: decides when each change goes, lets a few workers carry them out, and says how things stand.

touched inodes ─▶ when? (due.py) ─▶ queue ─▶ a worker (carrier.py) ─▶ done, or: later, blocked, failed
"""

import logging
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from procorefs.content.staging import StagedIncomplete, StagingFull
from procorefs.outbox.carrier import Carrier
from procorefs.outbox.change import GONE, Change, Place, Stage
from procorefs.outbox.drafts import Drafts
from procorefs.outbox.due import DEPARTURE_S, Facts, is_departure, pause_s, retry_pause_s
from procorefs.outbox.edits import Edits, is_trace
from procorefs.outbox.face import STUCK, Counts, Item, is_at_or_below
from procorefs.outbox.flights import Flights
from procorefs.outbox.naming import Fate, Naming
from procorefs.outbox.queue import Queue
from procorefs.outbox.settling import Settling
from procorefs.outbox.tally import Tally
from procorefs.outbox.verdicts import Blocked, Refused, Superseded
from procorefs.outbox.view import View
from procorefs.procore.errors import (
    CheckedOut,
    LoginRefused,
    Malformed,
    NameTaken,
    NotAuthorized,
    ProcoreError,
    UploadExpired,
    UploadRefused,
)
from procorefs.tree.nodes import Inode
from procorefs.tree.store import DEEPEST, TreeStore

log = logging.getLogger(__name__)

WORKERS = 8
"""Changes carried out at a time: calls are scarce, and transfers are limited by the line."""

CHECKED_OUT_S = 15.0
"""Somebody else's check-out is looked at no more often than this."""

AT_ONCE = 256
"""Changes that are looked at before everybody else gets a turn: a hundred thousand may wait."""

BUSY_EVERY = 20
"""Looking for busy folders takes no more than one part in so many of the time."""

LONGEST_PAUSE_S = 30.0
PATIENCE_S = 60.0
"""A writer waits for room that something frees within this time."""

MOST_TRIES = 8
"""So often an upload is begun anew, or an answer that nobody understands asked for again, before it is refused."""

TRIES_FOR_NAME = 2
"""A name that was refused as taken, and that nobody has when it is looked for, was just given up."""

BUSY_FOR_S = 60.0
"""So long a temporary file that nobody has open keeps its folder's departures waiting."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes on their way, which may give way to others."""

    change: Change
    number: int | None
    """Of the generation; None: they are fetched from another document first."""
    scope: trio.CancelScope


class Outbox:
    """Runs the workers; `run` must run. Answers face.Outbox."""

    def __init__(
        self,
        *,
        store: TreeStore,
        view: View,
        drafts: Drafts,
        edits: Edits,
        naming: Naming,
        queue: Queue,
        flights: Flights,
        carrier: Carrier,
        settling: Settling,
        tally: Tally,
        write_back_s: float,
        is_listed: Callable[[], bool],
        is_budget_closed: Callable[[], bool],
        refused: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._view = view
        self._drafts = drafts
        self._edits = edits
        self._naming = naming
        self._queue = queue
        self._flights = flights
        self._carrier = carrier
        self._settling = settling
        self._tally = tally
        self._write_back_s = write_back_s
        self._is_listed = is_listed
        self._is_budget_closed = is_budget_closed
        self._is_ending = False
        self._refused = refused
        self._hurried: dict[
            Inode, float
        ] = {}  # with the change's touched_at_s: later changes wait their time again
        self._not_before: dict[Inode, float] = {}  # wall time
        self._waiters: dict[Inode, list[trio.Event]] = {}
        self._outcomes: dict[Inode, Exception] = {}  # why the last try of somebody's `reached` ended
        self._transfers: dict[Inode, Transfer] = {}
        self._busy: frozenset[Inode] = frozenset()
        self._busy_until_s = -1.0  # trio's time: then it is looked for anew
        self._paused_until_s = 0.0  # trio's time: while nothing gets through, only a probe goes now and then
        self._troubles = 0  # in a row
        drafts.staging.room.can_free = self._can_free

    # Running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        for change in self._view.changes():
            self._queue.touched(change.inode)
            self._recount(change.inode)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._sort_in()
                is_more_due = self._dispatch(nursery)
                if is_more_due or self._queue.fresh:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._queue.something_new(self._next_look_s())

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
        return len(self._queue.sending) < WORKERS and not self._is_ending

    def _sort_in(self) -> None:
        for inode in self._queue.take_fresh(AT_ONCE):
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
                continue
            wait_s = pause_s(change, self._facts(change))
            if wait_s is None:
                self._queue.put(inode, None)
                self._tell(inode)
            else:
                self._queue.put(inode, trio.current_time() + wait_s)

    def _let_go(self, inode: Inode) -> None:
        """There is no change any more."""
        self._queue.put(inode, None)
        self._hurried.pop(inode, None)
        self._not_before.pop(inode, None)
        self._tell(inode)

    def _tell(self, inode: Inode) -> None:
        for event in self._waiters.pop(inode, ()):
            event.set()

    def _give_way(self, inode: Inode, change: Change | None) -> None:
        """Drop a transfer that nobody wants any more, or for newer bytes, unless that happened too often.

        The last call, which makes the version, is never taken back.
        """
        running = self._transfers.get(inode)
        if running is None or running.scope.cancel_called or self._flights.has(inode):
            return
        if change is not running.change or not change.has_bytes:
            running.scope.cancel()
        elif running.number is not None and change.staged and change.staged.number != running.number:
            is_late = change.upload is not None and change.upload.is_used
            if not is_late and change.gives_way:
                change.dropped_uploads += 1
                running.scope.cancel()

    def _facts(self, change: Change) -> Facts:
        place = change.place
        is_place = isinstance(place, Place)
        return Facts(
            now_s=time.time(),
            write_back_s=self._write_back_s,
            fate=self.fate(change),
            is_sendable=self._naming.is_sendable(place) if isinstance(place, Place) else True,
            is_written=self._drafts.is_written(change.inode),
            is_read=self._drafts.is_open(change.inode) and not (is_place and change.is_folder),
            is_folder_busy=is_departure(change) and self._is_folder_busy(change),
            is_hurried=self._hurried.get(change.inode, -1.0) >= change.touched_at_s,
            not_before_s=self._not_before.get(change.inode, 0.0),
        )

    def fate(self, change: Change) -> Fate:
        """What becomes of a change by its names."""
        if isinstance(change.place, Place):
            return self._naming.fate(change.place, is_folder=change.is_folder)
        return Fate.SENT

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
        now_s = time.time()
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

    # Carrying out

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
            wait_s = pause_s(change, self._facts(change))
            if wait_s is None or wait_s > 0:
                self._queue.put(inode, None if wait_s is None else trio.current_time() + wait_s)
                continue
            if self._must_wait_for_listing(change):
                self._queue.put(inode, trio.current_time() + 1.0)
                continue
            blocker = self._carrier.blocker(inode)
            if blocker is not None:
                self._block(inode, blocker, "something else goes first", nursery)
                continue
            self._start(nursery, inode, self._carrier.carry_out)
        return True

    def _must_wait_for_listing(self, change: Change) -> bool:
        """After the tree was lost: what it does not know yet is not gone. And looks come after the first listing."""
        if is_trace(change):
            return not self._is_listed()
        if change.document is None or self._is_listed():
            return False
        known = self._store.known(change.document)
        return known is None or not self._store.reachable(known.node.inode)

    def _block(self, inode: Inode, by: Inode, why: str, nursery: trio.Nursery) -> None:
        change = self._view.change(by)
        if (change is None and by not in self._queue.sending) or by == inode:
            self._queue.put(inode, trio.current_time() + 1.0)
            return
        self._queue.block(inode, by, why)
        self._recount(inode)
        if change is not None and is_departure(change) and by not in self._queue.sending:
            self._hurried[by] = change.touched_at_s  # somebody needs the name
            self._queue.touched(by)
            self._queue.block(inode, by, why)
        if self._queue.goes_in_circles(inode):
            self._queue.unblock(inode)
            self._start(nursery, inode, self._carrier.step_aside)

    def _start(self, nursery: trio.Nursery, inode: Inode, work: Callable[[Inode], Awaitable[None]]) -> None:
        self._queue.sending.add(inode)
        self._tally.count(inode, "uploading", self._bytes_of(self._view.change(inode)))
        nursery.start_soon(self._carry_out, inode, work)

    async def _carry_out(self, inode: Inode, work: Callable[[Inode], Awaitable[None]]) -> None:
        change = self._view.change(inode)
        error: Exception | None = None
        scope = trio.CancelScope()
        try:
            with scope:
                if change is not None and change.has_bytes:
                    number = change.staged.number if change.staged is not None else None
                    self._transfers[inode] = Transfer(change, number, scope)
                await work(inode)
        except Exception as caught:
            error = caught
        finally:
            self._transfers.pop(inode, None)
            self._queue.sending.discard(inode)
            self._queue.touched(inode)
            self._tell(inode)
        if change is None:
            return
        if error is None and scope.cancelled_caught:
            error = Superseded()
        if error is None:
            self._tally.got_through()
            self._troubles, self._paused_until_s = 0, 0.0
            self._not_before.pop(inode, None)
        else:
            try:
                self._note_failure(inode, change, error)
            except sqlite3.Error as refused:  # a full disk: it is in memory, and must not end the mount
                log.error("%s: %s; that can't be written down: %s", self._view.path(inode), error, refused)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))

    def _note_failure(self, inode: Inode, change: Change, error: Exception) -> None:
        if self._view.change(inode) is not change:
            log.debug("What was sent of inode %d is not wanted any more: %r", inode, error)
            return
        match error:
            case Superseded():
                return
            case Blocked():
                self._queue.fresh.discard(inode)
                if self._view.change(error.by) is None and error.by not in self._queue.sending:
                    self._later(change, error, 1.0)
                    self._queue.touched(inode)
                else:
                    self._queue.put(inode, None)
                    self._queue.block(inode, error.by, str(error))
                    self._recount(inode)
            case CheckedOut():
                self._later(change, error, CHECKED_OUT_S)
            case Refused():
                self._note_refusal(change, error)
            case StagedIncomplete():
                self._fail(change, error)
            case NameTaken() | UploadExpired() | UploadRefused() | Malformed() if (
                change.attempts < _most_tries(error)
            ):
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))
            case ProcoreError() if error.passing or isinstance(error, NotAuthorized | LoginRefused):
                self._pause(error)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))
            case ProcoreError():
                self._fail(change, error)
            case StagingFull() | OSError() | sqlite3.Error():
                log.error("%s waits: %s", self._view.path(inode), error)
                self._later(change, error, retry_pause_s(change.attempts + 1, random.random()))
            case _:
                log.error("%s can't be sent, in an unforeseen way", self._view.path(inode), exc_info=error)
                self._fail(change, error)

    def _note_refusal(self, change: Change, error: Refused) -> None:
        if error.take_back and change.document is not None:
            self._tell_of(change, error)
            self._settling.give_back(change, str(error))
        elif error.wishes is not None:
            self._tell_of(change, error)
            self._settling.give_up_wishes(change, error.wishes, str(error))
        else:
            self._fail(change, error)

    def _pause(self, error: ProcoreError) -> None:
        """It is nothing about this change: nobody else would get through either."""
        self._tally.trouble = str(error)
        if trio.current_time() < self._paused_until_s:
            return  # it was under way already when the others found that out
        self._troubles += 1
        wait_s = min(retry_pause_s(self._troubles, random.random()), LONGEST_PAUSE_S)
        self._paused_until_s = trio.current_time() + wait_s

    def _later(self, change: Change, error: Exception, wait_s: float) -> None:
        change.attempts += 1
        change.error = str(error)
        self._not_before[change.inode] = time.time() + wait_s
        self._outcomes[change.inode] = error
        log.log(
            logging.WARNING if change.attempts == 5 else logging.INFO,
            "%s goes again in %.0f s: %s",
            self._view.path(change.inode),
            wait_s,
            error,
        )
        self._queue.touched(change.inode)

    def _fail(self, change: Change, error: Exception) -> None:
        if change.place is GONE and change.document is None:
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
        return bool(self._queue.sending) or self._queue.next_due_s() < soon_s

    # How things stand

    def _bytes_of(self, change: Change | None) -> int:
        return change.staged.size_bytes if change is not None and change.staged is not None else 0

    def _item_state(self, change: Change | None) -> str | None:
        """The state of face.py; None: it does not count."""
        fate = self.fate(change) if change is not None else Fate.LOCAL
        if change is None or fate is Fate.LOCAL:
            return None
        if change.inode in self._queue.sending:
            return "uploading"
        if change.stage is Stage.FAILED:
            return "failed"
        if change.stage is Stage.INCOMPLETE:
            return "incomplete"
        if self._is_stuck_behind(change.inode):
            return "failed"
        if change.attempts and isinstance(self._outcomes.get(change.inode), CheckedOut):
            return "checked_out"
        if change.place is not GONE and fate is Fate.HELD:
            return "held"
        if change.is_idle:
            return None
        return "pending"

    def _is_stuck_behind(self, inode: Inode) -> bool:
        """Whether it waits for something that was refused for good."""
        at, steps = inode, 0
        while (waiting := self._queue.blocked.get(at)) is not None and steps < DEEPEST:
            at, steps = waiting.by, steps + 1
        change = self._view.change(at) if at != inode else None
        return change is not None and change.stage in (Stage.FAILED, Stage.INCOMPLETE)

    def _recount(self, inode: Inode) -> None:
        change = self._view.change(inode)
        self._tally.count(inode, self._item_state(change), self._bytes_of(change))
        self._tell(inode)

    def state_of(self, inode: Inode) -> tuple[str, str]:
        """The state of a file for people, and why; `clean` when nothing waits."""
        change = self._view.change(inode)
        draft = self._drafts.get(inode)
        if draft is not None and draft.is_changed:
            return "dirty", ""
        state = self._item_state(change)
        if change is None or state is None:
            return "clean", ""
        if change.stage is Stage.OPEN:
            return "dirty", ""
        return state, self._reason(change)

    def _reason(self, change: Change) -> str:
        waiting = self._queue.blocked.get(change.inode)
        if change.stage is Stage.INCOMPLETE:
            return change.error or "its writer was cut off before it had closed the file"
        return change.error or change.refused or (waiting.why if waiting is not None else "")

    def counts(self) -> Counts:
        self._count_new()
        return self._tally.counts()

    def _count_new(self) -> None:
        """Count what was not looked at yet."""
        for inode in self._queue.fresh:
            if not self._tally.has(inode):
                change = self._view.change(inode)
                self._tally.count(inode, self._item_state(change), self._bytes_of(change))

    def _items(self) -> Iterator[tuple[Change, Item]]:
        for change in self._view.changes():
            item = self._item(change)
            if item is not None:
                yield change, item

    def _item(self, change: Change | None) -> Item | None:
        state = self._item_state(change)
        if change is None or state is None:
            return None
        since_s = change.failed_at_s if state == "failed" else change.touched_at_s
        return Item(self._path(change), state, self._reason(change), since_s)  # type: ignore[arg-type]  # states are ItemState

    def _path(self, change: Change) -> str:
        """Where it shows; of what is to go, where it was."""
        if is_trace(change) and change.asked is not None:
            return f"{self._view.path(change.asked.place.folder)}/{change.asked.place.name}".lstrip("/")
        if change.place is GONE:
            return self._store.path(change.inode)
        return self._view.path(change.inode)

    def stuck(self) -> list[Item]:
        items = (self._item(self._view.change(inode)) for inode in self._tally.inodes(STUCK))
        stuck = [item for item in items if item is not None and item.state in STUCK]
        return sorted(stuck, key=lambda item: item.since)

    def waiting(self, below: Sequence[str]) -> list[Item]:
        return [item for _, item in self._items() if is_at_or_below(item.path, below)]

    # What people want

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
                self._edits.flushed(inode)
        wanted = []
        for number, (change, item) in enumerate(self._items()):
            if is_at_or_below(item.path, below):
                wanted.append(change.inode)
                if item.state in ("pending", "checked_out"):
                    self.hurry_one(change.inode)
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        for inode in wanted:
            await self._quiet(inode)
        strays, self._edits.strays = self._edits.strays, []
        for inode in strays:
            self.hurry_one(inode)
            await self._quiet(inode)
        left = (self._item(self._view.change(inode)) for inode in {*wanted, *strays})
        return [item for item in left if item is not None]

    async def _quiet(self, inode: Inode) -> None:
        while self._moves(inode):
            await self._news_of(inode)

    def _moves(self, inode: Inode) -> bool:
        """Whether it gets on by itself."""
        change = self._view.change(inode)
        if change is None or change.stage is Stage.OPEN:
            return False
        waiting = self._queue.blocked.get(inode)
        if waiting is not None and waiting.by != inode and self._view.change(waiting.by) is not None:
            return self._moves(waiting.by)
        return self._item_state(change) in ("pending", "uploading")

    async def _news_of(self, inode: Inode) -> None:
        event = trio.Event()
        self._waiters.setdefault(inode, []).append(event)
        with trio.move_on_after(1.0):
            await event.wait()

    async def reached(self, inode: Inode) -> None:
        """Wait until what is wanted of an inode now is in Procore; raises why it is not, once that is known."""
        self._outcomes.pop(inode, None)
        self.hurry_one(inode)
        while self._moves(inode):
            await self._news_of(inode)
        change = self._view.change(inode)
        if change is None or change.is_idle:
            return
        error = self._outcomes.get(inode)
        if error is not None and self._item_state(change) in ("failed", "checked_out", "incomplete"):
            raise error

    def retry(self, below: Sequence[str]) -> list[Item]:
        found = []
        for change, item in list(self._items()):
            if item.state in ("failed", "incomplete", "checked_out") and is_at_or_below(item.path, below):
                found.append(item)
                self._retry(change)
        return found

    def _retry(self, change: Change) -> None:
        if change.is_idle:  # a refused removal that was taken back: there is nothing left to do
            self._edits.settle(change)
            return
        change.stage = Stage.PENDING
        change.touch()
        if change.upload is not None and not change.upload.is_used:
            change.upload = None
        self._edits.note(change)
        self.hurry_one(change.inode)

    def discard(self, below: Sequence[str]) -> list[Item]:
        found = []
        for change, item in list(self._items()):
            is_free = item.state in ("failed", "incomplete", "held") and not self._drafts.is_open(
                change.inode
            )
            if is_free and is_at_or_below(item.path, below):
                found.append(item)
                self._settling.dismiss(change)
        return found


def _most_tries(error: Exception) -> int:
    return TRIES_FOR_NAME if isinstance(error, NameTaken) else MOST_TRIES
