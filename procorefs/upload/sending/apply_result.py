"""What becomes of a change when Procore has answered: rows of the tree, generations that are done, what is given up.

Nothing here waits but for bytes: an answer is taken up in one moment, so that no program sees half of it.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from procorefs.journal.change import GONE, UNSEEN, Change, Location, MetadataPatch, Stage, Upload
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.metadata_patch import lacking, without
from procorefs.procore.errors import Forbidden, Invalid, NotFound
from procorefs.procore.wire.models import Document, DocumentId, Version
from procorefs.staging.staging_area import StagedFile
from procorefs.storage import clocks
from procorefs.tree.document_detail import decode_detail, same_bytes
from procorefs.tree.nodes import ROOT, EntryGone, Inode, InodeChanged, Invalidation, ListingChanged, Node
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Refused, Superseded, refused_metadata
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


class DocumentTags(Protocol):
    """Who knows the tags and changes them; raises ProcoreError."""

    async def make(self, document: DocumentId, wanted: list[str]) -> None:
        """Have a document bear just these."""

    async def bears(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether a document bears just these now."""

    def made(self, document: DocumentId) -> None:
        """The document is new: it bears none."""

    def doubt(self, documents: Iterable[DocumentId]) -> None:
        """What is known of their tags may be wrong."""


class Sent(NamedTuple):
    """Bytes that a call, or an earlier one whose answer was lost, has brought."""

    upload: Upload
    version: Version | None
    """What they are in Procore now: the newest, or one that others have put theirs on top of."""


