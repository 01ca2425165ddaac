"""Decides which document of Procore an inode is: a name keeps its document.

A file that is renamed onto another takes over the document of that one. So does a file that is created under a name
whose document was just removed or renamed. Copy tools and editors save in these ways: the result is a new version,
and the document keeps its id, tags, history and permissions.
"""

import logging
import sqlite3

from procorefs.journal.change import (
    FOLLOW,
    UNCHANGED,
    Change,
    Location,
    MetadataPatch,
    Pending,
    PendingCopy,
    Removed,
)
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.journal.metadata_patch import over, set_in
from procorefs.procore.wire.models import Document, DocumentId, Kind, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import decode_detail, same_bytes
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


class DocumentTakeover:
    """Moves documents from one change to another."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        dirty_files: DirtyFiles,
        journal: Journal,
        calls: InFlightCalls,
        changes: ChangeStore,
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._dirty_files = dirty_files
        self._journal = journal
        self._calls = calls
        self._changes = changes
        self._unwanted: list[Inode] = []

    def take_unwanted(self) -> list[Inode]:
        """Return and clear the inodes of documents that were no longer wanted when Procore had made them. `sync`
        waits for their removal, too."""
        unwanted, self._unwanted = self._unwanted, []
        return unwanted

    def _claim(self, document: DocumentId, inode: Inode) -> None:
        """Set the inode of a document in the tree, which is a separate database."""
        with self._store.transaction():
            before = self._own.claim(document, inode)
        if before is None or before.inode == inode:
            return
        previous = before.inode

        def claim_back() -> None:
            try:
                with self._store.transaction():
                    self._own.claim(document, previous)
            except sqlite3.Error as error:  # recovery does it at the next start
                log.error("Document %d cannot get its inode back: %s", document, error)

        self._changes.on_rollback(claim_back)

    def inherit(self, change: Change) -> None:
        """Give a file without a document the document of its name, if that was just removed or renamed here."""
        if change.document is not None:
            return
        departed = self.departed(change)
        if departed is None or departed.document is None:
            return
        document, node = departed.document, self._store.by_inode(departed.inode)
        seen = departed.seen or (node.version if node is not None else None)
        if departed.is_removed:
            self._changes.drop_local(departed)
        else:
            self._take_content_from(departed, document, node.version if node is not None else None)
            change.patch = over(change.patch, departed.patch)
            departed.document = departed.seen = None
            departed.drop_upload()
            self._changes.update(departed)
        self._inherit_document(change, document, seen)

    def departed(self, change: Change) -> Change | None:
        """The change of the document that Procore has at the change's place and that is to leave it."""
        if change.location is None:
            return None
        departed = self.leaving(change.location, change.kind)
        return departed if departed is not change else None

    def leaving(self, place: Location, kind: Kind) -> Change | None:
        """The change of the document that Procore has at a place and that a new entry there takes over at once."""
        if not self._view.lists_store(place.folder):
            return None  # Procore has no such folder
        node = self._store.child(place.folder, place.shown)
        if node is None or node.kind is not kind:
            return None
        departed = self._view.change(node.inode)
        if departed is None or departed.is_following or self._calls.moves(node.inode, departed.document):
            return None
        if not departed.is_removed:
            return departed if kind is Kind.FILE else None
        if departed.document is not None and self._view.pending_copy_of(departed.document) is not None:
            return None  # another name still needs its bytes; it is removed after that
        return departed

    def take_over(self, change: Change, source: Node, target: Node) -> None:
        """Give the source the target's document and remove the target, except for handles that have it open."""
        theirs = self._view.change(target.inode)
        document = theirs.document if theirs is not None else target.document_id
        seen = _seen(theirs, target)
        if source.is_folder or document is None:
            self.remove(target)
            return
        self.give_up_document(change, source)
        self._journal.attributed.drop_all(target.inode)
        if theirs is not None:
            change.patch = over(change.patch, theirs.patch)
            self._changes.drop_local(theirs)
        else:
            self._changes.release_bytes(target.inode, ())
        self._inherit_document(change, document, seen)

    def give_up_document(self, change: Change, source: Node) -> None:
        """Remove the source's own document, if it has one, once its bytes are fetched."""
        if change.document is None:
            return
        going = Change(
            self._changes.reserve_inode(),
            change.kind,
            Removed(lost_upload=change.used_upload),
            document=change.document,
            seen=_seen(change, source),
            kept=Kept(version_id=change.kept.version_id),
            created_at_s=clocks.unix_s(),
            touched_at_s=clocks.unix_s(),
        )
        self._take_content_from(change, change.document, source.version)
        known = self._store.known(change.document)
        if known is not None:
            change.patch = over(change.patch, set_in(decode_detail(known.detail)))
        self._claim(change.document, going.inode)
        self._journal.attributed.handed_over(change.document, going.inode)
        self._hand_over_calls(change.document, going.inode)
        change.document = change.seen = None
        change.drop_upload()
        self._view.show(going)
        self._changes.update(going)

    def _take_content_from(self, change: Change, document: DocumentId, version: Version | None) -> None:
        """Note that bytes which are missing here must still be fetched from the document that the change leaves."""
        if (
            change.content_source is None or not change.needs_version
        ):  # else the bytes come from the document before that
            self._set_content_source(change, document)
        if not change.has_bytes and version is not None:
            change.content = PendingCopy(version)

    def _set_content_source(self, change: Change, document: DocumentId | None) -> None:
        self._view.hide(change)
        change.content_source = document
        self._view.show(change)

    def drop_content_source(self, change: Change) -> None:
        """Release the document that had the bytes, unless some are still missing here."""
        if change.content_source is not None and not change.needs_version:
            self._set_content_source(change, None)

    def _inherit_document(self, change: Change, document: DocumentId, seen: Version | None) -> None:
        self._claim(document, change.inode)
        self._journal.attributed.handed_over(document, change.inode)
        self._hand_over_calls(document, change.inode)
        change.document, change.seen = document, seen
        self._changes.keep_unconfirmed(change.inode)
        if change.upload is not None and change.upload.is_used:
            change.drop_upload()  # an upload can be used only once, for any document
        self._drop_own_copy(change, document)

    def _drop_own_copy(self, change: Change, document: DocumentId) -> None:
        """A document that an inode gets back has the bytes of the pending copy, unless a call may have changed them."""
        known = self._store.known(document)
        if change.pending_copy is None or known is None or self._calls.has(change.inode, document):
            return
        if same_bytes(change.pending_copy, known.node.version):
            change.content, change.seen = UNCHANGED, None
            self.drop_content_source(change)

    def _hand_over_calls(self, document: DocumentId, inode: Inode) -> None:
        """Move the unconfirmed calls about a document to the inode that takes it over."""
        for call in self._calls.given_up(inode, document):
            if call.inode != inode:
                self._calls.hand_over(call, inode)

    def _become_gone(self, change: Change) -> None:
        """Want the document removed, and nothing that was written to it here."""
        self._changes.set_place(change, Removed(change.aside_from, change.used_upload))
        records = change.records
        change.content, change.unclosed = UNCHANGED, None
        change.patch = MetadataPatch()
        change.step(Pending())
        change.touch()
        self._changes.update(change)
        self._changes.release_bytes(change.inode, records)

    def remove(self, node: Node) -> None:
        change = self._changes.change_of(node)
        with self._changes.transaction():
            if change.document is None and not self._calls.makes(node.inode):
                self._changes.drop_local(change)
            else:
                change.seen = _seen(change, node)
                self._become_gone(change)

    def restore_folder(self, departed: Change, change: Change) -> Node:
        """Create a folder under the name of one that was just removed here: the document stays, without its entries.

        It is another inode, because the kernel creates nothing in a removed folder that a program still has open.
        """
        old, folder = departed.inode, ROOT
        if change.location is not None:
            folder = change.location.folder
        self._view.hide(departed)
        self._journal.drop(old)
        self._journal.attributed.drop_all(old)
        assert departed.document is not None
        with self._store.transaction():
            self._own.claim(departed.document, change.inode)
        self._calls.folder_moved(old, change.inode)
        change.document, change.place = departed.document, FOLLOW
        self._view.show(change)
        self._changes.settle_or_update(change)
        self._changes.keep_unconfirmed(old, is_going=True)
        self._changes.touched(old)
        self._view.entries_changed(folder)
        return self._changes.node(change.inode)

    def pass_on(self, change: Change) -> bool:
        """Give the document of a removed file to the file that was created under its name; False if there is none."""
        if self._calls.moves(change.inode, change.document):
            return False
        known = self._store.known(change.document) if change.document is not None else None
        if known is None or known.node.parent is None:
            return False
        newcomer = self._view.child(known.node.parent, known.node.shown)
        theirs = self._view.change(newcomer.inode) if newcomer is not None else None
        if theirs is None or theirs.document is not None or theirs.kind is not change.kind:
            return False
        with self._changes.transaction():
            self.inherit(theirs)
            self.follow_if_there(theirs)
            self._changes.update(theirs)
        return theirs.document is not None

    def take_found(self, change: Change, node: Node) -> None:
        """Take the document that was found for the change. It is removed, unless a file was created under its name."""
        assert node.document_id is not None
        with self._store.transaction():
            self._own.claim(node.document_id, change.inode)
        change.document, change.seen = node.document_id, node.version
        self._changes.update(change)
        self.pass_on(change)

    def take_unwanted_document(self, document: Document, parent: Inode, kept: Kept | None) -> None:
        """Remove a document that our call made and that its inode no longer wants, or give it to another file.

        `kept` is kept of the version that the call made.
        """
        now_s = clocks.unix_s()
        with self._store.transaction():
            # As a listing would: after a crash the call is known to have made it.
            inode = self._store.reserve(1)
        change = Change(
            inode,
            document.kind,
            Removed(),
            document=document.id,
            seen=document.version,
            created_at_s=now_s,
            touched_at_s=now_s,
        )
        self._own.put(document, change.inode, parent, kept)
        self._view.show(change)
        self._changes.update(change)
        if not self.pass_on(change):
            self._unwanted.append(change.inode)

    def follow_if_there(self, change: Change) -> None:
        """Drop the wanted place of a change if Procore has the document there."""
        if change.document is None or change.location is None:
            return
        if self._calls.moves(change.inode, change.document):
            return  # it may be moved by an open call
        known = self._store.known(change.document)
        if known is None or not known.node.in_tree:
            return
        if change.location.has(known):
            self._changes.set_place(change, FOLLOW)

    def reached(self, change: Change, place: Location | None) -> None:
        """Note that the document was put to that place. If it is still wanted there, the move is done, whatever its
        name is now."""
        if place is not None and change.location == place:
            self._changes.set_place(change, FOLLOW)
        else:
            self.follow_if_there(change)

    def leave_inside(self, change: Change) -> None:
        """Show a removed file again under a new inode. Programs that have it open keep the removed inode and write to
        that."""
        inode, document = change.inode, change.document
        if document is None or not self._dirty_files.is_open(inode) or self._dirty_files.get(inode) is None:
            return
        successor = self._changes.reserve_inode()
        with self._changes.transaction():
            self._journal.attributed.bind(inode, document)
            self._claim(document, successor)
            self._changes.move_to_inode(inode, successor)
            self._journal.attributed.follow(document, successor)


def _seen(change: Change | None, node: Node) -> Version | None:
    """The version of an inode's document that programs here have seen; it may be older than the one that shows."""
    return change.seen if change is not None and change.seen is not None else node.version
