"""Removes documents from Procore, and never more than was seen here when they were removed.

Deleting a folder moves all below it to the bin, and the API cannot undo that. So everything below is listed first.
If something there was not removed here or has a newer version, the folder stays, shows again and says why.
"""

import logging

import trio

from procorefs.journal.change import Change
from procorefs.journal.states import ChangeState
from procorefs.limiter import Priority
from procorefs.procore.errors import CheckedOut, Conflict, Forbidden, Invalid, NotFound
from procorefs.procore.wire.models import Document, DocumentId, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import same_bytes
from procorefs.tree.nodes import ROOT
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.outcomes import Blocked, Refused, Superseded, may_pass
from procorefs.upload.planning.plan import Delete, Wait
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.refusals import NotEmpty
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

MOST_NAMED = 3

LOOK_HOLDS_S = 10.0
"""A poll counts as current for removals that are decided within this time after it began."""

SENT_WITHIN_S = 120.0
"""A call that waited longer for the budget is planned again: another user may have changed the document since."""


class DocumentRemover:
    """Removes documents; raises Blocked, Refused, Superseded and ProcoreError."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        documents: DocumentCalls,
        situations: Situations,
        versions: VersionMatcher,
        results: ResultApplier,
        guard: DeleteGuard,
    ) -> None:
        self._store = store
        self._view = view
        self._documents = documents
        self._situations = situations
        self._versions = versions
        self._results = results
        self._guard = guard

    async def remove(self, change: Change) -> None:
        """Delete the change's document if Procore still has what was seen here."""
        assert change.document is not None
        if change.is_folder:
            if not await self._may_remove_folder(change):
                return
        elif not await self.may_remove_file(change):
            return
        step = self._situations.step(
            change
        )  # its folder may be in removal by now, or a new change may have begun
        if isinstance(step, Wait):
            raise Blocked(step)
        if isinstance(step, Delete):
            await self._delete(change)

    async def may_remove_file(self, change: Change) -> bool:
        """Whether Procore's newest version is the one that was removed here; one poll tells it for many files.

        A poll that was under way together with a call of ours about the document does not count.
        """
        document_id = change.document
        assert document_id is not None
        own_age_s = self._documents.own.age_s(
            document_id
        )  # both before trio's time is read: a later start of the poll is safe
        age_s = min(clocks.age_s(change.touched_at_s), own_age_s, LOOK_HOLDS_S)
        if await self._documents.polled_since(trio.current_time() - age_s):
            known = self._store.known(document_id)
            version = known.node.version if known is not None and known.node.in_tree else change.seen
        else:
            version = await self._newest_version(change, document_id)
        is_ours = await self._is_ours(change, version)
        if not self._is_wanted(change, document_id):
            return False
        if not is_ours:
            raise Refused(
                "another user uploaded a newer version: it was not deleted; look at it and delete it again",
                take_back=True,
            )
        return True

    async def _is_ours(self, change: Change, version: Version | None) -> bool:
        """Whether the document is what was removed here, or what a call of ours with a lost answer made of it."""
        if version is None or same_bytes(version, change.seen):
            return same_bytes(version, change.seen)
        if change.kept.is_bound_to(version):
            return True  # it was removed while the tree was older, after a power cut
        used = [
            change.upload,
            *(call.upload for call in self._documents.calls.of(change.inode, change.document)),
        ]
        for upload in {upload.uuid: upload for upload in used if upload is not None}.values():
            if await self._versions.has_made(upload, version):
                return True
        return False

    async def _newest_version(self, change: Change, document_id: DocumentId) -> Version | None:
        """Whether the document that Procore has now may be removed; also updates the tree."""
        with self._documents.own.order.reading() as request:
            try:
                document = await self._documents.client.file(
                    document_id, priority=Priority.WRITING, on_sent=request.sent
                )
            except NotFound:
                return change.seen  # the DELETE will get the same answer
            known = self._store.known(document_id)
            if (
                known is not None
                and known.node.in_tree
                and not same_bytes(document.version, known.node.version)
                and self._documents.own.order.admit(document_id, request)
            ):
                self._documents.own.put(document, known.node.inode, known.node.parent or ROOT, None)
            return document.version

    def _is_wanted(self, change: Change, document_id: DocumentId) -> bool:
        """Whether the document is still to be removed: a new file may have taken its name."""
        return self._results.is_current(change) and change.is_removed and change.document == document_id

    async def _delete(self, change: Change) -> None:
        document_id, decided_s = change.document, trio.current_time()
        assert document_id is not None
        version = self._version(document_id)
        known = self._store.known(document_id)
        async with self._documents.changing(change, document_id, removes=True) as (request, sending):

            def leaves() -> None:
                """Check the decision again just before the call is sent."""
                is_old = trio.current_time() - decided_s > SENT_WITHIN_S
                is_held = change.state is ChangeState.GUARDED
                if is_old or is_held or not same_bytes(self._version(document_id), version):
                    sending.refused()
                    raise Superseded
                request.sent()

            try:
                if change.is_folder:
                    await self._documents.changes.delete_folder(document_id, on_sent=leaves)
                else:
                    await self._documents.changes.delete_file(document_id, on_sent=leaves)
            except CheckedOut:
                raise
            except (NotFound, Forbidden, Invalid, Conflict) as error:
                sending.refused()
                if await self._documents.now(document_id, change.kind) is not None:
                    if may_pass(error, change.attempts):
                        raise
                    raise Refused(str(error), take_back=True) from error
            sending.answered()
            self._documents.calls.forget_document(document_id)
            self._documents.own.removed(document_id)
            self._results.freed(known)
            if change.is_removed:
                self._results.dismiss(change)
            else:
                self._results.vanished(change)  # the document is wanted again
        if known is not None and self._view.names.encodes:
            self._results.left(known.node)  # another document may show under its name now

    def _version(self, document_id: DocumentId) -> Version | None:
        known = self._store.known(document_id)
        return known.node.version if known is not None else None

    async def _may_remove_folder(self, change: Change) -> bool:
        """Whether everything that Procore has below was removed here as well. Raises Blocked for what is to be moved
        out."""
        document_id = change.document
        assert document_id is not None
        order = self._documents.own.order
        with order.reading() as request:
            request.sent()
            try:
                below = await self._documents.client.below(document_id, priority=Priority.WRITING)
            except NotFound:
                if await self._documents.now(document_id, change.kind) is not None:
                    raise  # it is the list that is not there
                below = []
            if not self._is_wanted(change, document_id):
                return False
            unseen = [document for document in below if not await self._is_removed(document)]
            if not all(order.admit(document.id, request) for document in unseen):
                raise Superseded  # a call of ours has moved one of them out since: list it again
        if not self._is_wanted(change, document_id):
            return False
        if unseen:
            await self._documents.polled_since(trio.current_time())  # so that it shows, with what is below
            if not self._is_wanted(change, document_id):
                return False
            self._wait_for_makers(unseen)
            self._results.doubt(change.inode)
            raise Refused(_sentence(unseen), take_back=True) from NotEmpty()
        return self._is_wanted(change, document_id)

    def _wait_for_makers(self, unseen: list[Document]) -> None:
        """Raises Blocked if an open call of ours may have made one of them: its own change removes it then."""
        for document in unseen:
            known = self._store.known(document.id)
            maker = self._documents.calls.maker_of(known.node) if known is not None else None
            if maker is not None:
                raise Blocked(Wait(maker, "a call that got no answer may have made what is in it"))

    async def _is_removed(self, document: Document) -> bool:
        """Whether the document was removed here, in this version or one that a late call of ours made. Raises
        Blocked if it was moved here, or if the delete guard holds it."""
        known = self._store.known(document.id)
        change = self._view.change(known.node.inode) if known is not None else None
        if change is None:
            return False
        if change.is_placed:
            raise Blocked(Wait(change.inode, "something is still to be moved out of it"))
        if not change.is_removed:
            return False
        self._guard.look(change.inode, change)  # a removal of a moment ago counts, too
        if change.state is ChangeState.GUARDED:
            raise Blocked(Wait(change.inode, "the delete guard holds what was removed in it"))
        pending_copy = self._view.pending_copy_of(document.id)
        if pending_copy is not None:
            raise Blocked(Wait(pending_copy, "its bytes are on their way to another name"))
        if self._documents.calls.given_up(change.inode, document.id):
            self._documents.own.unchanged_bytes(document, "change", is_answer=False)
        return document.version is None or await self._is_ours(change, document.version)


def _sentence(unseen: list[Document]) -> str:
    named = ", ".join(repr(document.name) for document in unseen[:MOST_NAMED])
    more = f" and {len(unseen) - MOST_NAMED} more" if len(unseen) > MOST_NAMED else ""
    return (
        f"it was not deleted: it contains what is newer or was never seen here: {named}{more}; "
        "look at that and delete it again"
    )
