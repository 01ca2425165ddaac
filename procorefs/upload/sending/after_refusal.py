"""Finds out what a refused call means: who has the name, is the folder still there, is the metadata to blame.

Procore may take two names for one that are two here: composed and decomposed letters, other case, other white space.
A document that was only ever seen under another name is not overwritten by one that happens to be called alike.
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
from procorefs.upload.planning.plan import kind_refusal, takeover_wait
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.documents import DocumentCalls
from procorefs.vfs.view import View


class Likeness(enum.IntEnum):
    """How much two names are the same."""

    SAME = 0
    COMPOSED = 1
    """The same letters, written as one or as two characters each: the same name for every reader."""
    SIMILAR = 2
    """But for case, width and white space."""


@dataclass(frozen=True, slots=True)
class NameConflict:
    """A document that has the name, more or less."""

    document: Document
    likeness: Likeness


class NameConflicts:
    """Looks up which document has a name that Procore refused as taken, a call each time."""

    def __init__(self, store: TreeStore, view: View, documents: DocumentCalls) -> None:
        self._store = store
        self._view = view
        self._documents = documents

    async def find(self, folder: DocumentId | None, name: str, kind: Kind) -> NameConflict | None:
        """The living document of that folder that is most likely meant; of the same kind if there are two."""
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
        """Whether ours may become a version of it, or the same folder. Raises Blocked while it is to leave the name.

        Raises Refused when it is something else.
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
        """Whether the tree knows by now that the document is not called so any more."""
        known = self._store.known(conflict.document.id)
        if known is None:
            return False
        is_elsewhere = known.node.parent != target.folder or not known.node.in_tree
        return is_elsewhere or likeness_of(known.name, target.name) is None

    def check_leaving(self, change: Change, target: Location, conflict: NameConflict) -> None:
        """Raises Blocked when it is one that is about to leave the name, and not for that of the change.

        Also when an open call about something else may have made it.
        """
        known, calls = self._store.known(conflict.document.id), self._documents.calls
        theirs = self._view.change(known.node.inode) if known is not None else None
        if theirs is None:
            kind = conflict.document.kind
            maker = calls.maker_of(known.node) if known is not None else calls.maker_at(target, kind)
            if maker is not None and maker != change.inode:
                raise Blocked(maker, "a call about its name is in progress")
        elif theirs is not change and not theirs.is_following:
            raise Blocked(theirs.inode, "another document still has the name in Procore")

    def _shows_elsewhere(self, known: Known, target: Location) -> bool:
        """Whether programs see the document under another entry than the one that is wanted."""
        place = self._view.parent(known.node.inode)
        return place is not None and place != (target.folder, target.shown)


class AfterRefusal:
    """Raises what follows from a refused call: Blocked, Refused, Superseded, or the error itself."""

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
        """Their metadata goes in a call of its own: one that carried more was refused, and it may be the reason."""

    # Metadata

    def taken_along(self, change: Change, *, is_alone: bool) -> MetadataPatch:
        """The metadata that the next call carries; `is_alone`: it carries nothing else."""
        if is_alone:
            self._apart.discard(change.inode)
        return MetadataPatch() if change.inode in self._apart else fields_only(change.patch)

    def of_metadata(
        self, change: Change, error: ProcoreError, metadata: MetadataPatch, *, is_alone: bool
    ) -> Exception:
        """What follows from a refused call; with metadata and more in it, that is tried without the metadata first."""
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
        """After a refused rename or move. `named`: the new folder, as the call had it."""
        if target is None:
            raise error
        if isinstance(error, NameTaken):
            await self._check_name_taken(change, target, error)
        if target.folder != known.node.parent and not isinstance(error, NameTaken | Forbidden):
            try:
                await self.check_folder(target.folder, named, error)
            except Blocked:
                if self._view.change(target.folder) is not None:
                    raise  # it is made again
        if may_pass(error, change.attempts):
            raise error
        raise Refused(str(error), take_back=True) from error

    async def _check_name_taken(self, change: Change, target: Location, error: ProcoreError) -> None:
        """Raises Blocked when another document is to leave the name, the error when it has."""
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
        """A refusal may be about the folder: raises Blocked when it is gone; it is made again first.

        Raises Superseded when it was made again since the call named its document.
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
                raise Blocked(folder, "its folder was removed in Procore and is created again") from error

    def take(self, change: Change, target: Location, conflict: NameConflict, error: ProcoreError) -> None:
        """Have the change take over the document that has its name. Raises Blocked, Refused, Superseded."""
        if not self._results.is_current(change) or change.location != target:
            raise Superseded  # it is not wanted there any more: the other document keeps the name
        self.conflicts.check_joinable(change, target, conflict, error)
        known = self._store.known(conflict.document.id)
        if known is None or known.node.inode == change.inode:
            return
        occupant = self._situations.occupant(change, known.node)
        wait = takeover_wait(occupant)
        if wait is not None:
            raise Blocked(wait.by, wait.why)
        self._results.let_go(occupant.inode)


def likeness_of(one: str, other: str) -> Likeness | None:
    """How much two names are the same; None: they are different."""
    if one == other:
        return Likeness.SAME
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return Likeness.COMPOSED
    return Likeness.SIMILAR if _folded(one) == _folded(other) else None


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
