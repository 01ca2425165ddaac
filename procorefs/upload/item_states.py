"""Decides the item state, the reason and the path of each change, as people and programs see them."""

from collections.abc import Callable

from procorefs.journal.change import Change, Location
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.states import MOVING, STAYING, WAITING_FOR_PEOPLE, ChangeState
from procorefs.procore.errors import CheckedOut
from procorefs.storage import clocks
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import DEEPEST
from procorefs.upload.attempts import Attempts
from procorefs.upload.counters import Counters
from procorefs.upload.items import TEMPORARY, TOO_MANY, Item
from procorefs.upload.planning.queue import Queue
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

_WHY_BLOCKS = {
    ChangeState.FAILED: "was refused",
    ChangeState.INCOMPLETE: "is incomplete",
    ChangeState.GUARDED: "the delete guard holds",
}


class ItemStates:
    """Reads changes and their tries; writes only the counters."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        fates: ChangeFate,
        calls: InFlightCalls,
        queue: Queue,
        attempts: Attempts,
        counters: Counters,
        *,
        sends: Callable[[], bool],
    ) -> None:
        """`sends`: whether this mount sends changes."""
        self._view = view
        self._dirty_files = dirty_files
        self._fates = fates
        self._calls = calls
        self._queue = queue
        self._attempts = attempts
        self._counters = counters
        self._sends = sends

    def state(self, change: Change | None) -> ChangeState | None:
        """The state that people see; None if the change does not count."""
        if change is None:
            return None
        fate = self._fates.fate_of(change)
        if fate is Fate.LOCAL:
            return self._local_state(change)
        if change.inode in self._queue.sending:
            return ChangeState.UPLOADING
        recorded = change.state
        if recorded in WAITING_FOR_PEOPLE:
            return recorded
        blocker = self.failed_blocker(change.inode) if self._queue.blocked else None
        if blocker is not None:
            return ChangeState.GUARDED if blocker.state is ChangeState.GUARDED else ChangeState.FAILED
        if change.attempts and isinstance(self._attempts.error_of(change.inode), CheckedOut):
            return ChangeState.CHECKED_OUT
        if not change.is_removed and fate is Fate.HELD:
            return ChangeState.HELD
        if change.is_idle and not self._calls.unconfirmed(change.inode, change.document):
            return None
        return ChangeState.PENDING if self._sends() else ChangeState.READ_ONLY

    def _local_state(self, change: Change) -> ChangeState | None:
        if change.is_folder:
            return None
        return ChangeState.LOCAL if self._fates.is_own_content(change) else ChangeState.JUNK

    def failed_blocker(self, inode: Inode) -> Change | None:
        """The last change in the chain of changes that it waits for, if that one waits for people."""
        at, steps = inode, 0
        while (waiting := self._queue.blocked.get(at)) is not None and steps < DEEPEST:
            at, steps = waiting.by, steps + 1
        change = self._view.change(at) if at != inode else None
        return change if change is not None and change.state in WAITING_FOR_PEOPLE else None

    def of_file(self, inode: Inode) -> tuple[ChangeState, str]:
        """The state of a file for people, and the reason; `clean` if nothing waits."""
        change = self._view.change(inode)
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None and dirty_file.is_changed:
            return ChangeState.DIRTY, ""
        state = self.state(change)
        if change is None or state is None:
            return ChangeState.CLEAN, ""
        if state in (ChangeState.LOCAL, ChangeState.JUNK):
            return ChangeState.LOCAL, self._fates.why_local(change)
        if change.state is ChangeState.OPEN:
            return ChangeState.DIRTY, ""
        return ChangeState.PENDING if state == ChangeState.READ_ONLY else state, self.reason(change)

    def sends_bytes(self, inode: Inode) -> bool:
        """Whether bytes of the file wait and will be sent automatically."""
        change = self._view.change(inode)
        return change is not None and change.has_bytes and self.of_file(inode)[0] in MOVING

    def reason(self, change: Change) -> str:
        """Why a change waits or failed, as Item.reason."""
        waiting = self._queue.blocked.get(change.inode)
        if change.state is ChangeState.INCOMPLETE:
            return change.reason or "its writer was cut off before it closed the file"
        if change.state is ChangeState.GUARDED:
            return change.reason or TOO_MANY
        before = self.failed_blocker(change.inode) if change.state is not ChangeState.FAILED else None
        if before is not None:
            return f"it waits for {self.path(before)}, which {_WHY_BLOCKS[before.state]}"
        is_held = (
            change.state is ChangeState.PENDING
            and not change.reason
            and self._fates.fate_of(change) is Fate.HELD
        )
        if is_held and change.location is not None:
            return self._why_held(change.location)
        if not self._sends() and change.state not in WAITING_FOR_PEOPLE:
            return "the mount is read-only"
        return change.reason or change.patch_refusal or (waiting.why if waiting is not None else "")

    def _why_held(self, place: Location) -> str:
        refusal = self._fates.place_refusal(place)
        return TEMPORARY if refusal is None else f"{TEMPORARY}; it is never sent under this name: {refusal}"

    def item(self, change: Change | None) -> Item | None:
        """The change as an item; None: it does not count, or is junk."""
        state = self.state(change)
        if change is None or state in (None, ChangeState.JUNK):
            return None
        reason = self._fates.why_local(change) if state == ChangeState.LOCAL else self.reason(change)
        size_bytes = _size_of(change) if state in STAYING else 0
        return Item(self.path(change), state, reason, clocks.shown_s(change.since_s), size_bytes)

    def path(self, change: Change) -> str:
        """Where the change shows; for a removed document, where it was."""
        if is_unknown(change):
            for call in self._calls.of(change.inode, None):
                if call.place is not None:
                    return self._view.path_of_entry(call.place.folder, call.place.shown)
        if change.is_removed:
            return self._view.path_in_procore(change.inode)
        return self._view.path(change.inode)

    # Counting

    def count(self, inode: Inode) -> Change | None:
        """Count a change under its present state and return that."""
        change = self._view.change(inode)
        self._counters.count(inode, self.state(change), staged_bytes(change))
        return change

    def count_new(self) -> None:
        """Count the changes that the scheduler has not seen yet."""
        for inode in self._counters.uncounted(self._queue.fresh):
            self.count(inode)

    def moves(self, inode: Inode) -> bool:
        """Whether the change is sent automatically."""
        change = self._view.change(inode)
        if change is None or change.state is ChangeState.OPEN:
            return False
        waiting = self._queue.blocked.get(inode)
        if waiting is not None and waiting.by != inode and self._view.change(waiting.by) is not None:
            return waiting.by in self._queue.fetching or self.moves(waiting.by)
        return self.state(change) in MOVING


def staged_bytes(change: Change | None) -> int:
    """The size of the change's staged file."""
    return change.staged.size_bytes if change is not None and change.staged is not None else 0


def _size_of(change: Change) -> int:
    """The size of the change's bytes, wherever they are."""
    version = change.pending_copy
    return version.size_bytes if version is not None else staged_bytes(change)
