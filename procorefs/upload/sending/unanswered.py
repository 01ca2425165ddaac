"""Finds out what became of a call that was not answered, before anything else is done about its document.

| the call        | is                                         | because                                        |
|-----------------|--------------------------------------------|------------------------------------------------|
| makes a file    | made again with the same upload            | an upload is used once: one of the two is done |
| makes a version | made again with the same upload            | the same                                       |
| makes a folder  | looked for by its name                     | a second folder of that name is refused        |
| moves, sets     | compared with the document as it is now    | it may be done twice                           |
| deletes         | made again, by the removal (removal.py)   | it may be done twice                           |

What was looked for and not done may still be done, because a server may go on with it: the call is late then, and what
it would undo waits for LATE_S (`hindrance` in plan.py). Then it is looked for once more.
"""

import msgspec
import trio
from msgspec import UNSET

from procorefs.journal.change import Change, Location, MetadataPatch, Upload
from procorefs.journal.in_flight_calls import Call
from procorefs.journal.metadata_patch import lacking
from procorefs.procore.api.changes import FileChange
from procorefs.procore.errors import (
    CheckedOut,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    UploadRefused,
)
from procorefs.procore.wire.models import Document, DocumentId, Kind
from procorefs.tree.document_detail import decode_detail
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.sending.apply_result import ResultApplier, Sent
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.name_conflicts import Likeness, NameConflicts, likeness_of
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

OUR_CLOCK_S = 600.0
"""By how much Procore's clock may be behind what its answers told."""

CLOCKS_S = 5.0
"""The error of what answers tell of Procore's clock. If it were larger, a folder of ours would count as another
user's."""


