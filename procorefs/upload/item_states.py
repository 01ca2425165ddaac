"""How changes stand, for people and programs: what waits, what is stuck and why, what has failed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from procorefs.journal.change import GONE, Change, Location, Stage
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.procore.errors import (
    CheckedOut,
)
from procorefs.storage import clocks
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.upload.counters import Counters
from procorefs.upload.items import STAYING, STUCK, TEMPORARY, Counts, Item, is_at_or_below
from procorefs.upload.poll_now import PolledSince
from procorefs.upload.queue import Queue
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.sender import ChangeSender
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.view import View


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes on their way, which may give way to others."""

    change: Change
    number: int | None
    """Of the generation; None: they are fetched from another document first."""
    scope: trio.CancelScope


class ItemStates:
    """The first of three layers of the outbox: it looks, and changes nothing."""

    def __init__(
        self,
        *,
        store: TreeStore,
        view: View,
        drafts: DirtyFiles,
        edits: NamespaceEdits,
        naming: ChangeFate,
        queue: Queue,
        calls: InFlightCalls,
        carrier: ChangeSender,
        settling: ResultApplier,
        tally: Counters,
        write_back_s: float,
        sends: bool,
        is_listed: Callable[[], bool],
        polled_since: PolledSince,
        is_tree_behind: bool,
        is_budget_closed: Callable[[], bool],
        refused: Callable[[str, str], None],
    ) -> None:
        self._store = store
        self._view = view
        self._drafts = drafts
        self._edits = edits
        self._naming = naming
        self._queue = queue
        self._calls = calls
        self._carrier = carrier
        self._settling = settling
        self._tally = tally
        self._write_back_s = write_back_s
        self._sends = sends
        self._is_listed = is_listed
        self._polled_since = polled_since
        self._is_tree_behind = is_tree_behind  # until a look has shown what our own calls did
        self._is_budget_closed = is_budget_closed
        self._is_ending = False
        self._refused = refused
        self._hurried: dict[
            Inode, float
        ] = {}  # with the change's touched_at_s: later changes wait their time again
        self._not_before: dict[Inode, float] = {}  # by clocks.unix_s
        self._waiters: dict[Inode, list[trio.Event]] = {}
        self._outcomes: dict[Inode, Exception] = {}  # why the last try of somebody's `reached` ended
        self._transfers: dict[Inode, Transfer] = {}
        self._begun = 0  # counts what was begun to be carried out
        self._done: dict[Inode, int] = {}  # which of them was done last
        self._missed: set[Inode] = set()  # touched while they were being sent
        self._stepped_aside_s: dict[Inode, float] = {}  # trio's time of the last try
        self._steps_aside: set[Inode] = (
            set()
        )  # whoever waits for himself: its document gets another name for a moment
        self._needed: set[Inode] = set()  # not to be sent, but a document waits until their bytes are here
        self._busy: frozenset[Inode] = frozenset()
        self._busy_until_s = -1.0  # trio's time: then it is looked for anew
        self._paused_until_s = 0.0  # trio's time: while nothing gets through, only a probe goes now and then
        self._troubles = 0  # in a row

    def fate(self, change: Change) -> Fate:
        """What becomes of a change by its names, and by what it holds."""
        return self._naming.fate_of(change)

    def _bytes_of(self, change: Change | None) -> int:
        return change.staged.size_bytes if change is not None and change.staged is not None else 0

    def _size_of(self, change: Change) -> int:
        """Of its bytes, wherever they are."""
        borrowed = change.borrowed
        return borrowed.size_bytes if borrowed is not None else self._bytes_of(change)

    def _item_state(self, change: Change | None) -> str | None:
        """The state of items.py, or `junk`; None: it does not count."""
        if change is None:
            return None
        fate = self.fate(change)
        if fate is Fate.LOCAL:
            return self._local_state(change)
        if change.inode in self._queue.sending:
            return "uploading"
        if change.stage is Stage.FAILED:
            return "failed"
        if change.stage is Stage.INCOMPLETE:
            return "incomplete"
        if self._refused_before(change.inode) is not None:
            return "failed"
        if change.attempts and isinstance(self._outcomes.get(change.inode), CheckedOut):
            return "checked_out"
        if change.place is not GONE and fate is Fate.HELD:
            return "held"
        if change.is_idle and not self._calls.unconfirmed(change.inode, change.document):
            return None
        return "pending" if self._sends else "read_only"

    def _local_state(self, change: Change) -> str | None:
        if change.is_folder:
            return None
        return "local" if self._naming.is_own_content(change) else "junk"

    def _refused_before(self, inode: Inode) -> Change | None:
        """What it waits for, at the end, when that was refused for good."""
        at, steps = inode, 0
        while (waiting := self._queue.blocked.get(at)) is not None and steps < DEEPEST:
            at, steps = waiting.by, steps + 1
        change = self._view.change(at) if at != inode else None
        return change if change is not None and change.stage in (Stage.FAILED, Stage.INCOMPLETE) else None

    def take_stock(self) -> None:
        """Count all changes that there are; once, before any is carried out."""
        for change in self._view.changes():
            self._queue.touched(change.inode)
            self._recount(change.inode)

    def _recount(self, inode: Inode) -> None:
        change = self._view.change(inode)
        self._tally.count(inode, self._item_state(change), self._bytes_of(change))
        self._tell(inode)

    def _tell(self, inode: Inode) -> None:
        for event in self._waiters.pop(inode, ()):
            event.set()

    def state_of(self, inode: Inode) -> tuple[str, str]:
        """The state of a file for people, and why; `clean` when nothing waits."""
        change = self._view.change(inode)
        draft = self._drafts.get(inode)
        if draft is not None and draft.is_changed:
            return "dirty", ""
        state = self._item_state(change)
        if change is None or state is None:
            return "clean", ""
        if state in ("local", "junk"):
            return "local", self._naming.why_local(change)
        if change.stage is Stage.OPEN:
            return "dirty", ""
        return "pending" if state == "read_only" else state, self._reason(change)

    def _reason(self, change: Change) -> str:
        waiting = self._queue.blocked.get(change.inode)
        if change.stage is Stage.INCOMPLETE:
            return change.error or "its writer was cut off before it closed the file"
        before = self._refused_before(change.inode) if change.stage is not Stage.FAILED else None
        if before is not None:
            what = "was refused" if before.stage is Stage.FAILED else "is incomplete"
            return f"it waits for {self._path(before)}, which {what}"
        is_held = change.stage is Stage.PENDING and not change.error and self.fate(change) is Fate.HELD
        if is_held and isinstance(change.place, Location):
            return self._why_held(change.place)
        if not self._sends and change.stage is not Stage.FAILED:
            return "the mount is read-only"
        return change.error or change.refused or (waiting.why if waiting is not None else "")

    def _why_held(self, place: Location) -> str:
        refusal = self._naming.place_refusal(place)
        return TEMPORARY if refusal is None else f"{TEMPORARY}; it is never sent under this name: {refusal}"

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
        if change is None or state in (None, "junk"):
            return None
        since_s = change.failed_at_s if change.stage is Stage.FAILED else change.touched_at_s
        reason = self._naming.why_local(change) if state == "local" else self._reason(change)
        size_bytes = self._size_of(change) if state in STAYING else 0
        return Item(self._path(change), state, reason, clocks.shown_s(since_s), size_bytes)  # type: ignore[arg-type]  # states are ItemState

    def _path(self, change: Change) -> str:
        """Where it shows; of what is to go, where it was."""
        if is_unknown(change):
            for call in self._calls.of(change.inode, None):
                if call.place is not None:
                    return self._view.path_of_entry(call.place.folder, call.place.shown)
        if change.place is GONE:
            return self._view.path_in_procore(change.inode)
        return self._view.path(change.inode)

    def stuck(self) -> list[Item]:
        items = (self._item(self._view.change(inode)) for inode in self._tally.inodes(STUCK))
        stuck = [item for item in items if item is not None and item.state in STUCK]
        return sorted(stuck, key=lambda item: item.since)

    def waiting(self, below: Sequence[str]) -> list[Item]:
        return [item for _, item in self._items() if is_at_or_below(item.path, below)]
