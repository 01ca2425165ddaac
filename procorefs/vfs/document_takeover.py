"""Which document of Procore's an inode is: identity follows the name.

A file that is renamed onto another takes over that one's document, and one that is made under a name whose document has
just been removed or renamed away does the same: what copy tools and programs do when they save becomes a new version,
and the document's id, tags, history and permissions stay.
"""

from procorefs.journal.change import FOLLOW, GONE, Change, Location, MetadataPatch, Stage, lost_folder
from procorefs.journal.metadata_patch import over, set_in
from procorefs.procore.wire.models import Document, DocumentId, Kind, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import decode_detail
from procorefs.tree.naming.shown_names import marked
from procorefs.tree.nodes import ROOT, Inode, Node, State
from procorefs.vfs.change_store import ChangeStore


class DocumentTakeover(ChangeStore):
    """Hands documents on."""

    def _inherit(self, change: Change) -> None:
        """A file without a document takes over that of its name, if it was just removed or renamed away here."""
        if change.document is not None:
            return
        departed = self._departed(change)
        if departed is None or departed.document is None:
            return
        document, lent = departed.document, self._store.by_inode(departed.inode)
        seen = departed.seen or (lent.version if lent is not None else None)
        if departed.place is GONE:
            if self._view.borrower(document) is not None:
                return  # its bytes are on their way to another name; it goes after that
            self._forget(departed)
        else:
            self._borrow(departed, document, lent.version if lent is not None else None)
            change.wishes = over(change.wishes, departed.wishes)
            departed.document, departed.upload, departed.seen = None, None, None
            self._write(departed)
        self._inherit_document(change, document, seen)

    def _departed(self, change: Change) -> Change | None:
        """The change of the document that Procore has at the place, and that is to leave it."""
        if not isinstance(change.place, Location):
            return None
        departed = self._leaving(change.place, change.kind)
        return departed if departed is not change else None

    def _leaving(self, place: Location, kind: Kind) -> Change | None:
        """The change of a document that Procore has at a place, and that something new there takes over."""
        if not self._view.lists_store(place.folder):
            return None  # Procore has no such folder
        node = self._store.child(place.folder, place.shown)
        if node is None or node.kind is not kind:
            return None
        departed = self._view.change(node.inode)
        if (
            departed is None
            or departed.place is FOLLOW
            or self._neighbours.calls.moves(node.inode, departed.document)
        ):
            return None
        return departed if departed.place is GONE or kind is Kind.FILE else None

    def _take_over(self, change: Change, source: Node, target: Node) -> None:
        """The source becomes what the target was in Procore; the target goes, but for those inside."""
        theirs = self._view.change(target.inode)
        document = theirs.document if theirs is not None else target.document_id
        seen = _seen(theirs, target)
        if source.is_folder or document is None:
            self._remove(target)
            return
        self._give_up_document(change, source)
        self._journal.attributed.drop_all(target.inode)
        if theirs is not None:
            change.wishes = over(change.wishes, theirs.wishes)
            self._forget(theirs)
        else:
            self._let_bytes_go(target.inode, ())
        self._inherit_document(change, document, seen)

    def _give_up_document(self, change: Change, source: Node) -> None:
        """The source's own document, if it has one, is to go, once its bytes were fetched from it."""
        if change.document is None:
            return
        lender = Change(
            self._reserve(),
            change.kind,
            GONE,
            document=change.document,
            seen=_seen(change, source),
            upload=change.used_upload,
            created_at_s=clocks.unix_s(),
            touched_at_s=clocks.unix_s(),
        )
        self._borrow(change, change.document, source.version)
        known = self._store.known(change.document)
        if known is not None:
            change.wishes = over(change.wishes, set_in(decode_detail(known.detail)))
        self._claim(change.document, lender.inode)
        self._hand_over_calls(change.document, lender.inode)
        change.document, change.upload, change.seen = None, None, None
        self._view.lay(lender)
        self._write(lender)

    def _borrow(self, change: Change, document: DocumentId, version: Version | None) -> None:
        """The change leaves its document: what is not here of its bytes must still be fetched from there."""
        if change.lender is None or not change.needs_version:  # else it is fetched from the one before
            self._set_lender(change, document)
        if not change.has_bytes:
            change.borrowed = version

    def _set_lender(self, change: Change, document: DocumentId | None) -> None:
        self._view.lift(change)
        change.lender = document
        self._view.lay(change)

    def give_back_loan(self, change: Change) -> None:
        """Bytes have arrived: unless some are missing still, whoever lent them may go."""
        if change.lender is not None and not change.needs_version:
            self._set_lender(change, None)

    def _inherit_document(self, change: Change, document: DocumentId, seen: Version | None) -> None:
        self._claim(document, change.inode)
        self._hand_over_calls(document, change.inode)
        change.document, change.seen = document, seen
        self.keep_unconfirmed(change.inode)
        if change.upload is not None and change.upload.is_used:
            change.upload = None  # the storage's bytes may be used once, for any document

    def _hand_over_calls(self, document: DocumentId, inode: Inode) -> None:
        """Who takes over a document finds out what became of the calls about it."""
        for call in self._neighbours.calls.given_up(inode, document):
            if call.inode != inode:
                self._neighbours.calls.hand_over(call, inode)

    def _become_gone(self, change: Change) -> None:
        """The document is to go; what was written to it here is not wanted any more."""
        self._replace(change, GONE)
        records = change.records
        change.staged = change.unclosed = change.borrowed = None
        change.upload = change.used_upload
        change.wishes = MetadataPatch()
        change.stage = Stage.PENDING
        change.touch()
        self._write(change)
        self._let_bytes_go(change.inode, records)

    def _remove(self, node: Node) -> None:
        change = self._engage(node)
        with self._moment():
            if change.document is None and not self._neighbours.calls.makes(node.inode):
                self._forget(change)
            else:
                change.seen = _seen(change, node)
                self._become_gone(change)

    def pass_on(self, change: Change) -> bool:
        """Give the document of a removed file to who has been made under its name meanwhile; False: nobody was."""
        if self._neighbours.calls.moves(change.inode, change.document):
            return False
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

    def take_found(self, change: Change, node: Node) -> None:
        """What the change stands for has been found: it is to go, if nobody was made under its name meanwhile."""
        assert node.document_id is not None
        with self._store.transaction():
            self._own.claim(node.document_id, change.inode)
        change.document, change.seen = node.document_id, node.version
        self._write(change)
        self.pass_on(change)

    def take_stray(self, document: Document, parent: Inode) -> None:
        """Our call has made a document of what is another's, or nobody's, by now: it goes, or gets a new owner."""
        now_s = clocks.unix_s()
        change = Change(
            self._reserve(),
            document.kind,
            GONE,
            document=document.id,
            seen=document.version,
            created_at_s=now_s,
            touched_at_s=now_s,
        )
        self._own.put(document, change.inode, parent, None)
        self._view.lay(change)
        self._write(change)
        if not self.pass_on(change):
            self.strays.append(change.inode)

    def follow_if_there(self, change: Change) -> None:
        """A change whose place is where Procore has the document needs none of its own."""
        if change.document is None or not isinstance(change.place, Location):
            return
        if self._neighbours.calls.moves(change.inode, change.document):
            return  # it is about to leave it, or may be
        known = self._store.known(change.document)
        if known is None or not known.node.in_tree:
            return
        if change.place.has(known):
            change.aside_from = None
            self._replace(change, FOLLOW)

    def reached(self, change: Change, place: Location | None) -> None:
        """The document was put to that place: if it is still wanted there, that is done, whatever Procore calls it."""
        if place is not None and change.place == place:
            change.aside_from = None
            self._replace(change, FOLLOW)
        else:
            self.follow_if_there(change)

    def lose_document(self, change: Change) -> None:
        """Procore does not have the document any more; what is wanted of it becomes a new one where it shows."""
        place = change.place
        if not isinstance(place, Location):
            at = self._view.parent(change.inode)
            name = self._shown(change.inode).shown.decode("utf-8", "replace") or "recovered"
            place = self._free_place(Location(at[0] if at is not None else ROOT, name), change.inode)
        if change.document is not None:
            self._neighbours.calls.forget_document(change.document)
        self._view.lift(change)
        change.place, change.document, change.upload, change.seen = place, None, None, None
        self._view.lay(change)
        self._keep_unclosed(change)
        self._write(change)

    def _keep_unclosed(self, change: Change) -> None:
        """The document is gone, and with it all that was to go ahead of what was cut off by a crash."""
        if change.unclosed is not None and not change.has_bytes and not self._drafts.is_written(change.inode):
            change.be_incomplete()

    def pin(self, node: Node, place: Location) -> None:
        """Procore is removing a document of which something is wanted here: keep its place, to make it anew."""
        change = self._engage(node)
        self._view.lift(change)
        if change.place is FOLLOW:
            change.place = self._free_place(place, node.inode)
        if change.document is not None:
            self._neighbours.calls.forget_document(change.document)
        change.document, change.upload, change.seen = None, None, None
        self._keep_unclosed(change)
        if not change.has_bytes and not change.is_folder:
            change.stage = Stage.OPEN
        self._view.lay(change)
        self._write(change)

    def _free_place(self, place: Location, inode: Inode) -> Location:
        """The place, under a marked name if another inode shows there."""
        there = self._view.child(place.folder, place.shown)
        if there is None or there.inode == inode:
            return place
        return Location(place.folder, marked(place.name, str(inode)).decode("utf-8", "replace"))

    def recover_folder(self, folder: Inode) -> bool:
        """Show a folder that was kept for its document, which turned out to be gone before it was listed."""
        node = self._store.by_inode(folder)
        if node is None or node.state is not State.EXPECTED or self._view.change(folder) is not None:
            return False
        with self._store.transaction():
            self._store.move_row(folder, self._store.reserve(1))
        self._lay(lost_folder(folder))
        self._neighbours.touched(folder)
        return True

    def leave_inside(self, change: Change) -> None:
        """A removed file is to show again: whoever has it open keeps the removed one, and writes to that."""
        inode, document = change.inode, change.document
        if document is None or not self._drafts.is_open(inode) or self._drafts.get(inode) is None:
            return
        successor = self._reserve()
        with self._moment():
            self._journal.attributed.bind(inode, document)
            self._claim(document, successor)
            self.succeed(inode, successor)
            self._journal.attributed.follow(document, successor)

    def succeed(self, inode: Inode, successor: Inode) -> None:
        """A document goes on as another inode: what is wanted of it is wanted there."""
        change = self._view.change(inode)
        if change is None or change.document is None:
            return
        for call in self._neighbours.calls.of(inode, None):
            self._neighbours.calls.hand_over(call, successor)
        self._view.lift(change)
        change.inode = successor
        self._view.lay(change)
        with self._journal.transaction():
            self._journal.drop(inode)
            self._write(change)
        self._neighbours.touched(inode)


def _seen(change: Change | None, node: Node) -> Version | None:
    """The version of an inode's document that programs here have seen, which is not always the one that shows."""
    return change.seen if change is not None and change.seen is not None else node.version
