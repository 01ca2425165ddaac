"""Finds out why a call was refused: a taken name, a missing folder or the metadata.

Procore may treat as equal two names that differ here: composed and decomposed letters, other case, other white
space. A document that was only seen under another name is not overwritten by one with a similar name.
"""

import enum
import unicodedata
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch
from procorefs.journal.metadata_patch import fields_only
from procorefs.limiter import Priority
from procorefs.procore.errors import Forbidden, NameTaken, NotFound, ProcoreError
from procorefs.procore.wire.models import Document, DocumentId, Kind
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
from procorefs.upload.planning.plan import Wait, kind_refusal, leave_wait, takeover_wait
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.vfs.view import View


class Likeness(enum.IntEnum):
    """How similar two names are."""

    SAME = 0
    COMPOSED = 1
    """They differ only in composed or decomposed letters."""
    SIMILAR = 2
    """They differ only in case, width and white space."""


@dataclass(frozen=True, slots=True)
class NameConflict:
    """A document with the same or a similar name."""

    document: Document
    likeness: Likeness


class NameConflicts:
    """Looks up which document has a name that Procore refused as taken. Each look-up costs a call."""

    def __init__(self, store: TreeStore, view: View, documents: DocumentCalls) -> None:
        self._store = store
        self._view = view
        self._documents = documents

    async def find(self, folder: DocumentId | None, name: str, kind: Kind) -> NameConflict | None:
        """The most similar document in that folder that is not deleted; of the same kind if there are two."""
        listing = await self._documents.client.folder(folder, priority=Priority.WRITING)
        found = [
            NameConflict(document, likeness)
            for document in listing.children
            if not document.deleted and (likeness := likeness_of(document.name, name)) is not None
        ]
        found.sort(key=lambda conflict: (conflict.likeness, conflict.document.kind is not kind))
        return found[0] if found else None

    def check_joinable(
        self, change: Change, target: Location, conflict: NameConflict, error: ProcoreError
    ) -> None:
        """Whether ours may become a version of it, or the same folder.

        Raises Blocked while it is to leave the name, and Refused if it is of another kind.
        """
        document = conflict.document
        self.check_leaving(change, target, conflict)
        if document.kind is not change.kind:
            raise Refused(kind_refusal(document.kind)) from error
        known = self._store.known(document.id)
        is_new_here = known is None or not self._shows_elsewhere(known, target)
        if conflict.likeness is Likeness.SAME:
            return
        if conflict.likeness is Likeness.COMPOSED and is_new_here:
            return
        raise Refused(
            f"Procore treats {target.name!r} and {document.name!r} as the same name: rename one of the two"
        ) from error

    def has_left(self, conflict: NameConflict, target: Location) -> bool:
        """Whether the tree knows by now that the document has another name."""
        known = self._store.known(conflict.document.id)
        if known is None:
            return False
        is_elsewhere = known.node.parent != target.folder or not known.node.in_tree
        return is_elsewhere or likeness_of(known.name, target.name) is None

    def check_leaving(self, change: Change, target: Location, conflict: NameConflict) -> None:
        """Raise Blocked if the document is about to leave the name for another one than the change's, or if an open
        call about something else may have made it."""
        known, calls = self._store.known(conflict.document.id), self._documents.calls
        theirs = self._view.change(known.node.inode) if known is not None else None
        if theirs is None:
            kind = conflict.document.kind
            maker = calls.maker_of(known.node) if known is not None else calls.maker_at(target, kind)
            if maker is not None and maker != change.inode:
                raise Blocked(Wait(maker, "a call about its name is in progress"))
        elif theirs is not change and not theirs.is_following:
            raise Blocked(leave_wait(theirs.inode))

    def _shows_elsewhere(self, known: Known, target: Location) -> bool:
        """Whether programs see the document as another entry than the wanted one."""
        place = self._view.parent(known.node.inode)
        return place is not None and place != (target.folder, target.shown)


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
        conflict = await self.conflicts.find(folder, target.name, change.kind)
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


def likeness_of(one: str, other: str) -> Likeness | None:
    """How similar two names are; None if they are different."""
    if one == other:
        return Likeness.SAME
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return Likeness.COMPOSED
    return Likeness.SIMILAR if _folded(one) == _folded(other) else None


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
