"""Applies an answer of Procore to the tree, the change and the staged file in one step, without an await.

It also gives up what was refused for good, and shows again what Procore keeps.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from procorefs.journal.change import (
    UNCHANGED,
    UNSEEN,
    Change,
    Failed,
    Location,
    MetadataPatch,
    Upload,
)
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.metadata_patch import lacking, without
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import Document, DocumentId, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import decode_detail, same_bytes
from procorefs.tree.nodes import (
    ROOT,
    EntryGone,
    Inode,
    InodeChanged,
    Invalidation,
    Kept,
    ListingChanged,
    Node,
)
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Refused, Superseded
from procorefs.upload.sending.name_conflicts import ChangedNames
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


class Sent(NamedTuple):
    """The bytes that a call, or an earlier one whose answer was lost, has uploaded."""

    upload: Upload
    version: Version | None
    """The version that they are in Procore; it need not be the newest."""


class ResultApplier:
    """Applies answers. `forget` sends the kernel invalidations that it could not know of."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        dirty_files: DirtyFiles,
        edits: LocalEdits,
        calls: InFlightCalls,
        changed_names: ChangedNames,
        invalidate: Callable[[Sequence[Invalidation]], None],
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._dirty_files = dirty_files
        self._edits = edits
        self._calls = calls
        self._changed_names = changed_names
        self._invalidate = invalidate

    # Answers

    def arrived(
        self,
        change: Change,
        document: Document,
        parent: Inode,
        *,
        metadata: MetadataPatch,
        target: Location | None = None,
        sent: Sent | None = None,
        is_new: bool = False,
    ) -> None:
        """Apply the answer to a successful call: the change gets the document, and no longer wants what was sent.

        Raises Refused if Procore has other bytes than were sent. `target`: where the call put the document, which is
        in `parent` in any case. `is_new`: the call was to create it.
        """
        if target is not None and change.is_folder and parent == target.folder:
            self._calls.folder_there(target, document.id)
        if sent is None and not is_new:
            document = self._own.unchanged_bytes(document, "change")
        expected = None if is_new else document.id  # else another inode took it over during the call
        if not self.is_current(change) or change.document != expected:
            self._arrived_late(document, parent, target=target, sent=sent, is_new=is_new)
            return
        before, known = self._view.parent(change.inode), self._store.known(document.id)
        if sent is not None:
            self._check_size(sent)
            assert sent.version is not None
            change.kept = msgspec.structs.replace(
                change.kept, version_id=sent.version.id, sha256=sent.upload.sha256
            )
        shown = self._changed_names.entry(document, change.inode, parent, target)
        self._own.put(document, change.inode, parent, change.kept, shown=shown, is_new=is_new)
        if is_new:
            self._calls.answered(change.inode, document.id)
        change.document = document.id
        if sent is not None:
            self._calls.forget_uploaded(sent.upload.uuid)
        if sent is not None and sent.version is not None:
            self._bytes_arrived(change, sent.upload, sent.version)
        if change.is_removed and (sent is not None or change.seen is None):
            # removed here while it was sent
            change.seen = sent.version if sent is not None else document.version
        elif sent is not None:
            change.seen = None
        self._cover(change, document, sent.version if sent is not None else _version_of(known))
        change.call_succeeded()
        change.patch = without(change.patch, metadata)
        self._edits.takeover.reached(change, target)
        self.settle(change)
        self._moved(change.inode, before)
        self._changed_names.note(document, change.inode, parent, target)
        self.left(known.node if known is not None else None)
        self.freed(known)
        if change.is_removed:
            self._edits.takeover.pass_on(change)

    def _cover(self, change: Change, document: Document, before: Version | None) -> None:
        """Note that another user's version in an answer was not seen by the program whose bytes wait here.

        `before`: the newest version that was known or made here.
        """
        is_other = before is not None and not same_bytes(before, document.version)
        is_unseen = is_other and not change.kept.is_bound_to(document.version)
        has_bytes = change.has_bytes or change.shown is not None or self._dirty_files.has(change.inode)
        if is_unseen and has_bytes and change.seen is None and not change.is_removed:
            change.seen = before

    def _moved(self, inode: Inode, before: tuple[Inode, bytes] | None) -> None:
        """Invalidate the kernel's entry of an inode that shows at another place now."""
        now = self._view.parent(inode)
        places = [place for place in (before, now) if place is not None]
        if now != before:
            self._invalidate([EntryGone(*place) for place in places])
            self._invalidate([ListingChanged(folder) for folder, _ in places])

    def may_show(self, folder: Inode) -> None:
        """Show documents that were hidden because an open call might have made them."""
        self._invalidate([ListingChanged(folder)])

    def left(self, node: Node | None) -> None:
        """Invalidate an entry that no longer shows.

        A poll may have shown a document before it was known to be one of ours, which shows already or is no longer
        wanted.
        """
        if node is None or not node.in_tree or node.parent is None:
            return
        there = self._view.child(node.parent, node.shown)
        if there is None or there.inode != node.inode:
            self._invalidate([EntryGone(node.parent, node.shown), ListingChanged(node.parent)])

    def freed(self, known: Known | None) -> None:
        """Note that a document is gone, so that another one may get its entry."""
        if known is not None:
            self._invalidate(self._own.give_entry(known.node))

    def is_current(self, change: Change) -> bool:
        """Whether the change was not given up meanwhile."""
        return self._view.change(change.inode) is change

    def _arrived_late(
        self,
        document: Document,
        parent: Inode,
        *,
        target: Location | None,
        sent: Sent | None,
        is_new: bool,
    ) -> None:
        """Apply the answer to the inode that took the document over during the call."""
        known = self._store.known(document.id)
        if is_new or known is None:
            self._edits.takeover.take_unwanted_document(
                document, parent, _kept_for_next(None, document, sent)
            )
            return
        owner = self._view.change(known.node.inode)
        kept = known.node.kept if owner is None else _kept_for_next(owner.kept, document, sent)
        shown = self._changed_names.entry(document, known.node.inode, parent, target)
        self._own.put(document, known.node.inode, parent, kept, shown=shown)
        self._changed_names.note(document, known.node.inode, parent, target)
        self.freed(known)
        if owner is None:
            return
        if sent is not None and owner.seen is not None and same_bytes(owner.seen, known.node.version):
            owner.seen = sent.version  # the newer version is ours, and no other came between
        elif sent is None:
            self._cover(owner, document, known.node.version)
        self._edits.takeover.follow_if_there(owner)
        self.settle(owner)

    def _check_size(self, sent: Sent) -> None:
        version, size_bytes = sent.version, sent.upload.size_bytes
        if version is None or version.size_bytes != size_bytes:
            has = "no usable version" if version is None else f"{version.size_bytes} bytes"
            raise Refused(f"Procore has {has} of it instead of the {size_bytes} bytes that were sent")

    def _bytes_arrived(self, change: Change, upload: Upload, version: Version) -> None:
        """Note that Procore has the bytes of the upload. A staged file that was written to since has other bytes."""
        change.upload_arrived()
        if change.upload is not None and change.upload.uuid == upload.uuid:
            change.drop_upload()
            self._generation_arrived(change, upload.generation, version)
        self._edits.takeover.drop_content_source(change)

    def nothing_new(self, change: Change, generation: int, version: Version) -> None:
        """Note that Procore's version has the same bytes as the generation: only their times are kept."""
        change.drop_upload()
        change.upload_arrived()
        self._generation_arrived(change, generation, version)
        self._edits.takeover.drop_content_source(change)
        self.settle(change)

    def _generation_arrived(self, change: Change, generation: int, version: Version) -> None:
        staged = change.staged
        self._dirty_files.uploaded(change.inode, generation, version.id)
        if staged is not None and staged.number == generation:
            change.content = UNCHANGED
            self._dirty_files.drop_parked(staged)

    def settle(self, change: Change) -> None:
        """End a change that wants nothing any more; else journal it."""
        if not self.is_current(change):
            return
        if change.is_idle and change.patch_refusal:
            self.fail(change, change.patch_refusal)
        elif change.is_idle and not self._dirty_files.is_written(change.inode):
            self._edits.changes.settle(change)
        else:
            self._edits.changes.save_if_current(change, touched=True)

    def found(self, document: Document, parent: Inode, change: Change, *, is_theirs: bool) -> None:
        """Give the change another user's document that has its name; ours becomes the next version.

        Raises Superseded if the change was given up meanwhile.
        """
        if not self.is_current(change):
            raise Superseded
        if is_theirs:
            log.warning(
                "%s was created by another user while ours waited: ours becomes its next version.",
                self._view.path(change.inode),
            )
        if self._store.known(document.id) is not None:  # its row may be newer than the listing that showed it
            self._join(change, document.id)
            return
        self._own.put(document, change.inode, parent, None)
        change.document, change.seen = document.id, UNSEEN
        self._edits.takeover.follow_if_there(change)
        self._edits.changes.save_if_current(change, touched=True)

    def join(self, change: Change, inode: Inode, document_id: DocumentId) -> None:
        """The same for a document that the tree has under that inode."""
        self.let_go(inode)
        log.info("%s was created by another user as well: ours joins it.", self._view.path(change.inode))
        self._join(change, document_id)

    def _join(self, change: Change, document_id: DocumentId) -> None:
        with self._store.transaction():
            node = self._own.claim(document_id, change.inode)
        change.document, change.seen = document_id, UNSEEN
        self._edits.takeover.follow_if_there(change)
        self.settle(change)
        self.left(node)

    # Documents that are gone

    def removed_in_procore(self, node: Node) -> None:
        """Remove a document from the tree that Procore does not have; what waits in or below it is created again."""
        if node.document_id is None:
            return
        known = self._store.known(node.document_id)
        if self._edits.local.recover_folder(node.inode):
            self._invalidate([ListingChanged(ROOT)])
        if known is None or not known.node.in_tree or known.node.parent is None:
            return
        log.info("%s was removed in Procore.", self._view.path(node.inode))
        shown = self._view.parent(node.inode)
        self._own.removed(node.document_id)
        self.freed(known)
        if shown is not None:
            self._invalidate(
                [EntryGone(*shown), ListingChanged(shown[0]), InodeChanged(node.inode, data=False)]
            )
        self._edits.changes.touched(node.inode)

    def vanished(self, change: Change) -> None:
        """Turn the bytes of a change whose document is gone into a new document, and drop a mere rename."""
        has_bytes = change.has_bytes or change.shown is not None
        if change.is_removed or not (has_bytes or (change.is_folder and change.is_placed)):
            self.dismiss(change)
            return
        log.info("%s was removed in Procore and is created again.", self._view.path(change.inode))
        self._edits.local.lose_document(change)

    def let_go(self, inode: Inode) -> None:
        """Give up the change of an inode, if there is one."""
        change = self._view.change(inode)
        if change is not None:
            self.dismiss(change)

    def dismiss(self, change: Change) -> None:
        """Give up a change, so that the tree shows what Procore has."""
        before = self._view.parent(change.inode)
        self._edits.changes.dismiss(change)
        self._moved(change.inode, before)

    def show_changed_folders(self) -> None:
        """Show folders under names that Procore changed, if nothing waits in them."""
        self._changed_names.show_folders()

    def refreshed(self, change: Change, document: Document, target: Location | None) -> None:
        """Put an answer into the tree and compare the change with it. `shown`: the entry under which it was put."""
        known = self._store.known(document.id)
        if known is None or change.document != document.id:
            return
        before = self._view.parent(change.inode)
        document = self._own.unchanged_bytes(document, "change", is_answer=False)
        folder = self.folder_of(document)
        shown = self._changed_names.entry(document, known.node.inode, folder, target)
        self._own.put(document, known.node.inode, folder, known.node.kept, shown=shown)
        self._cover(change, document, known.node.version)
        self._edits.changes.save_if_current(change)
        self._moved(change.inode, before)
        self.freed(known)

    def folder_of(self, document: Document, target: Location | None = None) -> Inode:
        """The folder of the document in an answer: another user may have moved it from `target` meanwhile."""
        named = self._store.known(document.parent_id) if document.parent_id is not None else None
        if named is not None and named.node.is_folder and self._store.reachable(named.node.inode):
            return named.node.inode
        if target is not None:
            return target.folder
        known = self._store.known(document.id)
        return known.node.parent or ROOT if known is not None else ROOT

    def is_in_place(self, change: Change) -> None:
        """Note that Procore has the document at its wanted place; a call before a crash may have moved it."""
        before = self._view.parent(change.inode)
        if change.is_placed:
            self._edits.changes.follow_again(change)
        self.settle(change)
        self._moved(change.inode, before)  # a document with an equivalent name may have been there before

    def steps_aside(self, change: Change, before: Location) -> None:
        """Procore is about to be asked to give it another name than `before` for a moment."""
        change.step_aside(before)
        self._edits.changes.save_if_current(change)

    def give_back(self, change: Change, why: str) -> None:
        """Take back a refused removal or move: the document shows where Procore has it, with the reason as its
        failure."""
        shown = self._view.parent(change.inode)
        if change.is_removed:
            self._edits.takeover.leave_inside(change)
        self._edits.changes.follow_again(change)
        if change.has_bytes or change.patch or change.is_placed:
            log.warning("%s: %s", self._view.path(change.inode), why)
        else:
            self.fail(change, why)
        places = [place for place in (shown, self._view.parent(change.inode)) if place is not None]
        self._invalidate([EntryGone(*place) for place in places])
        self._invalidate([ListingChanged(folder) for folder, _ in places])
        self._invalidate([InodeChanged(change.inode, data=False)])

    def doubt(self, folder: Inode) -> None:
        """Mark a folder as not listed, because Procore has entries in it that the tree lacks."""
        with self._store.transaction():
            self._store.set_listed(folder, False)
            self._store.unlist_below(folder)
        self._invalidate([ListingChanged(folder)])

    def tags_arrived(self, change: Change, tags: list[str]) -> None:
        """Note the document's tags."""
        change.patch = without(change.patch, MetadataPatch(tags=tags))
        self.settle(change)

    def give_up_metadata(self, change: Change, metadata: MetadataPatch, why: str) -> None:
        """Give up refused metadata: the document shows what Procore has, with the reason as its failure."""
        change.patch, change.patch_refusal = without(change.patch, metadata), why
        self.settle(change)

    def drop_satisfied(self, change: Change, known: Known) -> None:
        """Drop wanted metadata that Procore has already."""
        change.patch = lacking(change.patch, decode_detail(known.detail))

    def fail(self, change: Change, why: str) -> None:
        """Fail a change for good; it waits for `retry` or `discard`. Raises sqlite3.Error, OSError."""
        change.give_reason(why)
        before = change.progress
        if (
            change.state is not ChangeState.OPEN
        ):  # else the bytes that are being written are sent when they are closed
            change.step(Failed(why, clocks.unix_s()))
        try:
            self._edits.changes.save_if_current(change, touched=True)
        except BaseException:
            change.progress = before  # it will be tried again
            raise

    def begin_upload_again(self, change: Change, upload: Upload) -> None:
        """Drop an upload that cannot be used: its bytes are sent again."""
        if change.upload is upload:
            change.drop_upload()
        self._edits.changes.save_if_current(change, touched=True)


def _kept_for_next(kept: Kept | None, document: Document, sent: Sent | None) -> Kept | None:
    """The same with the hash of the version that was sent, whose inode has gone on without the document: an inode that
    has these bytes may get it. Times belong to other bytes."""
    if sent is None or sent.version is None or not same_bytes(sent.version, document.version):
        return kept
    return msgspec.structs.replace(
        kept or Kept(),
        version_id=sent.version.id,
        sha256=sent.upload.sha256,
        mtime_ns=None,
        atime_ns=None,
        ctime_ns=None,
    )


def _version_of(known: Known | None) -> Version | None:
    return known.node.version if known is not None else None
