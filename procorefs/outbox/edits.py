"""What programs change: each call is one moment, journaled before it returns, and never waits for the network.

Identity follows the name. A file that is renamed onto another takes over that one's document, and one that is made
under a name whose document has just been removed or renamed away does the same: what copy tools and programs do when
they save becomes a new version, and the document's id, tags, history and permissions stay.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from procorefs.content.staging import StagedFile, StagedRecord
from procorefs.outbox.change import FOLLOW, GONE, Asked, Change, Place, Stage, Wishes
from procorefs.outbox.drafts import Draft, Drafts
from procorefs.outbox.errors import (
    Exists,
    HeldByOther,
    IntoItself,
    IsAFolder,
    NameRefused,
    NoSuchEntry,
    NotAFolder,
    NotEmpty,
    NotPermitted,
    Reserved,
)
from procorefs.outbox.flights import Flights
from procorefs.outbox.journal import Journal
from procorefs.outbox.naming import Fate, Naming
from procorefs.outbox.view import View
from procorefs.outbox.wishing import lacking, over
from procorefs.procore.models import Document, DocumentId, Kind
from procorefs.tree.detail import Detail, decode_detail
from procorefs.tree.nodes import ROOT, Inode, Kept, Node, is_own_entry
from procorefs.tree.own import OwnChanges
from procorefs.tree.store import TreeStore

INODES_AT_ONCE = 256
"""Numbers reserved in one go; those left over at the end of a run are never used."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Whom edits ask and tell."""

    flights: Flights
    """The calls under way: their answers are taken up for whoever has the document by then (`take_late`)."""
    touched: Callable[[Inode], None]
    """Something about its change is new, or it has none any more."""
    holder_of: Callable[[Inode], str | None]
    """Who else has the document checked out."""


