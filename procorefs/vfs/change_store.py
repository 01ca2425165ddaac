"""Writes changes to the journal and shows them in the view, both or neither; also keeps attributes set on nodes.

Every other module that alters a change (takeover, write sessions, namespace edits, applied results) does it through
these calls: nothing is shown that was not journaled, and nothing is journaled that is not shown.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import msgspec

from procorefs.journal.change import FOLLOW, Change, Location, Place, Placed, Removed, aside_name
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import Call, InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import clocks
from procorefs.tree.naming.name_rules import marked
from procorefs.tree.nodes import Inode, Kept, Node, with_times
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.refusals import NoSuchEntry
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

INODES_AT_ONCE = 256
"""How many inode numbers are reserved at a time. Numbers left at the end of a run are never used."""


class Touched(Protocol):
    """Called when the change of an inode is new, altered or gone (`Queue.touched`)."""

    def __call__(self, inode: Inode, *, soon: bool = True) -> None: ...


class ChangeStore:
    """The only writer of changes, in the view and in the journal."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        journal: Journal,
        calls: InFlightCalls,
        durability: Durability,
        touched: Touched,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._journal = journal
        self._calls = calls
        self._durability = durability
        self.touched = touched
        self._next, self._end = 0, 0
        self._in_transaction = False
        self._on_commit: list[Callable[[], None]] = []
        self._on_rollback: list[Callable[[], None]] = []

    @property
    def sequence(self) -> int:
        """The sequence of the journal's last entry of bytes; see Change.sequence."""
        return self._journal.sequence

    # Transactions

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Journal everything in the block, or undo it all: a change that a full disk refuses is not shown either.

        The block contains no await. A nested transaction is part of the outer one.
        """
        if self._in_transaction:
            yield
            return
        self._in_transaction, self._on_commit, self._on_rollback = True, [], []
        self._view.begin_transaction()
        try:
            with self._journal.transaction():
                yield
        except Exception:
            others = self._view.restore(self._journal.load())
            for undo in reversed(self._on_rollback):
                undo()
            self._calls.load_owners()
            for inode in others:
                self.touched(inode)
            raise
        finally:
            self._in_transaction = False
            self._view.end_transaction()
        for call in self._on_commit:
            call()

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` if the present transaction fails; does nothing outside a transaction."""
        if self._in_transaction:
            self._on_rollback.append(undo)

    # Nodes and their changes

    def node(self, inode: Inode) -> Node:
        """The node that programs see. Raises NoSuchEntry."""
        node = self._view.by_inode(inode)
        if node is None:
            raise NoSuchEntry
        return node

    def change_of(self, node: Node) -> Change:
        """The change of a node. A new change is shown but not journaled, and wants nothing yet."""
        change = self._view.change(node.inode)
        if change is None:
            now_s = clocks.unix_s()
            change = Change(
                node.inode,
                node.kind,
                document=node.document_id,
                kept=node.kept or Kept(),
                created_at_s=now_s,
                touched_at_s=now_s,
            )
            self._view.show(change)
        return change

    def reserve_inode(self) -> Inode:
        """An inode number that no other node ever gets."""
        if self._next >= self._end:
            with self._store.transaction():
                self._next = int(self._store.reserve(INODES_AT_ONCE))
            self._end = self._next + INODES_AT_ONCE
        self._next += 1
        return Inode(self._next - 1)

    def set_place(self, change: Change, place: Location | Place) -> None:
        """Show a change at another place. The caller journals it."""
        self._view.hide(change)
        change.place = change.placed_at(place) if isinstance(place, Location) else place
        self._view.show(change)

    # Journaling

    def add(self, change: Change) -> None:
        """Journal and show a new change."""
        self.update(change)  # first: a change that a full disk refuses must not be shown
        self._view.show(change)
        if change.location is not None:
            self._view.entries_changed(change.location.folder)

    def update(self, change: Change) -> None:
        """Journal a change and tell the scheduler."""
        self.save(change)
        self.touched(change.inode, soon=False)

    def save(self, change: Change) -> None:
        """Journal a change without telling the scheduler."""
        for folder in change.folders:
            self._save_folder(folder)
        self._journal.put(change)
        staged = change.staged if change.state is not ChangeState.OPEN else None
        self._durability.journaled(
            self._dirty_files.file(change.inode, staged) if staged is not None else None
        )

    def _save_folder(self, folder: Inode) -> None:
        node = self._store.by_inode(folder)
        if node is not None and node.document_id is not None:
            self._journal.note_folder(folder, node.document_id)

    def save_if_current(self, change: Change, *, touched: bool = False) -> None:
        """Journal the progress of a change, unless it was given up meanwhile."""
        if self._view.change(change.inode) is not change:
            return
        self.save(change)
        if touched:
            self.touched(change.inode)

    def settle_or_update(self, change: Change) -> None:
        """Journal a change, or end it when it wants nothing."""
        if change.is_idle and not self._dirty_files.is_written(change.inode):
            self.settle(change)
        else:
            self.update(change)

    # The end of a change

    def settle(self, change: Change) -> None:
        """End a change because Procore has all that was wanted; the kept attributes move to the document's row.

        Bytes that a crash cut off remain as an incomplete change.
        """
        if change.unclosed is not None:
            change.be_incomplete()
            self.update(change)
            return
        if self._calls.unconfirmed(change.inode, change.document):
            self.update(change)  # their outcome must be found out first
            return
        if change.document is not None:
            self._journal.attributed.bind(change.inode, change.document)
        self._view.hide(change)
        with self._store.transaction():
            self._store.keep(change.inode, change.kept if change.kept != Kept() else None)
        self._drop_row(change)
        self.touched(change.inode)

    def dismiss(self, change: Change) -> None:
        """Give up a change and everything that it wants."""
        if change.document is None:
            self.drop_local(change)
            return
        self._calls.forget_document(change.document)
        self._view.hide(change)
        self._drop_row(change)
        self.release_bytes(change.inode, change.records)
        self.touched(change.inode)

    def _drop_row(self, change: Change) -> None:
        """Drop a row. For a folder, note its document: other rows may be placed in it."""
        with self._journal.transaction():
            if change.is_folder and change.document is not None:
                self._journal.note_folder(change.inode, change.document)
            self._journal.drop(change.inode)
        self._durability.journaled(None)

    def drop_local(self, change: Change) -> None:
        """Drop the change of a node that Procore never had. Open handles keep its bytes."""
        self.keep_unconfirmed(change.inode, is_going=True)
        self._journal.attributed.drop_all(change.inode)
        if change.is_folder or self._dirty_files.is_open(change.inode):
            self._view.detach(change.inode)
        self._view.hide(change)
        self._journal.drop(change.inode)
        self._durability.journaled(None)
        self.release_bytes(change.inode, change.records)
        self.touched(change.inode)

    def release_bytes(self, inode: Inode, records: Sequence[StagedRecord]) -> None:
        """Release staged bytes at the end of the transaction, those of an open file at its last close."""

        def release() -> None:
            if not self._dirty_files.is_open(inode):
                self._dirty_files.drop(inode)
            for record in records:
                self._dirty_files.drop_parked(record)

        if self._in_transaction:
            self._on_commit.append(release)
        else:
            release()

    def keep_unconfirmed(self, inode: Inode, *, is_going: bool = False) -> None:
        """Make sure that each unconfirmed call has a change that finds out its outcome.

        `is_going`: the inode's own change is about to end.
        """
        change = self._view.change(inode) if not is_going else None
        for call in self._calls.given_up(inode, None):
            if change is not None and call.belongs_to(change):
                continue
            owner = self._owner(call)
            if owner is not None:
                self._calls.hand_over(call, owner)
                self.touched(owner)

    def _owner(self, call: Call) -> Inode | None:
        """The inode of the call's document. If the call may have made the document, a removal is journaled for it."""
        if call.document is not None:
            known = self._store.known(call.document)
            if known is None or known.node.inode == call.inode:
                return None
            self.update(self.change_of(known.node))
            return known.node.inode
        now_s = clocks.unix_s()
        change = Change(self.reserve_inode(), call.kind, Removed(), created_at_s=now_s, touched_at_s=now_s)
        self._view.show(change)
        self.update(change)
        return change.inode

    def follow_again(self, change: Change) -> None:
        """Give up the wanted place. The document shows where Procore has it, or had it before its temporary name.

        Its newest version shows as well, unless local bytes cover it.
        """
        back = change.aside_from if self._is_aside(change) else None
        self.set_place(change, Placed(self.free_place(back, change.inode)) if back is not None else FOLLOW)
        if change.shown is None and not self._dirty_files.has(change.inode):
            change.seen = None
        self.update(change)

    def free_place(self, place: Location, inode: Inode) -> Location:
        """The place, with a marked name if another inode shows there."""
        there = self._view.child(place.folder, place.shown)
        if there is None or there.inode == inode:
            return place
        return Location(place.folder, marked(place.name, str(inode)).decode("utf-8", "replace"))

    def _is_aside(self, change: Change) -> bool:
        """Whether Procore has the document under its temporary name, or may have."""
        if change.document is None:
            return False
        name, known = aside_name(change.document), self._store.known(change.document)
        names = {call.place.name for call in self._calls.of(change.inode, change.document) if call.place}
        return name in names or (known is not None and known.name == name)

    def move_to_inode(self, inode: Inode, successor: Inode) -> None:
        """Move the change of a document to another inode, which the document has from now on."""
        change = self._view.change(inode)
        if change is None or change.document is None:
            return
        for call in self._calls.of(inode, None):
            self._calls.hand_over(call, successor)
        self._view.hide(change)
        change.inode = successor
        self._view.show(change)
        with self._journal.transaction():
            self._journal.drop(inode)
            self.update(change)
        self.touched(inode)

    # Kept attributes

    def keep(self, inode: Inode, kept: Kept) -> None:
        """Keep the attributes that setattr set. They replace all kept ones: the caller starts from `Node.kept`."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None:
            dirty_file.mtime_ns = None  # the mtime is part of `kept`, unless a program set it
        if self._view.keep_detached(inode, kept):
            return
        node = self.node(inode)
        if node.is_folder:
            self._view.folder_times.forget(inode)
        change = self._view.change(inode)
        if node.version is not None and not _hides_version(change):
            kept = msgspec.structs.replace(kept, version_id=node.version.id)
        if change is not None:
            change.kept = kept
            self.save(change)
            return
        with self._store.transaction():
            self._store.keep(inode, kept)

    def keep_folder_times(self, changed_ns: Mapping[Inode, int]) -> None:
        """Keep the times at which the entries of these folders changed."""
        with self._store.transaction():
            for folder, time_ns in changed_ns.items():
                node = self._store.by_inode(folder)
                if node is not None and self._view.change(folder) is None:
                    self._store.keep(folder, with_times(node.kept, time_ns))
        for folder, time_ns in changed_ns.items():
            change = self._view.change(folder)
            if change is not None:
                change.kept = with_times(change.kept, time_ns)
                self.save(change)
            if self._view.folder_times.of(folder) == time_ns:
                self._view.folder_times.forget(folder)


def _hides_version(change: Change | None) -> bool:
    """Whether local bytes cover a version that no program may have seen: what is kept is not bound to that one."""
    return change is not None and change.seen is not None and change.pending_copy is None


def is_unknown(change: Change) -> bool:
    """Whether the change only stands for a document that an unconfirmed call may have made."""
    return change.is_removed and change.document is None
