"""Finds out why a call was refused: a taken name, a missing folder or the metadata.

Procore may treat as equal two names that differ here: composed and decomposed letters, other case, other white
space. A document that was only seen under another name is not overwritten by one with a similar name.
"""

from typing import NoReturn

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.journal.metadata_patch import fields_only
from procorefs.limiter import Priority
from procorefs.procore.errors import Forbidden, NameTaken, NotFound, ProcoreError
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.nodes import ROOT, Inode
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import (
    TRIES_FOR_NAME,
    Blocked,
    Refused,
    Superseded,
    may_pass,
    refused_metadata,
)
from procorefs.upload.planning.plan import Wait, takeover_wait
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.upload.sending.name_conflicts import NameConflict, NameConflicts
from procorefs.vfs.view import View


class AfterRefusal:
    """Raises the consequence of a refused call: Blocked, Refused, Superseded, or the error itself."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        documents: DocumentCalls,
        situations: Situations,
        conflicts: NameConflicts,
        results: ResultApplier,
    ) -> None:
        self._store = store
        self._view = view
        self._documents = documents
        self._situations = situations
        self.conflicts = conflicts
        self._results = results
        self._apart: set[Inode] = set()
        """The inodes whose metadata is sent in a separate call, because it may be the reason why a call was refused."""

    # Metadata

    def taken_along(self, change: Change, *, is_alone: bool) -> MetadataPatch:
        """The metadata for the next call. `is_alone`: the call carries nothing else."""
        if is_alone:
            self._apart.discard(change.inode)
        return MetadataPatch() if change.inode in self._apart else fields_only(change.patch)

    def of_metadata(
        self, change: Change, error: ProcoreError, metadata: MetadataPatch, *, is_alone: bool
    ) -> Exception:
        """Raise the consequence of a refused call. A call with metadata and more is first tried without the
        metadata."""
        if not metadata:
            return error
        if is_alone:
            return refused_metadata(metadata, error)
        self._apart.add(change.inode)
        return Superseded()

    # Names and folders

    async def of_move(
        self,
        change: Change,
        known: Known,
        target: Location | None,
        named: DocumentId | msgspec.UnsetType | None,
        error: ProcoreError,
    ) -> NoReturn:
        """Raise the consequence of a refused rename or move. `named`: the new folder's document in the call."""
        if target is None:
            raise error
        if isinstance(error, NameTaken):
            await self._check_name_taken(change, target, error)
        if target.folder != known.node.parent and not isinstance(error, NameTaken | Forbidden):
            try:
                await self.check_folder(target.folder, named, error)
            except Blocked:
                if self._view.change(target.folder) is not None:
                    raise  # it will be created again
        if may_pass(error, change.attempts):
            raise error
        raise Refused(str(error), take_back=True) from error

    async def _check_name_taken(self, change: Change, target: Location, error: ProcoreError) -> None:
        """Raise Blocked if another document is to leave the name, and the error if it has left it."""
        folder = self._documents.folder_id(target.folder)
        conflict = await self.conflicts.find(folder, target, change.kind)
        is_free = conflict is None or self.conflicts.has_left(conflict, target)
        if is_free and change.attempts < TRIES_FOR_NAME:
            raise error
        if conflict is not None:
            self.conflicts.check_leaving(change, target, conflict)

    async def check_folder(
        self, folder: Inode, named: DocumentId | msgspec.UnsetType | None, error: ProcoreError
    ) -> None:
        """Raise Blocked if the folder is gone, because it is created again first.

        Raises Superseded if it was created again after the call had named its old document.
        """
        node = self._store.by_inode(folder)
        if node is None or node.document_id is None:
            return
        if folder != ROOT and node.document_id != named:
            raise Superseded
        order = self._documents.own.order
        with order.reading() as request:
            try:
                listing = await self._documents.client.folder(
                    node.document_id, priority=Priority.WRITING, on_sent=request.sent
                )
                is_gone = listing.folder.deleted
            except NotFound:
                is_gone = True
            if is_gone and order.admit(node.document_id, request):
                self._results.removed_in_procore(node)
                why = "its folder was removed in Procore and is created again"
                raise Blocked(Wait(folder, why)) from error

    def take(self, change: Change, target: Location, conflict: NameConflict, error: ProcoreError) -> None:
        """Let the change take over the document that has its name. Raises Blocked, Refused, Superseded."""
        if not self._results.is_current(change) or change.location != target:
            raise Superseded  # the name is no longer wanted: the other document keeps it
        self.conflicts.check_joinable(change, target, conflict, error)
        known = self._store.known(conflict.document.id)
        if known is None or known.node.inode == change.inode:
            return
        occupant = self._situations.occupant(change, known.node)
        wait = takeover_wait(occupant)
        if wait is not None:
            raise Blocked(wait)
        self._results.let_go(occupant.inode)
