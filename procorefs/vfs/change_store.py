"""Keeps changes: in memory where the tree is seen through them, and in the journal, in one moment.

Whoever changes a change (takeover, write sessions, edits, results) does it by these calls: nothing shows that was
not written down, and nothing is written down that does not show.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from procorefs.journal.change import FOLLOW, GONE, Change, Location, Stage
from procorefs.journal.in_flight_calls import Call, InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.procore.wire.models import DocumentId
from procorefs.staging.staging_area import StagedFile, StagedRecord
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.refusals import (
    HeldByOther,
    NoSuchEntry,
    NotPermitted,
)
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

INODES_AT_ONCE = 256
"""Numbers reserved in one go; those left over at the end of a run are never used."""


class Touched(Protocol):
    """Hears of changes (queue.py)."""

    def __call__(self, inode: Inode, *, soon: bool = True) -> None: ...


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Whom edits ask and tell."""

    calls: InFlightCalls
    """The open calls: their answers are applied to whoever has the document by then."""
    touched: Touched
    """Something about its change is new, or it has none any more."""
    holder_of: Callable[[Inode], str | None]
    """Who else has the document checked out."""


class ChangeStore:
    """The journal's keeper, and the first of four layers that together are the edits of a mount."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        drafts: DirtyFiles,
        journal: Journal,
        naming: ChangeFate,
        neighbours: Neighbours,
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._drafts = drafts
        self._journal = journal
        self._naming = naming
        self._neighbours = neighbours
        self._next, self._end = 0, 0
        self._superfluous: list[Callable[[], None]] = []  # what lets bytes go once the moment is written down
        self._in_moment = False
        self._claimed: list[tuple[DocumentId, Inode]] = []  # in this moment, with the inode of before
        self.sequence = max(
            [int(journal.fact("synced") or 0), *(change.sequence for change in view.changes())]
        )
        """Of the last entry of bytes in the journal; see Change.sequence."""
        self.strays: list[Inode] = []
        """Documents that nobody wanted any more when they had been made: who waits for all to be done waits for them,
        too, and takes them off."""
        self.journaled: Callable[[StagedFile | None], None] = lambda _file: None
        """Told of everything that was written down (durability.py)."""

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """All of it is written down, or nothing has happened: what a full disk refused is not shown either."""
        if self._in_moment:
            yield  # a part of that one
            return
        self._in_moment, self._superfluous, self._claimed = True, [], []
        try:
            with self._journal.transaction():
                yield
        except Exception:
            others = self._view.lay_anew(self._journal.load())
            self._claim_back()
            self._neighbours.calls.load_owners()
            for inode in others:
                self._neighbours.touched(inode)
            raise
        finally:
            self._in_moment = False
        for let_go in self._superfluous:
            let_go()

    def _claim(self, document: DocumentId, inode: Inode) -> None:
        """Let a document be that inode in the tree, which is a database of its own."""
        with self._store.transaction():
            before = self._own.claim(document, inode)
        if before is not None and before.inode != inode:
            self._claimed.append((document, before.inode))

    def _claim_back(self) -> None:
        """The moment has not come to be: the tree is as the journal has it. Else the next start would see to it."""
        claimed, self._claimed = self._claimed, []
        for document, inode in reversed(claimed):
            try:
                with self._store.transaction():
                    self._own.claim(document, inode)
            except sqlite3.Error as error:
                log.error("Document %d cannot get its inode back: %s", document, error)

    def _shown(self, inode: Inode) -> Node:
        node = self._view.by_inode(inode)
        if node is None:
            raise NoSuchEntry
        return node

    def _check_changeable(self, node: Node) -> None:
        if node.read_only or node.inode == ROOT:
            raise NotPermitted("Procore has it read-only", path=self._view.path(node.inode))
        holder = self._neighbours.holder_of(node.inode)
        if holder is not None:
            raise HeldByOther(f"{holder} has it checked out", path=self._view.path(node.inode))

    def _engage(self, node: Node) -> Change:
        """The change of a node, laid; a new one wants nothing yet."""
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
            self._view.lay(change)
        return change

    def _reserve(self) -> Inode:
        if self._next >= self._end:
            with self._store.transaction():
                self._next = int(self._store.reserve(INODES_AT_ONCE))
            self._end = self._next + INODES_AT_ONCE
        self._next += 1
        return Inode(self._next - 1)

    def _replace(self, change: Change, place: Location | object) -> None:
        """Give a laid change another place."""
        self._view.lift(change)
        change.place = place  # type: ignore[assignment]  # Place or Whereabouts: mypy loses the union in a parameter
        self._view.lay(change)

    def _lay(self, change: Change) -> None:
        self._write(change)  # first: what a full disk refuses is not shown
        self._view.lay(change)
        if isinstance(change.place, Location):
            self._view.entries_changed(change.place.folder)

    def _write(self, change: Change) -> None:
        self._put(change)
        self._neighbours.touched(change.inode, soon=False)

    def _put(self, change: Change) -> None:
        for folder in change.folders:
            self._note_folder(folder)
        self._journal.put(change)
        staged = change.staged if change.stage is not Stage.OPEN else None
        self.journaled(self._drafts.file(change.inode, staged) if staged is not None else None)

    def _note_folder(self, folder: Inode) -> None:
        node = self._store.by_inode(folder)
        if node is not None and node.document_id is not None:
            self._journal.note_folder(folder, node.document_id)

    def _settle_or_lay(self, change: Change, *, laid: bool = False) -> None:
        """Keep a change, or let it go when it wants nothing."""
        if not laid:
            self._view.lay(change)
        if change.is_idle and not self._drafts.is_written(change.inode):
            self.settle(change)
        else:
            self._write(change)

    def note(self, change: Change, *, touched: bool = False) -> None:
        """Write down how far a change has come; one that was given up meanwhile has nothing to write."""
        if self._view.change(change.inode) is not change:
            return
        self._put(change)
        if touched:
            self._neighbours.touched(change.inode)

    def touch(self, inode: Inode) -> None:
        """Have a change looked at anew."""
        self._neighbours.touched(inode)

    def settle(self, change: Change) -> None:
        """Nothing is wanted any more that Procore does not have: what was kept goes to the document's row.

        But for what was cut off by a crash: that has waited for all else to be sent.
        """
        if change.unclosed is not None:
            change.be_incomplete()
            self._write(change)
            return
        if self._neighbours.calls.unconfirmed(change.inode, change.document):
            self._write(change)  # what became of them is found out first
            return
        if change.document is not None:
            self._journal.attributed.bind(change.inode, change.document)
        self._view.lift(change)
        with self._store.transaction():
            self._store.keep(change.inode, change.kept if change.kept != Kept() else None)
        self._drop(change)
        self._neighbours.touched(change.inode)

    def dismiss(self, change: Change) -> None:
        """Give a change up, with all that is wanted by it."""
        if change.document is None:
            self._forget(change)
            return
        self._neighbours.calls.forget_document(change.document)
        self._view.lift(change)
        self._drop(change)
        self._let_bytes_go(change.inode, change.records)
        self._neighbours.touched(change.inode)

    def _drop(self, change: Change) -> None:
        """Drop a row. That of a folder said which document the inode is, and other rows may lie in it."""
        with self._journal.transaction():
            if change.is_folder and change.document is not None:
                self._journal.note_folder(change.inode, change.document)
            self._journal.drop(change.inode)
        self.journaled(None)

    def _forget(self, change: Change) -> None:
        """What never was in Procore is gone at once; those inside keep its bytes."""
        self.keep_unconfirmed(change.inode, is_going=True)
        self._journal.attributed.drop_all(change.inode)
        if change.is_folder or self._drafts.is_open(change.inode):
            self._view.detach(change.inode)
        self._view.lift(change)
        self._journal.drop(change.inode)
        self.journaled(None)
        self._let_bytes_go(change.inode, change.records)
        self._neighbours.touched(change.inode)

    def _let_bytes_go(self, inode: Inode, records: Sequence[StagedRecord]) -> None:
        """Those of a draft only when nobody is inside; and within a moment only when it has come to be."""

        def let_go() -> None:
            if not self._drafts.is_open(inode):
                self._drafts.drop(inode)
            for record in records:
                self._drafts.drop_parked(record)

        if self._in_moment:
            self._superfluous.append(let_go)
        else:
            let_go()

    def keep_unconfirmed(self, inode: Inode, *, is_going: bool = False) -> None:
        """See to it that each unconfirmed call has a change that finds out what became of it.

        `is_going`: the inode's own change is about to go.
        """
        change = self._view.change(inode) if not is_going else None
        for call in self._neighbours.calls.given_up(inode, None):
            if change is not None and call.belongs_to(change):
                continue
            owner = self._owner(call)
            if owner is not None:
                self._neighbours.calls.hand_over(call, owner)
                self._neighbours.touched(owner)

    def _owner(self, call: Call) -> Inode | None:
        """Who has the call's document by now; of one that it may have made, a change that stands for that."""
        if call.document is not None:
            known = self._store.known(call.document)
            if known is None or known.node.inode == call.inode:
                return None
            self._write(self._engage(known.node))
            return known.node.inode
        now_s = clocks.unix_s()
        change = Change(self._reserve(), call.kind, GONE, created_at_s=now_s, touched_at_s=now_s)
        self._view.lay(change)
        self._write(change)
        return change.inode

    def follow_again(self, change: Change) -> None:
        """Give up the wanted place: the document shows where Procore has it, or had it before it stepped aside."""
        self._replace(change, change.aside_from or FOLLOW)
        change.aside_from = change.seen = None
        self._write(change)


def is_unknown(change: Change) -> bool:
    """Whether it stands for nothing but what an unconfirmed call may have made."""
    return change.place is GONE and change.document is None
