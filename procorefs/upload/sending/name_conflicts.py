"""Finds the document that has a name which Procore refused, and remembers names that Procore changed.

Procore may take two names for one that are two here: composed and decomposed letters, other case, other white space.
A document that was only ever seen under another name is not overwritten by one that happens to be called alike.

It may also store another name than was sent (procore-api.md, Names). Then the document shows under Procore's name, and
nobody knows the rule: which document has the name is known only from answers.
"""

import enum
import logging
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cachetools
import trio

from procorefs.journal.change import Change, Location
from procorefs.limiter import Priority
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import Document, DocumentId, Kind
from procorefs.tree.naming.name_rules import shown_name
from procorefs.tree.nodes import EntryGone, Inode, Invalidation, ListingChanged
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Blocked, Refused
from procorefs.upload.planning.plan import Wait, kind_refusal, leave_wait
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

MOST_CHANGED_NAMES = 10_000
QUIET_S = 10.0
"""A folder shows under its changed name this long after its answer, if nothing waits in it."""

LOOK_S = 5.0
MOST_CHANGES = 1000
"""With more changes than these, all folders count as busy."""


class Likeness(enum.IntEnum):
    """How similar two names are."""

    SAME = 0
    COMPOSED = 1
    """They differ only in composed or decomposed letters."""
    CHANGED = 2
    """Procore has stored the one as the other before."""
    SIMILAR = 3
    """They differ only in case, width and white space."""


@dataclass(frozen=True, slots=True)
class NameConflict:
    """A document with the same or a similar name."""

    document: Document
    likeness: Likeness


class ChangedNames:
    """The names of this run that Procore stored otherwise than they were sent."""

    def __init__(
        self,
        view: View,
        invalidate: Callable[[Sequence[Invalidation]], None],
        tell: Callable[[str, str], None],
    ) -> None:
        """`tell` shows people a path and a sentence about it."""
        self._view = view
        self._invalidate = invalidate
        self._tell = tell
        self._busy_since_s: dict[Inode, float] = {}
        """Folders that show under the names that were sent, by trio's time."""
        self._added = trio.Event()
        self._stored: cachetools.LRUCache[Location, tuple[DocumentId, str]] = cachetools.LRUCache(
            MOST_CHANGED_NAMES
        )

    def entry(self, document: Document, inode: Inode, parent: Inode, target: Location | None) -> bytes | None:
        """The entry of a document that a call has put to `target`; None: the one that it has, or its name.

        Procore may compose letters: the name that was sent stays, which is the same for every reader. Any other name
        that it stored is a file's from now on, and a folder's as soon as nothing waits in it: a program that copies
        into it goes on.
        """
        if target is None:
            return None
        if not _is_changed(document, target):
            return target.shown
        if document.kind is Kind.FOLDER:
            self._busy_since_s[inode] = trio.current_time()
            self._added.set()
            return target.shown
        return self._free_entry(document.name, document.id, inode, parent)

    def _free_entry(self, name: str, document: DocumentId, inode: Inode, parent: Inode) -> bytes:
        """The entry for a name; if a local file has it, they stay two, and this one is marked."""

        def taken(entry: bytes) -> bool:
            other = self._view.child(parent, entry)
            return other is not None and other.inode != inode and other.document_id != document

        return shown_name(name, document, taken)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._added.wait()
            self._added = trio.Event()
            while self._busy_since_s:
                await trio.sleep(LOOK_S)
                self.show_folders(QUIET_S)

    def show_folders(self, quiet_s: float = 0.0) -> None:
        """Show folders under the names that Procore has, if nothing waited in them for so long."""
        now_s = trio.current_time()
        for inode, since_s in list(self._busy_since_s.items()):
            if self._is_busy(inode):
                self._busy_since_s[inode] = now_s
            elif now_s - since_s >= quiet_s:
                del self._busy_since_s[inode]
                self._show(inode)

    def _is_busy(self, folder: Inode) -> bool:
        changes = self._view.changes() if len(self._view) <= MOST_CHANGES else None
        return changes is None or any(self._view.is_within(change.inode, folder) for change in changes)

    def _show(self, inode: Inode) -> None:
        store, node = self._view.store, self._view.store.by_inode(inode)
        known = store.known(node.document_id) if node is not None and node.document_id is not None else None
        if node is None or node.document_id is None or known is None or node.parent is None:
            return
        entry = self._free_entry(known.name, node.document_id, inode, node.parent)
        if entry == node.shown or not node.in_tree:
            return
        with store.transaction():
            store.show(inode, entry)
        self._invalidate(
            [EntryGone(node.parent, node.shown), EntryGone(node.parent, entry), ListingChanged(node.parent)]
        )

    def note(self, document: Document, inode: Inode, parent: Inode, target: Location | None) -> None:
        """Remember a changed name from the answer to a call, and tell people of it."""
        if target is None or target.folder != parent or not _is_changed(document, target):
            return
        self._stored[target] = (document.id, document.name)
        path = self._view.path(inode)
        why = f"Procore changed the name {target.name!r} to {document.name!r} by its own rules"
        log.warning("%s: %s.", path, why)
        self._tell(path, why)

    def is_stored_as(self, sent: Location, document: Document) -> bool:
        """Whether Procore made this document of that name, and it still has the name that it got."""
        return self._stored.get(sent) == (document.id, document.name)