class Edits:
    """Changes changes; the only one who lays them, but for what the outbox settles."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        drafts: Drafts,
        journal: Journal,
        naming: Naming,
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
        self._traces = {
            change.asked.place: change.inode for change in view.changes() if change.asked and is_trace(change)
        }
        self.sequence = max(
            [int(journal.fact("synced") or 0), *(change.sequence for change in view.changes())]
        )
        """Of the last entry of bytes in the journal; see Change.sequence."""
        self.strays: list[Inode] = []
        """Documents that nobody wanted any more when they had been made: who waits for all to be done waits for them,
        too, and takes them off."""
        self.journaled: Callable[[Inode, StagedFile | None], None] = lambda _inode, _file: None
        """Told of everything that was written down (durability.py)."""
        drafts.will_overwrite = self.will_overwrite

    # Making

    def create(self, folder: Inode, name: bytes, kept: Kept) -> Node:
        """A new, empty file with a draft, not yet flushed."""
        self._check_new(folder, name, is_folder=False)
        inode = self._reserve()
        draft = self._drafts.begin(inode, None)
        change = self._new(inode, Kind.FILE, Place(folder, name.decode()), kept)
        change.stage = Stage.OPEN
        change.staged = draft.file.record()
        with self._moment():
            self._inherit(change)
            self._lay(change)
        return self._shown(inode)

    def make_folder(self, folder: Inode, name: bytes, kept: Kept) -> Node:
        self._check_new(folder, name, is_folder=True)
        inode = self._reserve()
        change = self._new(inode, Kind.FOLDER, Place(folder, name.decode()), kept)
        with self._moment():
            departed = self._departed(change)
            if departed is not None:
                return self._bring_back(departed, change)
            self._lay(change)
        return self._shown(inode)

    def _bring_back(self, departed: Change, change: Change) -> Node:
        """A folder that was removed here a moment ago and is made anew: it stays, without what was in it."""
        self._view.lift(departed)
        departed.place, departed.seen, departed.kept = FOLLOW, None, change.kept
        departed.touch()
        self._settle_or_lay(departed)
        self._view.entries_changed(change.place.folder if isinstance(change.place, Place) else ROOT)
        return self._shown(departed.inode)

    def _check_new(self, folder: Inode, name: bytes, *, is_folder: bool) -> None:
        """Raises ChangeRefused when no such entry can be made there."""
        self._check_folder(folder)
        if self._view.child(folder, name) is not None:
            raise Exists
        self._check_name(folder, name, is_folder=is_folder)

    def _check_folder(self, folder: Inode) -> None:
        node = self._view.by_inode(folder)
        if node is None or not self._view.reachable(folder):
            raise NoSuchEntry
        if not node.is_folder:
            raise NotAFolder
        if node.read_only:
            raise NotPermitted("Procore has this folder read-only")
        change = self._view.change(folder)
        if change is not None and change.document is None and change.stage is Stage.FAILED:
            raise NotPermitted(f"Procore refused the folder {self._view.path(folder)!r}: {change.error}")

    def _check_name(self, folder: Inode, name: bytes, *, is_folder: bool, longest_below: int = 0) -> None:
        _check_own(folder, name)
        refusal = self._naming.refusal(folder, name, is_folder=is_folder, longest_below=longest_below)
        if refusal is not None:
            above = self._view.path(folder)
            raise NameRefused(f"{above}/{name.decode('utf-8', 'replace')}".lstrip("/"), refusal)

    def _new(self, inode: Inode, kind: Kind, place: Place, kept: Kept) -> Change:
        now_ns = time.time_ns()
        kept = msgspec.structs.replace(kept, mtime_ns=now_ns, ctime_ns=now_ns)
        now_s = now_ns / 1e9
        return Change(inode, kind, place, kept=kept, created_at_s=now_s, touched_at_s=now_s)

    def _reserve(self) -> Inode:
        if self._next >= self._end:
            with self._store.transaction():
                self._next = int(self._store.reserve(INODES_AT_ONCE))
            self._end = self._next + INODES_AT_ONCE
        self._next += 1
        return Inode(self._next - 1)

    # Removing

    def unlink(self, folder: Inode, name: bytes) -> Inode:
        node = self._entry(folder, name)
        if node.is_folder:
            raise IsAFolder
        self._check_changeable(node)
        self._remove(node)
        self._view.entries_changed(folder)
        return node.inode

    def remove_folder(self, folder: Inode, name: bytes) -> Inode:
        """An empty folder. What it may still hold in Procore is looked at before it is deleted there."""
        node = self._entry(folder, name)
        if not node.is_folder:
            raise NotAFolder
        self._check_changeable(node)
        self._check_empty(node)
        self._remove(node)
        self._view.entries_changed(folder)
        return node.inode

    def _check_empty(self, node: Node) -> None:
        if not self._view.is_empty(node.inode):
            raise NotEmpty
        if not node.listed and self._view.change(node.inode) is None:
            raise NotEmpty(f"{self._view.path(node.inode)!r} was never listed: list it first")

    def _remove(self, node: Node) -> None:
        change = self._engage(node)
        with self._moment():
            if change.document is None and not self._neighbours.flights.makes(node.inode):
                self._forget(change)
            else:
                change.seen = node.version
                self._become_gone(change)

    def _become_gone(self, change: Change) -> None:
        """The document is to go; what was written to it here is not wanted any more."""
        self._replace(change, GONE)
        staged = change.staged
        change.staged, change.borrowed, change.upload = None, None, None
        change.wishes = Wishes()
        change.stage = Stage.PENDING
        change.touch()
        self._write(change)
        self._let_bytes_go(change.inode, staged)

    def _forget(self, change: Change) -> None:
        """What never was in Procore is gone at once; those inside keep its bytes."""
        self._shed(change)
        self._journal.attributed.drop_all(change.inode)
        if self._drafts.is_open(change.inode):
            self._view.detach(change.inode)
        staged = change.staged
        self._view.lift(change)
        self._journal.drop(change.inode)
        self._let_bytes_go(change.inode, staged)
        self._neighbours.touched(change.inode)

    def _let_bytes_go(self, inode: Inode, staged: StagedRecord | None) -> None:
        """Those of a draft only when nobody is inside; and within a moment only when it has come to be."""

        def let_go() -> None:
            if not self._drafts.is_open(inode):
                self._drafts.drop(inode)
            if staged is not None:
                self._drafts.drop_parked(staged)

        if self._in_moment:
            self._superfluous.append(let_go)
        else:
            let_go()

    # Renaming

    def rename(
        self, folder: Inode, name: bytes, new_folder: Inode, new_name: bytes, *, replaces: bool = True
    ) -> Node | None:
        """Move an entry; returns what it replaced. `replaces` False: raises Exists instead."""
        source = self._entry(folder, name)
        self._check_folder(new_folder)
        target = self._view.child(new_folder, new_name)
        if target is not None and not replaces:
            raise Exists
        if target is not None and target.inode == source.inode:
            return None
        self._check_move(source, target, new_folder, new_name)
        place = Place(new_folder, new_name.decode())
        with self._moment():
            change = self._engage(source)
            if target is not None:
                self._take_over(change, source, target)
            self._move(change, place)
        self._view.entries_changed(folder)
        self._view.entries_changed(new_folder)
        return target

    def _check_move(self, source: Node, target: Node | None, new_folder: Inode, new_name: bytes) -> None:
        self._check_changeable(source)
        if source.is_folder and self._view.is_within(new_folder, source.inode):
            raise IntoItself
        if target is not None:
            self._check_replaceable(source, target)
        longest = self._longest_below(source.inode) if source.is_folder else 0
        self._check_name(new_folder, new_name, is_folder=source.is_folder, longest_below=longest)
        fate = self._naming.fate(Place(new_folder, new_name.decode()), is_folder=source.is_folder)
        change = self._view.change(source.inode)
        has_document = source.document_id is not None or (change is not None and change.document is not None)
        if fate is Fate.LOCAL and has_document:
            raise NotPermitted(
                f"{new_name.decode()!r} is a name for what stays on this machine; this is in Procore"
            )

    def _check_replaceable(self, source: Node, target: Node) -> None:
        if target.is_folder and not source.is_folder:
            raise IsAFolder
        if source.is_folder and not target.is_folder:
            raise NotAFolder
        self._check_changeable(target)
        if target.is_folder:
            self._check_empty(target)

    def _longest_below(self, folder: Inode) -> int:
        """Characters of the longest path below a folder, ours and Procore's, from it."""
        longest = self._store.longest_below(folder)
        if len(self._view) == 0:
            return longest
        for child in self._view.children(folder):
            length = len(child.shown.decode("utf-8", "replace"))
            if child.is_folder:
                below = self._longest_below(child.inode)
                length += 1 + below if below else 0
            longest = max(longest, length)
        return longest

    def _take_over(self, change: Change, source: Node, target: Node) -> None:
        """The source becomes what the target was in Procore; the target goes, but for those inside."""
        theirs = self._view.change(target.inode)
        document = theirs.document if theirs is not None else target.document_id
        if source.is_folder or document is None:
            self._remove(target)
            return
        self._give_up_document(change, source)
        self._journal.attributed.drop_all(target.inode)
        if theirs is not None:
            change.wishes = over(change.wishes, theirs.wishes)
            self._forget(theirs)
        else:
            self._let_bytes_go(target.inode, None)
        self._inherit_document(change, document)

    def _give_up_document(self, change: Change, source: Node) -> None:
        """The source's own document, if it has one, is to go, once its bytes were fetched from it."""
        if change.document is None:
            return
        lender = Change(
            self._reserve(),
            change.kind,
            GONE,
            document=change.document,
            seen=source.version,
            created_at_s=time.time(),
            touched_at_s=time.time(),
        )
        if not change.has_bytes:
            change.borrowed = source.version
            lender.lends_to = change.inode
        with self._store.transaction():
            self._own.claim(change.document, lender.inode)
        change.document, change.upload = None, None
        self._view.lay(lender)
        self._write(lender)

    def _inherit_document(self, change: Change, document: DocumentId) -> None:
        self._shed(change)
        with self._store.transaction():
            self._own.claim(document, change.inode)
        change.document = document
        if change.upload is not None and change.upload.is_used:
            change.upload = None  # the storage's bytes may be used once, for any document

    # What a lost answer may have left behind

    def will_ask(self, change: Change, place: Place, size_bytes: int = 0, sha256: bytes = b"") -> None:
        """Before the call that makes the change's document: its answer may be lost."""
        change.asked = Asked(place, time.time(), size_bytes, sha256)
        self._put(change)

    def is_answered(self, place: Place) -> None:
        """What lies there in Procore is known: no call of ours has left anything else there."""
        trace = self._view.change(self._traces.pop(place, ROOT))
        if trace is not None and is_trace(trace):
            trace.asked = None
            self.dismiss(trace)

    def take_trace(self, trace: Change, node: Node) -> None:
        """The trace has led to a document of ours: it is to go, if nobody was made under its name meanwhile."""
        assert node.document_id is not None
        assert trace.asked is not None
        self._traces.pop(trace.asked.place, None)
        with self._store.transaction():
            self._own.claim(node.document_id, trace.inode)
        trace.document, trace.asked, trace.seen = node.document_id, None, node.version
        self._write(trace)
        self.pass_on(trace)

    def _shed(self, change: Change) -> None:
        """Leave behind what our call may have made under a name that the change has no more, as a change of its own."""
        asked, change.asked = change.asked, None
        if asked is None or change.document is not None:
            return
        if change.upload is not None and change.upload.is_used:
            change.upload = None
        if is_trace(change):
            return  # it is given up itself
        now_s = time.time()
        trace = Change(
            self._reserve(), change.kind, GONE, asked=asked, created_at_s=now_s, touched_at_s=now_s
        )
        self._traces[asked.place] = trace.inode
        self._view.lay(trace)
        self._write(trace)

    def _move(self, change: Change, place: Place) -> None:
        self._replace(change, place)
        self._inherit(change)
        self.follow_if_there(change)
        change.touch()
        if change.stage is Stage.INCOMPLETE:
            change.stage = Stage.PENDING  # somebody looked at it and gave it a name
        self._settle_or_lay(change, laid=True)

    def exchange(self, folder: Inode, name: bytes, other_folder: Inode, other_name: bytes) -> None:
        """Swap two entries (RENAME_EXCHANGE)."""
        one, other = self._entry(folder, name), self._entry(other_folder, other_name)
        for node, inside in ((one, other_folder), (other, folder)):
            self._check_changeable(node)
            if node.is_folder and self._view.is_within(inside, node.inode):
                raise IntoItself
        for node, (to, new_name) in ((one, (other_folder, other_name)), (other, (folder, name))):
            longest = self._longest_below(node.inode) if node.is_folder else 0
            self._check_name(to, new_name, is_folder=node.is_folder, longest_below=longest)
        with self._moment():
            changes = self._engage(one), self._engage(other)
            places = Place(other_folder, other_name.decode()), Place(folder, name.decode())
            for change, place in zip(changes, places, strict=True):
                self._replace(change, place)
            for change in changes:
                self.follow_if_there(change)
                change.touch()
                self._settle_or_lay(change, laid=True)

    # Identity

    def _inherit(self, change: Change) -> None:
        """A file without a document takes over that of its name, if it was just removed or renamed away here."""
        if change.document is not None:
            return
        departed = self._departed(change)
        if departed is None or departed.document is None:
            return
        document, lent = departed.document, self._store.by_inode(departed.inode)
        if departed.place is GONE:
            if departed.lends_to is not None:
                return  # its bytes are on their way to another name; it goes after that
            self._forget(departed)
        else:
            if not departed.has_bytes and lent is not None:
                departed.borrowed = lent.version
            change.wishes = over(change.wishes, departed.wishes)
            departed.document, departed.upload = None, None
            self._write(departed)
        self._inherit_document(change, document)

    def _departed(self, change: Change) -> Change | None:
        """The change of the document that Procore has at the place, and that is to leave it."""
        if not isinstance(change.place, Place):
            return None
        node = self._store.child(change.place.folder, change.place.shown)
        if node is None or node.kind is not change.kind or node.inode == change.inode:
            return None
        departed = self._view.change(node.inode)
        if departed is None or departed.place is FOLLOW or self._neighbours.flights.moves(node.inode):
            return None
        return departed if departed.place is GONE or not change.is_folder else None

    def pass_on(self, change: Change) -> bool:
        """Give the document of a removed file to who has been made under its name meanwhile; False: nobody was."""
        known = self._store.known(change.document) if change.document is not None else None
        if known is None or known.node.parent is None:
            return False
        newcomer = self._view.child(known.node.parent, known.node.shown)
        theirs = self._view.change(newcomer.inode) if newcomer is not None else None
        if theirs is None or theirs.document is not None or theirs.kind is not change.kind:
            return False
        with self._moment():
            self._inherit(theirs)
            self.follow_if_there(theirs)
            self._write(theirs)
        return theirs.document is not None

    def take_stray(self, document: Document, parent: Inode, *, asked: int) -> None:
        """Our call has made a document of what is another's, or nobody's, by now: it goes, or gets a new owner."""
        now_s = time.time()
        change = Change(
            self._reserve(),
            document.kind,
            GONE,
            document=document.id,
            seen=document.version,
            created_at_s=now_s,
            touched_at_s=now_s,
        )
        self._own.put(document, change.inode, parent, None, asked=asked)
        self._view.lay(change)
        self._write(change)
        if not self.pass_on(change):
            self.strays.append(change.inode)

    def follow_if_there(self, change: Change) -> None:
        """A change whose place is where Procore has the document needs none of its own."""
        if change.document is None or not isinstance(change.place, Place):
            return
        if self._neighbours.flights.moves(change.inode):
            return  # it is about to leave it
        known = self._store.known(change.document)
        if known is None or not known.node.in_tree:
            return
        if change.place.has(known):
            self._replace(change, FOLLOW)

    def reached(self, change: Change, place: Place | None) -> None:
        """The document was put to that place: if it is still wanted there, that is done, whatever Procore calls it."""
        if place is not None and change.place == place:
            self._replace(change, FOLLOW)
        else:
            self.follow_if_there(change)

    # Bytes

    def open_draft(self, inode: Inode, *, truncates: bool) -> Draft:
        """The draft to write to, begun if need be over the version that the file shows.

        Raises ChangeRefused, StagingFull, StagedIncomplete.
        """
        node = self._shown(inode)
        if node.is_folder:
            raise IsAFolder
        self._check_changeable(node)
        change = self._view.change(inode)
        draft = self._drafts.find(inode, change.staged if change is not None else None)
        if draft is not None:
            return draft
        if node.version is None and not truncates:
            raise NotPermitted(node.defect or "Procore names no version of it: it can only be written anew")
        draft = self._drafts.begin(inode, None if truncates else node.version)
        if truncates and node.version is not None and not node.version.size_bytes:
            draft.flushed, draft.clean = draft.file.changed, node.version.id  # it is empty already
        return draft

    def flushed(self, inode: Inode) -> None:
        """Journal the bytes of a draft as they are now, if they are not yet."""
        draft = self._drafts.get(inode)
        node = self._view.by_inode(inode)
        if draft is None or node is None or node.parent is None:
            return  # what was unlinked is seen only by those inside
        change = self._view.change(inode)
        is_first = change is not None and change.stage is Stage.OPEN
        if draft.is_changed or (is_first and draft.clean is None):
            self.take_bytes(change or self._engage(node), draft)

    def take_bytes(self, change: Change, draft: Draft) -> None:
        """Want the draft's bytes as they are now."""
        before = change.staged
        if draft.mtime_ns is not None:
            change.kept = msgspec.structs.replace(
                change.kept, mtime_ns=draft.mtime_ns, ctime_ns=draft.mtime_ns, sha256=b""
            )
            draft.mtime_ns = None
        change.staged, change.borrowed = draft.file.record(), None
        change.stage = Stage.PENDING
        self.sequence += 1
        change.sequence = self.sequence
        change.touch()
        self._write(change)
        draft.flushed, draft.clean = draft.file.changed, None
        draft.promised_bytes = change.staged.size_bytes
        if before is not None and before.number != change.staged.number:
            self._drafts.drop_parked(before)

    def will_shrink(self, draft: Draft, size_bytes: int) -> None:
        """Before a journaled file is cut: the journal may not promise more than there will be."""
        change = self._view.change(draft.inode)
        if change is None or change.staged is None or change.staged.number != draft.file.number:
            return
        if change.staged.size_bytes > size_bytes:
            change.staged = draft.file.record(size_bytes)
            self.will_overwrite(draft)

    def will_overwrite(self, draft: Draft) -> None:
        """Before bytes change that were closed: until they are closed again, nobody sends what a crash leaves of them.

        What is only added behind them does no harm: after a crash the journal's size counts.
        """
        draft.promised_bytes = 0
        change = self._view.change(draft.inode)
        if change is None or change.staged is None:
            return
        if change.stage is not Stage.INCOMPLETE:
            change.stage = Stage.OPEN
        self._write(change)

    def released(self, inode: Inode) -> None:
        """The last writer has gone: what was written waits its time from now on."""
        change, draft = self._view.change(inode), self._drafts.get(inode)
        if change is not None:
            was_only_open = change.stage is Stage.OPEN and change.document is None
            if was_only_open and draft is not None and draft.clean is not None and not draft.is_changed:
                self.dismiss(change)  # removed in Procore while it was open, and nothing was written
            elif change.is_idle:
                self.settle(change)
            else:
                change.touched_at_s = time.time()
                self._neighbours.touched(inode)

    def left(self, inode: Inode) -> None:
        """Nobody is inside any more."""
        change = self._view.change(inode)
        self._view.forget_detached(inode)
        node_is_gone = change is None or change.place is GONE
        if node_is_gone and not self._view.reachable(inode):
            self._drafts.drop(inode)
        else:
            self._drafts.park(inode)

    # Attributes

    def keep(self, inode: Inode, kept: Kept) -> None:
        """What setattr set, whole: the caller starts from what `Node.kept` has."""
        if self._view.keep_detached(inode, kept):
            return
        node = self._shown(inode)
        draft = self._drafts.get(inode)
        if draft is not None:
            draft.mtime_ns = None
        if node.is_folder:
            self._view.times_set(inode)
        if node.version is not None:
            kept = msgspec.structs.replace(kept, version_id=node.version.id)
        change = self._view.change(inode)
        if change is not None:
            change.kept = kept
            self._put(change)
            return
        with self._store.transaction():
            self._store.keep(inode, kept)

    # Metadata

    def wish(self, inode: Inode, wishes: Wishes, *, tags: Collection[str] | None = None) -> bool:
        """Want just this metadata; what Procore has already is no wish. `tags`: those it has, as far as known.

        Raises ChangeRefused. Returns whether anything is wanted now that was not.
        """
        node = self.shown_entry(inode)
        self._check_changeable(node)
        change = self._view.change(inode)
        document = change.document if change is not None else node.document_id
        if not self._neighbours.flights.has(inode):  # else Procore is about to have something else
            known = self._store.known(document) if document is not None else None
            detail = decode_detail(known.detail) if known is not None else Detail()
            wishes = lacking(wishes, detail, tags)
        if wishes == (change.wishes if change is not None else Wishes()):
            return False
        with self._moment():
            change = self._engage(node)
            change.wishes = wishes
            change.touch()
            self._settle_or_lay(change, laid=True)
        return True

    def shown_entry(self, inode: Inode) -> Node:
        """A node that has a place. Raises NoSuchEntry for one that was removed, however open it is."""
        node = self._shown(inode)
        if node.parent is None and inode != ROOT:
            raise NoSuchEntry
        return node

    # The journal's keeper

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """All of it is written down, or nothing has happened: what a full disk refused is not shown either."""
        if self._in_moment:
            yield  # a part of that one
            return
        self._in_moment, self._superfluous = True, []
        try:
            with self._journal.transaction():
                yield
        except Exception:
            self._view.lay_anew(self._journal.load())
            raise
        finally:
            self._in_moment = False
        for let_go in self._superfluous:
            let_go()

    def _entry(self, folder: Inode, name: bytes) -> Node:
        _check_own(folder, name)
        node = self._view.child(folder, name)
        if node is None:
            raise NoSuchEntry
        return node

    def _shown(self, inode: Inode) -> Node:
        node = self._view.by_inode(inode)
        if node is None:
            raise NoSuchEntry
        return node

    def _check_changeable(self, node: Node) -> None:
        if node.read_only or node.inode == ROOT:
            raise NotPermitted(f"Procore has {self._view.path(node.inode)!r} read-only")
        holder = self._neighbours.holder_of(node.inode)
        if holder is not None:
            raise HeldByOther(f"{self._view.path(node.inode)!r} is checked out by {holder}")

    def _engage(self, node: Node) -> Change:
        """The change of a node, laid; a new one wants nothing yet."""
        change = self._view.change(node.inode)
        if change is None:
            now_s = time.time()
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

    def _replace(self, change: Change, place: Place | object) -> None:
        """Give a laid change another place."""
        if change.asked is not None and change.document is None and place != change.asked.place:
            self._shed(change)
        self._view.lift(change)
        change.place = place  # type: ignore[assignment]  # Place or Whereabouts: mypy loses the union in a parameter
        self._view.lay(change)

    def _lay(self, change: Change) -> None:
        self._view.lay(change)
        self._write(change)
        if isinstance(change.place, Place):
            self._view.entries_changed(change.place.folder)

    def _write(self, change: Change) -> None:
        self._put(change)
        self._neighbours.touched(change.inode)

    def _put(self, change: Change) -> None:
        if isinstance(change.place, Place):
            self._note_folder(change.place.folder)
        self._journal.put(change)
        is_flushed = change.staged is not None and change.stage is not Stage.OPEN
        draft = self._drafts.get(change.inode) if is_flushed else None
        self.journaled(change.inode, draft.file if draft is not None else None)

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

    def lose_document(self, change: Change) -> None:
        """Procore does not have the document any more; what is wanted of it becomes a new one where it shows."""
        place = change.place
        if not isinstance(place, Place):
            at = self._view.parent(change.inode)
            name = self._shown(change.inode).shown.decode("utf-8", "replace") or "recovered"
            place = Place(at[0] if at is not None else ROOT, name)
        self._view.lift(change)
        change.place, change.document, change.upload = place, None, None
        self._view.lay(change)
        self._write(change)

    def pin(self, node: Node, place: Place) -> None:
        """Procore is removing a document of which something is wanted here: keep its place, to make it anew."""
        change = self._engage(node)
        self._view.lift(change)
        if change.place is FOLLOW:
            change.place = place
        change.document, change.upload = None, None
        if not change.has_bytes and not change.is_folder:
            change.stage = Stage.OPEN
        self._view.lay(change)
        self._write(change)

    def succeed(self, inode: Inode, successor: Inode) -> None:
        """A document goes on as another inode: what is wanted of it is wanted there."""
        change = self._view.change(inode)
        if change is None or change.document is None:
            return
        self._view.lift(change)
        self._journal.drop(inode)
        change.inode = successor
        self._view.lay(change)
        self._write(change)
        self._neighbours.touched(inode)

    def follow_again(self, change: Change) -> None:
        """Give up the wanted place: the document shows where Procore has it."""
        self._replace(change, FOLLOW)
        change.seen, change.lends_to = None, None
        self._write(change)

    def dismiss(self, change: Change) -> None:
        """Give a change up, with all that is wanted by it."""
        if change.document is None:
            self._forget(change)
            return
        staged = change.staged
        self._view.lift(change)
        self._journal.drop(change.inode)
        self._let_bytes_go(change.inode, staged)
        self._neighbours.touched(change.inode)

    def settle(self, change: Change) -> None:
        """Nothing is wanted any more that Procore does not have: what was kept goes to the document's row."""
        if change.document is not None:
            self._journal.attributed.bind(change.inode, change.document)
        self._view.lift(change)
        with self._store.transaction():
            self._store.keep(change.inode, change.kept if change.kept != Kept() else None)
        self._journal.drop(change.inode)
        self._neighbours.touched(change.inode)


def is_trace(change: Change) -> bool:
    """Whether it stands for nothing but what a lost call may have made."""
    return change.place is GONE and change.document is None and change.asked is not None


def _check_own(folder: Inode, name: bytes) -> None:
    """Raises Reserved when the entry is no document's."""
    if is_own_entry(folder, name):
        raise Reserved(f"{name.decode()!r} is the mount's own in its root")
