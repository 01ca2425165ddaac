"""Holds deletions and overwrites of documents when too many are wanted within ten minutes.

    change wanted ─▶ counted (WishWindow) ─▶ more than the limit? ─▶ all that are not sent are GUARDED, in the journal
                                                                     ─▶ `retry` sends them, `discard` gives them up

A wrong `rm -r`, an `rsync --delete` with an empty source or an encrypting program would delete in seconds what the
recycle bin gives back one by one. It is no deletion when a new file of that name takes over the document.
"""

import enum
import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from procorefs.journal.change import Change, Guarded, Pending, Written
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import DocumentId, VersionId
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.upload.planning.content_signatures import HEAD_BYTES, has_signature, is_other_type
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

WINDOW_S = 600.0
"""Documents are counted together if the first and the last were deleted within this time."""

BUCKET_S = 60
"""Sent deletions are counted by the minute in which they were wanted."""

_FACT = "sent_deletions"
"""The journal's fact: by kind and minute, how many were sent."""


class GuardedKind(enum.StrEnum):
    """The kinds of changes that the guard counts, each separately."""

    DELETION = "deletion"
    OVERWRITE = "overwrite"
    """A document gets bytes of another type."""


class WishWindow:
    """Counts the changes that were wanted within the window before the newest one, sent or not, and all held ones.
    Pure."""

    def __init__(self, limit: float, sent: dict[int, int]) -> None:
        """`sent`: how many were sent, by minute."""
        self.limit = limit
        self._newest_s = 0.0
        self._waiting: dict[Inode, float] = {}  # when each was wanted, the oldest first
        self._sent = Counter(sent)
        self.held: set[Inode] = set()

    @property
    def is_exceeded(self) -> bool:
        return len(self._waiting) + len(self.held) + sum(self._sent.values()) > self.limit

    @property
    def waiting(self) -> list[Inode]:
        """The counted changes that are neither sent nor held."""
        return list(self._waiting)

    @property
    def sent(self) -> dict[int, int]:
        """How many were sent, by minute."""
        return dict(self._sent)

    def add(self, inode: Inode, at_s: float) -> bool:
        """Count a change; False if it is older than the window."""
        if self._waiting.get(inode) == at_s:
            return True
        self._newest_s = max(self._newest_s, at_s)
        first_s = self._newest_s - WINDOW_S
        self._waiting.pop(inode, None)
        self.held.discard(inode)
        while self._waiting and (oldest := next(iter(self._waiting.items())))[1] <= first_s:
            del self._waiting[oldest[0]]
        for minute in [minute for minute in self._sent if (minute + 1) * BUCKET_S <= first_s]:
            del self._sent[minute]
        if at_s <= first_s:
            return False
        self._waiting[inode] = at_s
        return True

    def hold(self, inode: Inode) -> None:
        """Count a held change, until it is let go or given up."""
        self._waiting.pop(inode, None)
        self.held.add(inode)

    def was_sent(self, inode: Inode) -> None:
        """Count a change that Procore has done, while it is in the window."""
        at_s = self._waiting.pop(inode, None)
        self.held.discard(inode)
        if at_s is not None:
            self._sent[int(at_s // BUCKET_S)] += 1

    def forget(self, inode: Inode) -> None:
        """Stop counting a change that is no longer wanted or that a person let go."""
        self._waiting.pop(inode, None)
        self.held.discard(inode)


class _Counted(NamedTuple):
    """What was counted for an inode."""

    kind: GuardedKind
    document: DocumentId
    version: VersionId | None
    """The version in the tree at that time."""
    folder: Inode
    """The folder that it is in; for a folder, itself."""


class HeldFolder(NamedTuple):
    """How many changes are held in a folder, or below a removed folder."""

    path: str
    deletions: int
    overwrites: int


class DeleteGuard:
    """Checks each change before it may be sent; synchronous."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        calls: InFlightCalls,
        changes: ChangeStore,
        journal: Journal,
        limit: int | None,
    ) -> None:
        """`limit`: how many documents may be deleted within ten minutes; None if any number may."""
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._calls = calls
        self._changes = changes
        self._journal = journal
        self.limit = limit
        sent = _decode_sent(journal.fact(_FACT))
        self._windows = {kind: WishWindow(_most(limit), sent.get(kind, {})) for kind in GuardedKind}
        self._counted: dict[Inode, _Counted] = {}

    def set_limit(self, limit: int | None) -> None:
        """Change the limit. Each change is compared with it before it is sent; what is held already stays held."""
        self.limit = limit
        for window in self._windows.values():
            window.limit = _most(limit)

    def start(self, changes: Iterable[Change]) -> None:
        """Count the changes of an earlier run, in the order in which they were wanted.

        Without a document nothing is deleted or overwritten, but a change may be held that had one.
        """
        counted = [
            change for change in changes if change.document is not None or change.state is ChangeState.GUARDED
        ]
        for change in sorted(counted, key=lambda change: change.touched_at_s):
            self.look(change.inode, change)

    def look(self, inode: Inode, change: Change | None) -> None:
        """Count a change as it is now, and hold it if too many are wanted; None if the inode has no change any more."""
        kind = self._kind_of(change) if change is not None else None
        counted = self._counted.get(inode)
        if counted is not None and counted.kind is not kind:
            self._end(inode, counted)
        if change is None or kind is None:
            if change is not None and change.state is ChangeState.GUARDED:
                change.step(Pending())  # it is not what was held any more
                self._save([change])
            return
        window = self._windows[kind]
        if inode not in self._counted:
            self._note(inode, change, kind)
        if change.state is ChangeState.GUARDED and self._may_be_sent(change):
            change.step(Pending())
            self._save([change])
        if change.state is ChangeState.GUARDED:
            window.hold(inode)
        elif window.add(inode, change.touched_at_s) and window.is_exceeded:
            self._hold(kind)

    def held_folders(self) -> list[HeldFolder]:
        """The held changes, by folder; a removed folder includes all below it."""
        counts: dict[Inode, Counter[GuardedKind]] = {}
        for kind, window in self._windows.items():
            for inode in window.held:
                counts.setdefault(self._counted[inode].folder, Counter())[kind] += 1
        found: dict[str, Counter[GuardedKind]] = {}
        for folder, count in counts.items():
            found.setdefault(self._path(folder), Counter()).update(count)
        return [
            HeldFolder(path, count[GuardedKind.DELETION], count[GuardedKind.OVERWRITE])
            for path, count in sorted(found.items())
        ]

    def _path(self, folder: Inode) -> str:
        """The path of the topmost removed folder that contains a folder, or of the folder itself."""
        removed, at = None, folder
        for _ in range(DEEPEST):
            change = self._view.change(at)
            if change is None or not change.is_removed:
                break
            removed = at
            node = self._store.by_inode(at)
            at = node.parent if node is not None and node.parent is not None else ROOT
        return self._view.path(folder) if removed is None else self._view.path_in_procore(removed)

    # Counting

    def _kind_of(self, change: Change) -> GuardedKind | None:
        is_held_or_waits = change.state in (ChangeState.PENDING, ChangeState.GUARDED)
        if change.document is None or change.passes_guard or not is_held_or_waits:
            return None
        if change.is_removed:
            return GuardedKind.DELETION
        return GuardedKind.OVERWRITE if self._has_other_type(change, change.document) else None

    def _has_other_type(self, change: Change, document: DocumentId) -> bool:
        """Whether the bytes that were written over a document are of another type; reads them from the page cache."""
        if not isinstance(change.content, Written):
            return False
        known = self._store.known(document)
        if known is None or not has_signature(known.name):
            return False
        head = self._dirty_files.head(change.inode, change.content.staged, HEAD_BYTES)
        new_name = change.location.name if change.location is not None else known.name
        return head is not None and is_other_type(head, known.name, new_name)

    def _note(self, inode: Inode, change: Change, kind: GuardedKind) -> None:
        assert change.document is not None
        node = self._store.by_inode(inode)
        version = node.version.id if node is not None and node.version is not None else None
        parent = node.parent if node is not None and node.parent is not None else ROOT
        if change.location is not None:
            parent = change.location.folder
        self._counted[inode] = _Counted(kind, change.document, version, inode if change.is_folder else parent)

    def _end(self, inode: Inode, counted: _Counted) -> None:
        """Stop waiting for a counted change: Procore has done it, or it is no longer wanted."""
        del self._counted[inode]
        window = self._windows[counted.kind]
        known = self._store.known(counted.document)
        version = known.node.version.id if known is not None and known.node.version is not None else None
        is_there = known is not None and self._store.reachable(known.node.inode)
        if is_there and version == counted.version:
            window.forget(inode)
            return
        window.was_sent(inode)
        try:
            with self._journal.transaction():
                self._journal.remember(_FACT, _encode_sent(self._windows))
        except (sqlite3.Error, OSError) as error:
            log.info("What was deleted cannot be counted in the journal: %s", error)

    # Holding

    def _hold(self, kind: GuardedKind) -> None:
        """Hold all changes that are not sent."""
        window = self._windows[kind]
        waiting = (self._view.change(inode) for inode in window.waiting)
        held = [
            change
            for change in waiting
            if change is not None
            and change.state is ChangeState.PENDING
            and self._kind_of(change) is kind
            and not self._may_be_sent(change)
        ]
        if not held:
            return
        if not window.held:
            self._tell_of(kind, held[-1])
        for change in held:
            change.step(Guarded(at_s=clocks.unix_s()))
            window.hold(change.inode)
        self._save(held)

    def _may_be_sent(self, change: Change) -> bool:
        """Whether an unanswered call may have done it: the outcome of that call is looked up in any case."""
        calls = self._calls.unconfirmed(change.inode, change.document)
        return any(call.removes or call.upload is not None for call in calls)

    def _save(self, changes: list[Change]) -> None:
        """Journal changes. On a full disk the rows stay as they were, and the next start counts with the same
        result."""
        try:
            with self._journal.transaction():
                for change in changes:
                    self._changes.save(change)
        except (sqlite3.Error, OSError) as error:
            log.error("What the delete guard holds cannot be journaled: %s", error)
        for change in changes:
            self._changes.touched(change.inode)

    def _tell_of(self, kind: GuardedKind, last: Change) -> None:
        what = "deleted" if kind is GuardedKind.DELETION else "overwritten with bytes of another type"
        path = self._view.path_in_procore(last.inode)
        log.warning(
            "More than %s documents were %s within ten minutes, the last one is %s: the delete guard holds them. "
            "`procorefs status` counts them, `procorefs retry` sends them and `procorefs discard` brings them back.",
            self.limit,
            what,
            path,
        )


def _most(limit: int | None) -> float:
    return float("inf") if limit is None else float(limit)


def _encode_sent(windows: dict[GuardedKind, WishWindow]) -> str:
    return msgspec.json.encode({kind.value: window.sent for kind, window in windows.items()}).decode()


def _decode_sent(text: object) -> dict[str, dict[int, int]]:
    """The counts of an earlier run; minutes in the future become the present one, and damaged counts are dropped."""
    if not isinstance(text, str):
        return {}
    try:
        sent = msgspec.json.decode(text, type=dict[str, dict[int, int]])
    except msgspec.MsgspecError:
        return {}
    now = int(clocks.unix_s() // BUCKET_S)
    found: dict[str, dict[int, int]] = {}
    for kind, counts in sent.items():
        kept: Counter[int] = Counter()
        for minute, count in counts.items():
            kept[min(minute, now)] += count
        found[kind] = dict(kept)
    return found