class NameConflicts:
    """Looks up which document has a name that Procore refused as taken. Each look-up costs a call."""

    def __init__(self, store: TreeStore, view: View, documents: DocumentCalls, changed: ChangedNames) -> None:
        self._store = store
        self._view = view
        self._documents = documents
        self._changed = changed

    async def find(self, folder: DocumentId | None, place: Location, kind: Kind) -> NameConflict | None:
        """The most similar document in that folder that is not deleted; of the same kind if there are two."""
        found = [
            NameConflict(document, likeness)
            for document in await self._living(folder)
            if (likeness := self._likeness(document, place)) is not None
        ]
        found.sort(key=lambda conflict: (conflict.likeness, conflict.document.kind is not kind))
        return found[0] if found else None

    async def new_in(
        self, folder: DocumentId | None, place: Location, change: Change, last_inode: Inode
    ) -> list[Document]:
        """The documents of that folder that no listing had shown when `last_inode` was the last, and that no other
        change or call accounts for: one of them may be what an unanswered call has made under a changed name."""
        return [
            document
            for document in await self._living(folder)
            if document.kind is change.kind and self._may_be(document, place, change, last_inode)
        ]

    async def _living(self, folder: DocumentId | None) -> list[Document]:
        listing = await self._documents.client.folder(folder, priority=Priority.WRITING)
        return [document for document in listing.children if not document.deleted]

    def maybe_made(self, conflict: NameConflict | None, change: Change) -> Document | None:
        """The document that has the name, if a call of the change may have made it.

        None if it is of another kind, or another change has it, whose bytes may be the same.
        """
        if conflict is None or conflict.document.kind is not change.kind:
            return None
        return None if self._is_anothers(conflict.document, change) else conflict.document

    def _is_anothers(self, document: Document, change: Change) -> bool:
        """Whether another change has the document."""
        known = self._store.known(document.id)
        return known is not None and self._view.change(known.node.inode) not in (None, change)

    def _may_be(self, document: Document, place: Location, change: Change, last_inode: Inode) -> bool:
        known = self._store.known(document.id)
        if (known is not None and known.node.inode <= last_inode) or self._is_anothers(document, change):
            return False
        there = Location(place.folder, document.name)
        return self._documents.calls.maker_at(there, document.kind) in (None, change.inode)

    def _likeness(self, document: Document, place: Location) -> Likeness | None:
        if self._changed.is_stored_as(place, document):
            return Likeness.CHANGED
        return likeness_of(document.name, place.name)

    def check_joinable(
        self, change: Change, target: Location, conflict: NameConflict, error: ProcoreError
    ) -> None:
        """Whether ours may become a version of it, or the same folder.

        Raises Blocked while it is to leave the name, and Refused if it is of another kind or shows elsewhere.
        """
        document = conflict.document
        self.check_leaving(change, target, conflict)
        if document.kind is not change.kind:
            raise Refused(kind_refusal(document.kind)) from error
        known = self._store.known(document.id)
        is_new_here = known is None or not self._shows_elsewhere(known, target)
        if conflict.likeness is Likeness.CHANGED:
            return
        if conflict.likeness in (Likeness.SAME, Likeness.COMPOSED) and is_new_here:
            return
        raise Refused(
            f"Procore treats {target.name!r} and {document.name!r} as the same name: rename one of the two"
        ) from error

    def has_left(self, conflict: NameConflict, target: Location) -> bool:
        """Whether the tree knows by now that the document has another name."""
        known = self._store.known(conflict.document.id)
        if known is None:
            return False
        is_elsewhere = known.node.parent != target.folder or not known.node.in_tree
        return is_elsewhere or likeness_of(known.name, target.name) is None

    def check_leaving(self, change: Change, target: Location, conflict: NameConflict) -> None:
        """Raise Blocked if the document is about to leave the name for another one than the change's, or if an open
        call about something else may have made it."""
        known, calls = self._store.known(conflict.document.id), self._documents.calls
        theirs = self._view.change(known.node.inode) if known is not None else None
        if theirs is None:
            kind = conflict.document.kind
            maker = calls.maker_of(known.node) if known is not None else calls.maker_at(target, kind)
            if maker is not None and maker != change.inode:
                raise Blocked(Wait(maker, "a call about its name is in progress"))
        elif theirs is not change and not theirs.is_following:
            raise Blocked(leave_wait(theirs.inode))

    def _shows_elsewhere(self, known: Known, target: Location) -> bool:
        """Whether programs see the document as another entry than the wanted one."""
        place = self._view.parent(known.node.inode)
        return place is not None and place != (target.folder, target.shown)


def likeness_of(one: str, other: str) -> Likeness | None:
    """How similar two names are; None if they are different."""
    if one == other:
        return Likeness.SAME
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return Likeness.COMPOSED
    return Likeness.SIMILAR if _folded(one) == _folded(other) else None


def _is_changed(document: Document, target: Location) -> bool:
    """Whether Procore has stored another name than was sent, composed letters aside."""
    return likeness_of(document.name, target.name) not in (Likeness.SAME, Likeness.COMPOSED)


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