class UnansweredCalls:
    """Looks up the outcome of one call at a time. Raises ProcoreError."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        edits: LocalEdits,
        documents: DocumentCalls,
        conflicts: NameConflicts,
        versions: VersionMatcher,
        results: ResultApplier,
    ) -> None:
        self._store = store
        self._view = view
        self._edits = edits
        self._documents = documents
        self._conflicts = conflicts
        self._versions = versions
        self._results = results

    async def confirm(self, change: Change, call: Call) -> None:
        """Find out the outcome of the call. Afterwards it is forgotten or late."""
        if call.is_creating and change.document is None:
            if call.upload is not None:
                await self._make_again(change, call, call.upload)
            else:
                await self._look_for_folder(change, call)
        elif call.makes or call.document is None:
            self._documents.calls.forget(call)  # another call has made it
        elif not call.belongs_to(change):
            self._edits.changes.keep_unconfirmed(change.inode)
            if call.inode == change.inode:
                self._documents.calls.forget(call)  # no inode has the document
        elif call.upload is not None and not change.is_removed:
            if call.is_late and not self._documents.calls.left_s(call):
                self._documents.calls.forget(call)
            else:
                await self._use_again(change, call, call.upload)
        else:
            await self._look_at_document(change, call, call.document)

    # Creations

    async def _make_again(self, change: Change, call: Call, upload: Upload) -> None:
        assert call.place is not None
        folder_id = self._folder_id(call.place.folder)
        if folder_id is UNSET:
            self._was_not_done(change, call)
            return
        async with self._documents.changing(change, None, call.place, upload=upload, repeats=call) as (
            request,
            sending,
        ):
            version = None
            try:
                document = await self._documents.changes.create_file(
                    folder_id, call.place.name, upload.uuid, on_sent=request.sent
                )
            except (NotFound, Forbidden, Invalid, Conflict, Gone):
                sending.unclear()
                conflict = await self._conflicts.find(folder_id, call.place, call.kind)
                maybe_made = self._conflicts.maybe_made(conflict, change)
                if maybe_made is not None:
                    document = await self._documents.with_version(maybe_made)
                    version = await self._versions.find_ours(document, upload)
                if version is None:
                    new = await self._conflicts.new_in(folder_id, call.place, change, call.last_inode)
                    made = await self._versions.find_made(new, upload)
                    if made is not None:
                        document, version = made
                if version is None:
                    sending.refused()
                    self._was_not_done(change, call)
                    return
            sending.unclear()
            self._documents.own.order.is_about(request, document.id)
            document = await self._documents.with_version(document)
            sending.answered()
            place = sending.place or call.place
            self._results.arrived(
                change,
                document,
                place.folder,
                metadata=MetadataPatch(),
                target=place,
                sent=Sent(upload, version or document.version),
                is_new=True,
            )

    async def _look_for_folder(self, change: Change, call: Call) -> None:
        assert call.place is not None
        folder_id = self._folder_id(call.place.folder)
        if folder_id is UNSET:
            self._was_not_done(change, call)
            return
        if change.is_removed:
            await self._look_for_unwanted(change, call)
            return
        with self._documents.own.call(None) as request:
            request.sent()
            conflict = await self._conflicts.find(folder_id, call.place, call.kind)
            if call.inode != change.inode:
                return  # the change has another document by now; the call belongs to another change
            if conflict is None:
                self._was_not_done_yet(change, call)
                return
            document = conflict.document
            known = self._store.known(document.id)
            theirs = self._view.change(known.node.inode) if known is not None else None
            wanted_at_s = self._documents.client.server_s(call.began_at_s)
            is_ours = (
                document.kind is Kind.FOLDER
                and (known is None or known.node.inode > call.last_inode)
                and theirs in (None, change)
                and _is_no_older(document, wanted_at_s)
            )
            self._results.may_show(call.place.folder)
            with self._documents.calls.applying(call):
                if is_ours and self._results.is_current(change):
                    self._documents.own.order.is_about(request, document.id)
                    self._results.arrived(
                        change,
                        document,
                        call.place.folder,
                        metadata=MetadataPatch(),
                        target=call.place,
                        is_new=True,
                    )

    async def _look_for_unwanted(self, change: Change, call: Call) -> None:
        """Remove a folder that is no longer wanted, if our call made it."""
        await self._documents.poll()
        if not self._results.is_current(change):
            return
        node = self._there(call)
        if node is None or not self._is_ours(call, node):
            self._was_not_done_yet(change, call)
            return
        assert call.place is not None
        assert node.document_id is not None
        with self._documents.calls.applying(call):
            self._documents.calls.folder_there(call.place, node.document_id)
            self._edits.takeover.take_found(change, node)
            self._results.left(node)

    def _there(self, call: Call) -> Node | None:
        """The document at the place where the call was to create one, if it has no change."""
        assert call.place is not None
        exact = self._store.child(call.place.folder, call.place.shown)
        for node in [exact] if exact is not None else self._composed(call.place):
            if node.document_id is not None and node.kind is call.kind:
                return node if self._view.change(node.inode) is None else None
        return None

    def _composed(self, place: Location) -> list[Node]:
        """Documents whose name is the same but for composed or decomposed letters, which Procore may have changed."""
        return [
            node
            for node in self._store.children(place.folder)
            if likeness_of(node.shown.decode("utf-8", "replace"), place.name) is Likeness.COMPOSED
        ]

    def _is_ours(self, call: Call, node: Node) -> bool:
        """Whether the call made the folder, as far as can be told; the removal checks that it is empty."""
        known = self._store.known(node.document_id) if node.document_id is not None else None
        by = decode_detail(known.detail).created_by if known is not None else None
        begun_s = self._documents.client.server_s(call.began_at_s)
        is_new = node.inode > call.last_inode and node.created_at_s >= begun_s - OUR_CLOCK_S
        return is_new and self._versions.is_by_us(by)

    def _folder_id(self, folder: Inode) -> DocumentId | msgspec.UnsetType | None:
        """A folder's document; None for the root, UNSET if Procore does not have it any more."""
        if folder == ROOT:
            return None
        node = self._store.by_inode(folder)
        if node is None or node.document_id is None or not self._store.reachable(folder):
            return UNSET
        return node.document_id

    # Changes

    async def _use_again(self, change: Change, call: Call, upload: Upload) -> None:
        document_id = call.document
        assert document_id is not None
        async with self._documents.changing(change, document_id, upload=upload, repeats=call) as (
            request,
            sending,
        ):
            version = None
            try:
                document = await self._documents.changes.update_file(
                    document_id, FileChange(upload_uuid=upload.uuid), on_sent=request.sent
                )
            except CheckedOut:
                raise
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                sending.unclear()
                found = await self._documents.now(document_id, Kind.FILE)
                if found is None:
                    sending.refused()
                    self._is_gone(call, document_id)
                    return
                document = found
                version = await self._versions.find_ours(document, upload)
                if version is None:
                    sending.refused()
                    if isinstance(error, UploadRefused | Gone):
                        self._results.begin_upload_again(change, upload)
                    self._was_not_done(change, call)
                    return
            sending.unclear()
            document = await self._documents.with_version(document)
            sending.answered()
            self._results.arrived(
                change,
                document,
                self._results.folder_of(document),
                metadata=MetadataPatch(),
                sent=Sent(upload, version or document.version),
            )

    async def _look_at_document(self, change: Change, call: Call, document_id: DocumentId) -> None:
        with self._documents.own.call(document_id) as request:
            request.sent()
            document = await self._documents.now(document_id, call.kind)
            if document is None:
                self._is_gone(call, document_id)
                return
            is_made = call.upload is not None and await self._note_version(change, call.upload, document)
            if not self._results.is_current(change) or change.document != document_id:
                return
            is_placed = self._is_placed(call, document)
            self._results.refreshed(change, document, call.place if is_placed else None)
            if is_placed and call.place is not None and document.kind is Kind.FOLDER:
                self._documents.calls.folder_there(call.place, document.id)
            is_done = is_placed and self._has_metadata(call)
            if call.patch.tags is not UNSET and not change.is_removed:
                is_done = await self._bears_tags(document_id, call.patch.tags) and is_done
                if not self._results.is_current(change) or change.document != document_id:
                    return
            if call.upload is not None:
                is_done = is_made
            if call.removes:  # made again while the removal is wanted; else the call may still take effect
                is_done = change.is_removed
            if is_done:
                self._documents.calls.forget(call)
            else:
                self._was_not_done_yet(change, call)

    async def _bears_tags(self, document: DocumentId, wanted: list[str]) -> bool:
        """Whether the document has exactly these tags by now."""
        self._documents.tags.doubt([document])
        return await self._documents.tags.bears(document, wanted)

    async def _note_version(self, change: Change, upload: Upload, document: Document) -> bool:
        """Note a version that our own call made of a document that is to be removed, as seen here. Returns whether
        there is one."""
        version = await self._versions.find_ours(document, upload)
        if version is not None and document.version is not None and version.id == document.version.id:
            change.seen = version
        return version is not None

    def _is_placed(self, call: Call, document: Document) -> bool:
        """Whether the document is where the call put it, possibly with a name that Procore altered."""
        if call.place is None:
            return True
        if self._results.folder_of(document) != call.place.folder:
            return False
        before = self._store.known(document.id)
        has_moved = before is None or (before.node.parent, before.name) != (call.place.folder, document.name)
        is_alike = likeness_of(document.name, call.place.name) is not None
        return document.name == call.place.name or (is_alike and has_moved)

    def _has_metadata(self, call: Call) -> bool:
        known = self._store.known(call.document) if call.document is not None else None
        metadata = msgspec.structs.replace(call.patch, tags=UNSET)
        return known is not None and not lacking(metadata, decode_detail(known.detail))

    async def forget_expired(self) -> None:
        """Forget late calls that no change waits for and that can no longer take effect; a poll shows what they did."""
        expired = [call for call in self._documents.calls.open_calls() if self._is_over(call)]
        if expired and await self._documents.polled_since(trio.current_time()):
            for call in filter(self._is_over, expired):
                self._documents.calls.forget(call)

    def _is_over(self, call: Call) -> bool:
        known = self._store.known(call.document) if call.document is not None else None
        inodes = [call.inode] if known is None else [call.inode, known.node.inode]
        has_change = any(self._view.change(inode) is not None for inode in inodes)
        return call.is_late and not self._documents.calls.left_s(call) and not has_change

    # Outcomes

    def _is_gone(self, call: Call, document_id: DocumentId) -> None:
        known = self._store.known(document_id)
        if known is not None:
            self._results.removed_in_procore(known.node)
        self._documents.calls.forget(call)

    def _was_not_done(self, change: Change, call: Call) -> None:
        """Record that the call was not done and will not be."""
        self._documents.calls.forget(call)
        if call.is_creating and call.place is not None:
            self._results.may_show(call.place.folder)
        if not self._results.is_current(change):
            return
        if change.upload is not None and call.upload is not None and change.upload.uuid == call.upload.uuid:
            change.upload.is_used = False
        if is_unknown(change):
            self._results.dismiss(change)
        else:
            self._edits.changes.save_if_current(change)

    def _was_not_done_yet(self, change: Change, call: Call) -> None:
        if call.is_late or not self._documents.calls.left_s(call):
            self._was_not_done(change, call)
        else:
            self._documents.calls.not_done_yet(call)


def _is_no_older(folder: Document, wanted_at_s: float) -> bool:
    """Whether a folder's creation time fits an earlier call, by Procore's clock."""
    return (folder.created_at_s or folder.updated_at_s) >= wanted_at_s - CLOCKS_S
