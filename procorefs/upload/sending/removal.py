"""Removing documents from Procore: never more than whoever removed them here has seen.

Deleting a folder bins all below it, and nobody can take that back by the API. So everything below is listed first; what
was not removed here too, or has a newer version, keeps the folder, which shows again and says why.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from procorefs.journal.change import GONE, Change
from procorefs.journal.in_flight_calls import Call, InFlightCalls
from procorefs.limiter import Priority
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.errors import CheckedOut, Conflict, Forbidden, Invalid, NotFound
from procorefs.procore.wire.models import Document, DocumentId, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import same_bytes
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.upload.outcomes import Blocked, Refused, Superseded, may_pass
from procorefs.upload.poll_now import PolledSince
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.refusals import NotEmpty
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

MOST_NAMED = 3

LOOK_HOLDS_S = 10.0
"""A look tells of removals that are decided so soon after it began."""

SENT_WITHIN_S = 120.0
"""What waited longer for its turn to be sent is looked at once more: a colleague may have changed it since."""


class DocumentRemover:
    """Carries out removals; raises Blocked, Refused and ProcoreError."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        client: Client,
        changes: ProjectChanges,
        settling: ResultApplier,
        calls: InFlightCalls,
        polled_since: PolledSince,
        verifier: VersionMatcher,
        is_on_disk: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._client = client
        self._changes = changes
        self._settling = settling
        self._calls = calls
        self._polled_since = polled_since
        self._verifier = verifier
        self._is_on_disk = is_on_disk

    def check(self, change: Change, known: Known | None) -> None:
        """Raises Blocked when it goes with its folder, or something must be done before."""
        if known is None:
            return
        other = self._calls.in_the_way(change.inode, change.document, None)
        if other is not None:
            raise Blocked(other, "a call about it is in progress")
        if change.is_folder:
            self._check_nothing_under_way(known)
        above = self._removed_above(known)
        # Its folder waits until it is known what became of its own calls.
        if above is not None and not self._calls.unconfirmed(change.inode, change.document):
            raise Blocked(above, "it goes with its folder")
        self._check_lends_nothing(change)

    def _check_nothing_under_way(self, known: Known) -> None:
        """Raises Blocked while a call about something below, or into the folder, is open."""
        for call in self._calls.open_calls():
            if not call.is_late and call.inode != known.node.inode and self._is_about(call, known.node.inode):
                raise Blocked(call.inode, "a call about something in it is in progress")

    def _is_about(self, call: Call, folder: Inode) -> bool:
        there = self._store.known(call.document) if call.document is not None else None
        into = call.place.folder if call.place is not None else None
        return into == folder or any(
            above == folder
            for inode in (into, there.node.inode if there is not None else None)
            if inode is not None
            for above, _ in self._store.place(inode) or ()
        )

    def _check_lends_nothing(self, change: Change) -> None:
        borrower = self._view.borrower(change.document) if change.document is not None else None
        if borrower is not None:
            raise Blocked(borrower, "its bytes are on their way to another name")

    def _removed_above(self, known: Known) -> Inode | None:
        """The nearest folder above that is to be removed as well."""
        at = known.node.parent
        for _ in range(DEEPEST):
            if at is None:
                return None
            change = self._view.change(at)
            if change is not None and change.place is GONE and change.document is not None:
                return at
            node = self._store.by_inode(at)
            at = node.parent if node is not None else None
        return None

    async def remove(self, change: Change, known: Known | None) -> None:
        """Delete the change's document, if Procore still has what was seen here."""
        if known is None or change.document is None:
            self._settling.dismiss(change)
            return
        self.check(change, known)
        await self._keep_fetched([change.document])
        if change.is_folder:
            if not await self._may_remove_folder(change):
                return
        elif not await self._may_remove_file(change):
            return
        self.check(change, known)  # its folder may be going by now, or something new have begun
        await self._delete(change)

    async def _keep_fetched(self, documents: Iterable[DocumentId]) -> None:
        """Before documents go: a power cut may not take what was fetched from them a moment ago."""
        if any(map(self._view.lends, documents)):
            await self._is_on_disk()

    async def _may_remove_file(self, change: Change) -> bool:
        """Whether Procore's newest version is the one that was removed here; one look tells it of many files.

        No look that was on its way together with a call of ours about the document speaks for it.
        """
        document_id = change.document
        assert document_id is not None
        own_age_s = self._own.age_s(
            document_id
        )  # both before trio's time is read: rather too late than too early
        age_s = min(clocks.age_s(change.touched_at_s), own_age_s, LOOK_HOLDS_S)
        if await self._polled_since(trio.current_time() - age_s):
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
        """Whether it is what was removed here, or what a call of ours has made of it whose answer was lost."""
        if version is None or same_bytes(version, change.seen):
            return same_bytes(version, change.seen)
        used = [change.upload, *(call.upload for call in self._calls.of(change.inode, change.document))]
        for upload in {upload.uuid: upload for upload in used if upload is not None}.values():
            if await self._verifier.has_made(upload, version):
                return True
        return False

    async def _newest_version(self, change: Change, document_id: DocumentId) -> Version | None:
        """As Procore has it now; the tree has it so, too."""
        with self._own.order.reading() as request:
            try:
                document = await self._client.file(
                    document_id, priority=Priority.WRITING, on_sent=request.sent
                )
            except NotFound:
                return change.seen  # the DELETE will hear the same
            known = self._store.known(document_id)
            if (
                known is not None
                and known.node.in_tree
                and not same_bytes(document.version, known.node.version)
                and self._own.order.admit(document_id, request)
            ):
                self._own.put(document, known.node.inode, known.node.parent or ROOT, None)
            return document.version

    def _is_wanted(self, change: Change, document_id: DocumentId) -> bool:
        """Whether it is still to go: its name may have been written anew meanwhile."""
        return self._settling.is_current(change) and change.place is GONE and change.document == document_id

    async def _delete(self, change: Change) -> None:
        document_id, decided_s = change.document, trio.current_time()
        assert document_id is not None
        version = self._version(document_id)
        known = self._store.known(document_id)
        with (
            self._own.call(document_id) as request,
            self._calls.sending(change.inode, change.kind, document_id, removes=True) as sending,
        ):

            def leaves() -> None:
                """What was decided may be wrong by the time the call has its turn."""
                is_old = trio.current_time() - decided_s > SENT_WITHIN_S
                if is_old or not same_bytes(self._version(document_id), version):
                    sending.refused()
                    raise Superseded
                request.sent()

            try:
                if change.is_folder:
                    await self._changes.delete_folder(document_id, on_sent=leaves)
                else:
                    await self._changes.delete_file(document_id, on_sent=leaves)
            except CheckedOut:
                raise
            except (NotFound, Forbidden, Invalid, Conflict) as error:
                sending.refused()
                if await self._is_there(change):
                    if may_pass(error, change.attempts):
                        raise
                    raise Refused(str(error), take_back=True) from error
            sending.answered()
            self._calls.forget_document(document_id)
            self._own.removed(document_id)
            self._settling.freed(known)
            if change.place is GONE:
                self._settling.dismiss(change)
            else:
                self._settling.vanished(change)  # somebody made it anew meanwhile
        if known is not None and self._view.names.encodes:
            self._settling.left(known.node)  # another may show under its name now

    def _version(self, document_id: DocumentId) -> Version | None:
        known = self._store.known(document_id)
        return known.node.version if known is not None else None

    async def _is_there(self, change: Change) -> bool:
        """Whether what could not be deleted is not in the bin already: by a call whose answer was lost, perhaps."""
        assert change.document is not None
        try:
            if change.is_folder:
                listing = await self._client.folder(change.document, priority=Priority.WRITING)
                return not listing.folder.deleted
            return not (await self._client.file(change.document, priority=Priority.WRITING)).deleted
        except NotFound:
            return False

    async def _may_remove_folder(self, change: Change) -> bool:
        """Whether all that Procore has below was removed here as well. Raises Blocked for what is on its way out."""
        document_id = change.document
        assert document_id is not None
        try:
            below = await self._client.below(document_id, priority=Priority.WRITING)
        except NotFound:
            below = []
        if not self._is_wanted(change, document_id):
            return False
        unseen = [document for document in below if not await self._is_removed(document)]
        if not self._is_wanted(change, document_id):
            return False
        if unseen:
            await self._polled_since(trio.current_time())  # so that it shows, and counts for what lies below
            if not self._is_wanted(change, document_id):
                return False
            self._settling.doubt(change.inode)
            raise Refused(_sentence(unseen), take_back=True) from NotEmpty()
        await self._keep_fetched(document.id for document in below)
        return self._is_wanted(change, document_id)

    async def _is_removed(self, document: Document) -> bool:
        """Whether it was removed here, in this version or one that a late call of ours has made of it since.

        Raises Blocked when it was moved elsewhere here.
        """
        known = self._store.known(document.id)
        change = self._view.change(known.node.inode) if known is not None else None
        if change is None:
            return False
        if change.is_placed:
            raise Blocked(change.inode, "something is still to be moved out of it")
        if change.place is not GONE:
            return False
        self._check_lends_nothing(change)
        return document.version is None or await self._is_ours(change, document.version)


def _sentence(unseen: list[Document]) -> str:
    named = ", ".join(repr(document.name) for document in unseen[:MOST_NAMED])
    more = f" and {len(unseen) - MOST_NAMED} more" if len(unseen) > MOST_NAMED else ""
    return (
        f"it was not deleted: it contains what is newer or was never seen here: {named}{more}; "
        "look at that and delete it again"
    )
