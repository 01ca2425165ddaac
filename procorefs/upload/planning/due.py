"""Decides when a change may be sent: after write_back, after its name is final, after a failed try.

`pause_s` is a pure function of the change and the facts of that moment; DueTimes gathers the facts.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import ChangeState
from procorefs.storage import clocks
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.attempts import Attempts
from procorefs.upload.planning.queue import Queue
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

HELD_S = 3600.0
"""A temporary name that was untouched for this time counts as a final one, if Procore accepts it."""

DEPARTURE_S = 2.0
"""Deletes and renames wait at least this long: a file that is written under the name meanwhile keeps the document,
and a backup that was made by renaming is usually removed again."""

FOLDER_S = 0.5
"""A new folder is created before its entries, but after this delay: many programs create one and remove it again."""

LONGEST_WAIT_S = 60.0
"""A file that is closed repeatedly, such as a log, waits at most this long, or ten times write_back."""

LOOK_AGAIN_S = 1.0
"""A change that waits for something that gives no notice is checked again after this time."""

BUSY_EVERY = 20
"""The search for busy folders takes at most one twentieth of the time."""

BUSY_FOR_S = 60.0
"""A temporary file that is not open delays renames and removals in its folder for this time."""


@dataclass(frozen=True, slots=True)
class DueFacts:
    """The facts at the moment at which a change is checked."""

    now_s: float
    """The time, by clocks.unix_s, as all times of changes."""
    write_back_s: float
    fate: Fate = Fate.SENT
    is_sendable: bool = True
    """Whether Procore would accept the present name of a held file."""
    is_written: bool = False
    """Whether it is open for writing."""
    is_read: bool = False
    """Whether it is open."""
    is_folder_busy: bool = False
    """Whether a file is, or just was, being written in the folder of its old name: that file may get the name."""
    is_hurried: bool = False
    is_needed: bool = False
    """Whether the next try only fetches missing bytes, because the document that has them waits for that."""
    not_before_s: float = 0.0
    """When the next try after a temporary failure is due."""


def pause_s(change: Change, facts: DueFacts) -> float | None:
    """Seconds until the change may be sent; 0: now, None: not before something about it changes."""
    if facts.is_needed:
        return max(facts.not_before_s - facts.now_s, 0.0)
    if change.state is not ChangeState.PENDING or facts.fate is Fate.LOCAL:
        return None
    if change.is_idle and facts.is_written:
        return None  # it is sent already, and its last writer's close ends it
    if not change.is_removed and change.has_bytes and facts.is_written and not facts.is_hurried:
        return None
    retry_s = max(facts.not_before_s - facts.now_s, 0.0)
    if facts.fate is Fate.HELD and not change.is_removed:
        return max(_left(change, HELD_S, facts), retry_s) if facts.is_sendable else None
    if facts.is_hurried:
        return retry_s
    pause = max(min(_left(change, _wait_s(change, facts), facts), _longest_s(change, facts)), retry_s)
    if not pause and is_departure(change) and (facts.is_folder_busy or facts.is_read):
        return LOOK_AGAIN_S
    return pause


def is_departure(change: Change) -> bool:
    """Whether the change makes a document leave its name."""
    return change.document is not None and not change.is_following


def _wait_s(change: Change, facts: DueFacts) -> float:
    if is_departure(change) or change.pending_copy is not None:
        return max(DEPARTURE_S, facts.write_back_s)
    if change.is_folder and not change.patch:
        return min(FOLDER_S, facts.write_back_s)
    return facts.write_back_s


def _longest_s(change: Change, facts: DueFacts) -> float:
    """How much longer the change may be delayed, however often it is touched."""
    if is_departure(change):
        return float("inf")
    longest_s = max(LONGEST_WAIT_S, 10 * facts.write_back_s)
    return max(change.created_at_s + longest_s - facts.now_s, 0.0)


def _left(change: Change, wait_s: float, facts: DueFacts) -> float:
    """The rest of a wait; never more than the wait itself, even if the clock was set back."""
    return min(max(change.touched_at_s + wait_s - facts.now_s, 0.0), wait_s)


class DueTimes:
    """Gathers the facts about a change for `pause_s`."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        fates: ChangeFate,
        queue: Queue,
        attempts: Attempts,
        *,
        write_back_s: float,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._fates = fates
        self._queue = queue
        self._attempts = attempts
        self._write_back_s = write_back_s
        self._busy: frozenset[Inode] = frozenset()
        self._busy_until_s = -1.0  # by trio's clock

    def pause_s(self, change: Change) -> float | None:
        """Seconds until the change may be sent; 0: now, None: not before something about it changes."""
        return pause_s(change, self._facts(change))

    def _facts(self, change: Change) -> DueFacts:
        fate, is_sendable = self._fates.fate_of(change), True
        if fate is Fate.HELD and change.location is not None:
            is_sendable = self._fates.place_refusal(change.location) is None
        is_open = self._dirty_files.is_open(change.inode)
        return DueFacts(
            now_s=clocks.unix_s(),
            write_back_s=self._write_back_s,
            fate=fate,
            is_sendable=is_sendable,
            is_written=self._dirty_files.is_written(change.inode),
            is_read=is_open and not (change.is_placed and change.is_folder),
            is_folder_busy=is_departure(change) and self._is_folder_busy(change),
            is_hurried=self._attempts.is_hurried(change),
            is_needed=change.inode in self._queue.fetching,
            not_before_s=self._attempts.not_before_s(change.inode),
        )

    def _is_folder_busy(self, change: Change) -> bool:
        """Whether a file is being written in the folder that the document is to leave."""
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
        """Folders with a file that is open for writing or delayed, and the folders above them: they may be
        temporary."""
        folders = set(filter(None, map(self._folder_of, self._dirty_files.written)))
        now_s = clocks.unix_s()
        for change in self._view.changes():
            age_s = now_s - change.touched_at_s
            if age_s >= BUSY_FOR_S:
                continue  # of a hundred thousand that wait, most
            is_waiting = change.has_bytes and change.state is ChangeState.PENDING
            if is_waiting and (age_s < self._write_back_s or self._fates.fate_of(change) is Fate.HELD):
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