class ResultApplier:
    """Takes up answers; `forget` tells the kernel what it could not know."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        drafts: DirtyFiles,
        edits: LocalEdits,
        calls: InFlightCalls,
        tags: DocumentTags,
        invalidate: Callable[[Sequence[Invalidation]], None],
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._drafts = drafts
        self._edits = edits
        self._calls = calls
        self._tags = tags
        self._invalidate = invalidate

    # Answers

    def arrived(
        self,
        change: Change,
        document: Document,
        parent: Inode,
        *,
        wishes: MetadataPatch,
        target: Location | None = None,
        sent: Sent | None = None,
        is_new: bool = False,
    ) -> None:
        """Procore has done what was sent: the document is the change's, and what arrived is not wanted any more.

        Raises Refused when Procore has other bytes than were sent. `target`: where the call put the document, which
        lies in `parent` in any case; `is_new`: it was to make it.
        """
        shown = target.shown if target is not None else None
        if sent is None and not is_new:
            document = self._own.unchanged_bytes(document, "change")
        expected = None if is_new else document.id  # else it was handed on while the call was under way
        if not self.is_current(change) or change.document != expected:
            self._arrived_late(document, parent, shown=shown, sent=sent, is_new=is_new)
            return
        if target is not None and document.name != target.name:
            log.info("%s has the name %r in Procore.", self._view.path(change.inode), document.name)
        before, known = self._view.parent(change.inode), self._store.known(document.id)
        if sent is not None:
            self._check_size(sent)
            assert sent.version is not None
            change.kept = msgspec.structs.replace(
                change.kept, version_id=sent.version.id, sha256=sent.upload.sha256
            )
        self._own.put(document, change.inode, parent, change.kept, shown=shown, is_new=is_new)
        change.document = document.id
        if sent is not None:
            self._calls.forget_uploaded(sent.upload.uuid)
        if sent is not None and sent.version is not None:
            self._bytes_arrived(change, sent.upload, sent.version)
        if change.place is GONE and (sent is not None or change.seen is None):
            # removed here while it was sent
            change.seen = sent.version if sent is not None else document.version
        elif sent is not None:
            change.seen = None
        self._cover(change, document, sent.version if sent is not None else _version_of(known))
        change.attempts, change.error = 0, ""
        change.wishes = without(change.wishes, wishes)
        self._edits.takeover.reached(change, target)
        self.settle(change)
        self._moved(change.inode, before)
        self.left(known.node if known is not None else None)
        self.freed(known)
        if change.place is GONE:
            self._edits.takeover.pass_on(change)

    def _cover(self, change: Change, document: Document, before: Version | None) -> None:
        """An answer may tell of somebody else's version that lies under bytes which wait here: nobody has seen it.

        `before`: what was the newest that is known, or was made here.
        """
        is_newer = before is not None and not same_bytes(before, document.version)
        has_bytes = change.has_bytes or change.shown is not None or self._drafts.has(change.inode)
        if is_newer and has_bytes and change.seen is None and change.place is not GONE:
            change.seen = before

    def _moved(self, inode: Inode, before: tuple[Inode, bytes] | None) -> None:
        """Tell the kernel where an inode shows now, if that is elsewhere."""
        now = self._view.parent(inode)
        places = [place for place in (before, now) if place is not None]
        if now != before:
            self._invalidate([EntryGone(*place) for place in places])
            self._invalidate([ListingChanged(folder) for folder, _ in places])

    def uncovered(self, folder: Inode) -> None:
        """A document may show in the folder that was taken for one which a call of ours was making."""
        self._invalidate([ListingChanged(folder)])

    def left(self, node: Node | None) -> None:
        """Tell the kernel of an entry that is no more, if it is none.

        A look may have shown a document by itself before it was known to be one of ours: one that shows already, or one
        that nobody wants any more.
        """
        if node is None or not node.in_tree or node.parent is None:
            return
        there = self._view.child(node.parent, node.shown)
        if there is None or there.inode != node.inode:
            self._invalidate([EntryGone(node.parent, node.shown), ListingChanged(node.parent)])

    def freed(self, known: Known | None) -> None:
        """What was known of a document is over: another one may have waited for its entry."""
        if known is not None:
            self._invalidate(self._own.give_entry(known.node))

    def is_current(self, change: Change) -> bool:
        """Whether it was not given up meanwhile."""
        return self._view.change(change.inode) is change

    def _arrived_late(
        self,
        document: Document,
        parent: Inode,
        *,
        shown: bytes | None,
        sent: Sent | None,
        is_new: bool,
    ) -> None:
        """The document has changed hands while the call was under way: the answer is for whoever has it now."""
        known = self._store.known(document.id)
        if is_new or known is None:
            self._edits.takeover.take_unwanted_document(document, parent)
            return
        owner = self._view.change(known.node.inode)
        kept = owner.kept if owner is not None else known.node.kept
        self._own.put(document, known.node.inode, parent, kept, shown=shown)
        self.freed(known)
        if owner is None:
            return
        if sent is not None and owner.seen is not None and same_bytes(owner.seen, known.node.version):
            owner.seen = sent.version  # the newer version is ours, and nobody else's came between
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
        """Procore has the bytes of the upload. A staged file that was written to since has others by now."""
        change.dropped_uploads = 0
        if change.upload is not None and change.upload.uuid == upload.uuid:
            change.upload = None
            self._generation_arrived(change, upload.generation, version)
        self._edits.takeover.give_back_loan(change)

    def _generation_arrived(self, change: Change, generation: int, version: Version) -> None:
        staged = change.staged
        self._drafts.uploaded(change.inode, generation, version.id)
        if staged is not None and staged.number == generation:
            change.staged = None
            self._drafts.drop_parked(staged)

    def settle(self, change: Change) -> None:
        """Let a change go when nothing is left of it, else write down what is."""
        if not self.is_current(change):
            return
        if change.is_idle and change.refused:
            self.fail(change, change.refused)
        elif change.is_idle and not self._drafts.is_written(change.inode):
            self._edits.changes.settle(change)
        else:
            self._edits.changes.save_if_current(change, touched=True)

    def found(self, document: Document, parent: Inode, change: Change) -> None:
        """A document of somebody else has the change's name: it is the change's from now on, ours comes on top.

        Raises Superseded when the change was given up meanwhile.
        """
        if not self.is_current(change):
            raise Superseded
        known = self._store.known(document.id)
        if known is not None:  # its row may be newer than the listing that showed it
            self.join(change, document.id)
            return
        self._own.put(document, change.inode, parent, None)
        change.document, change.seen = document.id, UNSEEN
        self._edits.takeover.follow_if_there(change)
        self._edits.changes.save_if_current(change, touched=True)

    def join(self, change: Change, document_id: DocumentId) -> None:
        """The same for one that the tree has."""
        with self._store.transaction():
            node = self._own.claim(document_id, change.inode)
        change.document, change.seen = document_id, UNSEEN
        self._edits.takeover.follow_if_there(change)
        self.settle(change)
        self.left(node)

    # What is not there any more

    def removed_in_procore(self, node: Node) -> None:
        """Procore does not have a document that the tree has; what waits in or below it is made anew."""
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
        """The change's document is gone: its bytes are to be a new one; a mere rename of it has no object."""
        has_bytes = change.has_bytes or change.shown is not None
        if change.place is GONE or not (has_bytes or (change.is_folder and change.is_placed)):
            self.dismiss(change)
            return
        log.info("%s was removed in Procore and is created again.", self._view.path(change.inode))
        self._edits.local.lose_document(change)

    def dismiss(self, change: Change) -> None:
        """Give a change up: the tree shows what Procore has."""
        before = self._view.parent(change.inode)
        self._edits.changes.dismiss(change)
        self._moved(change.inode, before)

    def refreshed(self, change: Change, document: Document, shown: bytes | None) -> None:
        """Procore has the document like this now: what is still wanted of it is compared with that.

        `shown`: the entry under which it was put there.
        """
        known = self._store.known(document.id)
        if known is None or change.document != document.id:
            return
        before = self._view.parent(change.inode)
        document = self._own.unchanged_bytes(document, "change", is_answer=False)
        self._own.put(document, known.node.inode, self.folder_of(document), known.node.kept, shown=shown)
        self._cover(change, document, known.node.version)
        self._edits.changes.save_if_current(change)
        self._moved(change.inode, before)
        self.freed(known)

    def folder_of(self, document: Document) -> Inode:
        """The folder that an answer says a document is in."""
        named = self._store.known(document.parent_id) if document.parent_id is not None else None
        if named is not None and named.node.is_folder and self._store.reachable(named.node.inode):
            return named.node.inode
        known = self._store.known(document.id)
        return known.node.parent or ROOT if known is not None else ROOT

    async def bears_tags(self, document: DocumentId, wanted: list[str]) -> bool:
        """After a call about them that was not answered: whether the document bears just these by now."""
        self._tags.doubt([document])
        return await self._tags.bears(document, wanted)

    def is_in_place(self, change: Change) -> None:
        """Procore has the document where it is wanted, whoever put it there: perhaps we, before a crash."""
        before = self._view.parent(change.inode)
        change.aside_from = None
        if change.is_placed:
            self._edits.changes.follow_again(change)
        self.settle(change)
        self._moved(change.inode, before)  # a twin of its name may have been there before it

    def give_back(self, change: Change, why: str) -> None:
        """A removal or move was refused: the document shows where Procore has it, and the failure says why."""
        shown = self._view.parent(change.inode)
        if change.place is GONE:
            self._edits.takeover.leave_inside(change)
        self._edits.changes.follow_again(change)
        if change.has_bytes or change.wishes or change.is_placed:
            log.warning("%s: %s", self._view.path(change.inode), why)
        else:
            self.fail(change, why)
        places = [place for place in (shown, self._view.parent(change.inode)) if place is not None]
        self._invalidate([EntryGone(*place) for place in places])
        self._invalidate([ListingChanged(folder) for folder, _ in places])
        self._invalidate([InodeChanged(change.inode, data=False)])

    def doubt(self, folder: Inode) -> None:
        """The folder holds what the tree does not know: it, and what is below, is listed when somebody looks."""
        with self._store.transaction():
            self._store.set_listed(folder, False)
            self._store.unlist_below(folder)
        self._invalidate([ListingChanged(folder)])

    def give_up_wishes(self, change: Change, wishes: MetadataPatch, why: str) -> None:
        """Metadata was refused: the document shows what Procore has, and the failure says why."""
        change.wishes, change.refused = without(change.wishes, wishes), why
        self.settle(change)

    def is_bare(self, document: Document) -> None:
        """We have just made it: it bears no tags."""
        self._tags.made(document.id)

    def forgo(self, change: Change, known: Known) -> None:
        """Wish no more for what Procore has already."""
        change.wishes = lacking(change.wishes, decode_detail(known.detail))

    def fail(self, change: Change, why: str) -> None:
        """Refused for good: it stays as it is until somebody says what to do. Raises what the disk refuses."""
        before, change.error = change.stage, why
        if change.stage is not Stage.OPEN:  # else what is being written goes once more, when it is closed
            change.stage, change.failed_at_s = Stage.FAILED, clocks.unix_s()
        try:
            self._edits.changes.save_if_current(change, touched=True)
        except BaseException:
            change.stage = before  # it is tried again
            raise

    # Bytes

    async def fetch_borrowed(self, change: Change) -> None:
        """Bring the bytes of another document here: they are to be a version of this one. Raises ProcoreError."""
        borrowed = change.borrowed
        file = self._drafts.staging.create(borrowed)
        try:
            await file.complete()
            # Who lends them may go as soon as the row says that they are here.
            await self._drafts.staging.sync([file])
            if not self.is_current(change) or change.borrowed is not borrowed:
                raise Superseded
            self._edits.sessions.take_fetched(change, file)
        except BaseException:
            file.delete()
            raise

    async def fetch_missing(self, change: Change) -> None:
        """Bring here what is missing of a change's bytes. Raises Superseded, ProcoreError, the staging's errors."""
        if change.borrowed is not None:
            await self.fetch_borrowed(change)
            return
        file = await self.freeze(change)
        if file is None:
            return
        try:
            await file.complete()
            await self._drafts.staging.sync([file])
            if not self.is_current(change) or change.staged is None or change.staged.number != file.number:
                raise Superseded
            self._edits.sessions.take_completed(change, file)
        finally:
            self.thaw(change, file)

    async def freeze(self, change: Change) -> StagedFile | None:
        """The newest flushed generation, which does not change until `thaw`; None: there are no bytes to send."""
        await self._drafts.still(change.inode)
        if not self.is_current(change):
            raise Superseded
        draft = self._drafts.get(change.inode)
        if draft is not None and draft.is_changed and not draft.is_frozen:
            self._edits.sessions.flushed(change.inode)
        if change.staged is None:
            return None
        return self._drafts.freeze(change.inode, change.staged)

    def thaw(self, change: Change, file: StagedFile) -> None:
        """The file stays as long as a row names it, be it another change than the one that was sent."""
        now = self._view.change(change.inode)
        is_wanted = now is not None and any(record.number == file.number for record in now.records)
        self._drafts.thaw(change.inode, file, is_wanted=is_wanted)

    async def is_known(self, change: Change, file: StagedFile) -> bool:
        """Whether the document's version has these bytes already, as far as we know its hash."""
        known = self._store.known(change.document) if change.document is not None else None
        if known is None or known.node.version is None or known.node.kept is None:
            return False
        version, kept = known.node.version, known.node.kept
        if not kept.sha256 or kept.version_id != version.id or version.size_bytes != file.size_bytes:
            return False
        return await file.digest() == kept.sha256

    def nothing_new(self, change: Change, file: StagedFile) -> None:
        """The bytes are those of Procore's version: only their times are kept."""
        known = self._store.known(change.document) if change.document is not None else None
        if known is None or known.node.version is None or known.node.kept is None:
            raise Superseded
        version = known.node.version
        change.kept = msgspec.structs.replace(
            change.kept, version_id=version.id, sha256=known.node.kept.sha256
        )
        change.upload, change.dropped_uploads = None, 0
        self._generation_arrived(change, file.number, version)
        self._edits.takeover.give_back_loan(change)
        self.settle(change)

    def begin_anew(self, change: Change, upload: Upload) -> None:
        """The upload can't be used: its bytes are sent again."""
        if change.upload is upload:
            change.upload = None
        self._edits.changes.save_if_current(change, touched=True)

    def note_colleague(self, change: Change, known: Known, file: StagedFile) -> None:
        """Say it when ours comes on top of a version that whoever wrote here has not seen."""
        base = file.base
        if base is not None and known.node.version is not None and known.node.version.id != base.id:
            log.info(
                "%s has a newer version in Procore: ours comes on top, theirs stays in the history.",
                self._view.path(change.inode),
            )

    # Tags

    async def send_tags(self, change: Change) -> None:
        """Make the document's tags those that are wanted: a call for each that differs."""
        wanted, document_id = change.wishes.tags, change.document
        if isinstance(wanted, msgspec.UnsetType) or document_id is None:
            return
        try:
            await self._tags.make(document_id, wanted)
        except (Forbidden, Invalid, NotFound) as error:
            raise refused_metadata(MetadataPatch(tags=wanted), error) from error
        change.wishes = without(change.wishes, MetadataPatch(tags=wanted))
        self.settle(change)


def _version_of(known: Known | None) -> Version | None:
    return known.node.version if known is not None else None
