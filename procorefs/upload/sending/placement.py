"""Ways of a document to where it is wanted: what Procore has, what lies in between, and what a refusal means."""

import logging
from dataclasses import dataclass
from typing import NoReturn

import msgspec

from procorefs.journal.change import FOLLOW, Change, Location, MetadataPatch
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.metadata_patch import fields_only
from procorefs.limiter import Priority
from procorefs.procore.api.changes import FieldValue, ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.errors import (
    Forbidden,
    NameTaken,
    NotFound,
    ProcoreError,
)
from procorefs.procore.wire.models import Document, DocumentId
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import TRIES_FOR_NAME, Blocked, Refused, Superseded, may_pass, refused_metadata
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.byte_upload import Uploader
from procorefs.upload.sending.name_conflicts import NameConflicts
from procorefs.upload.sending.removal import DocumentRemover
from procorefs.upload.sending.unanswered import UnansweredCalls
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SendingContext:
    """What carrying out needs of the others."""

    store: TreeStore
    own: OwnChanges
    view: View
    drafts: DirtyFiles
    edits: LocalEdits
    durability: Durability
    client: Client
    changes: ProjectChanges


class Placement:
    """What the calls for folders and files share."""

    def __init__(
        self,
        rooms: SendingContext,
        uploader: Uploader,
        settling: ResultApplier,
        verifier: VersionMatcher,
        remover: DocumentRemover,
        confirmer: UnansweredCalls,
        calls: InFlightCalls,
    ) -> None:
        self._store = rooms.store
        self._own = rooms.own
        self._view = rooms.view
        self._drafts = rooms.drafts
        self._edits = rooms.edits
        self._durability = rooms.durability
        self._client = rooms.client
        self._changes = rooms.changes
        self._uploader = uploader
        self._settling = settling
        self._verifier = verifier
        self._remover = remover
        self._confirmer = confirmer
        self._calls = calls
        self._namesakes = NameConflicts(rooms.store, rooms.view, rooms.client)
        self._apart: set[Inode] = set()
        """Whose metadata goes in a call of its own: one that carried more was refused, and it may be the reason."""

    def _known(self, change: Change) -> Known | None:
        """What Procore has of the change's document; None: nothing (any more)."""
        if change.document is None:
            return None
        known = self._store.known(change.document)
        return known if known is not None and self._store.reachable(known.node.inode) else None

    def _target(self, change: Change, known: Known | None) -> Location | None:
        """Where the document must be moved or made; None: it is where it is wanted."""
        if not isinstance(change.place, Location):
            return None
        if known is not None and change.place.has(known):
            return None
        return change.place

    def _check_way(self, change: Change, target: Location | None) -> None:
        """Raises Blocked when a call about the document is under way, or `target` is not free for it yet."""
        other = self._calls.in_the_way(change.inode, change.document, target)
        if other is not None:
            raise Blocked(other, "another call about it is in progress")
        if target is not None:
            self._check_target(change, target)
            self._check_not_into_itself(change, target)

    def _check_target(self, change: Change, target: Location) -> None:
        """Raises Blocked when the folder has no document yet, or the name is still somebody else's who leaves it."""
        folder = self._view.change(target.folder)
        if folder is not None and folder.document is None:
            raise Blocked(target.folder, "its folder is not in Procore yet")
        occupant = self._occupant(change, target)
        theirs = self._view.change(occupant.inode) if occupant is not None else None
        if theirs is not None and theirs.place is not FOLLOW:
            raise Blocked(theirs.inode, "another document still has the name in Procore")

    def _check_not_into_itself(self, change: Change, target: Location) -> None:
        """Raises Blocked while Procore has the new folder inside of the one that is moved: it leaves that first."""
        if not change.is_folder:
            return
        leaving: Inode | None = None
        at = target.folder
        for above, _ in self._store.place(target.folder) or ():
            theirs = self._view.change(at)
            if leaving is None and theirs is not None and theirs.is_placed:
                leaving = at
            if above == change.inode:
                if leaving is None:
                    raise Refused("its new folder lies inside of it in Procore: move that out of it first")
                raise Blocked(leaving, "its new folder is moved out of it first")
            at = above

    def _occupant(self, change: Change, target: Location) -> Node | None:
        """Who else has the name in Procore."""
        node = self._store.child(target.folder, target.shown)
        return node if node is not None and node.inode != change.inode else None

    def _folder_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, to make something in it; None: the root, which is not named."""
        return None if folder == ROOT else self._parent_id(folder)

    def _parent_id(self, folder: Inode) -> DocumentId | None:
        """A folder's document, to move something to it; None: the root, whose id need not be known."""
        node = self._store.by_inode(folder)
        if node is None or (node.document_id is None and folder != ROOT):
            raise Blocked(folder, "its folder is not in Procore yet")
        return node.document_id

    def _moved(
        self, known: Known, target: Location | None
    ) -> tuple[DocumentId | msgspec.UnsetType | None, str | msgspec.UnsetType]:
        """(folder's document, name) as a PATCH names them: what stays as it is need not be said."""
        if target is None:
            return msgspec.UNSET, msgspec.UNSET
        is_elsewhere, is_renamed = known.node.parent != target.folder, known.name != target.name
        return (
            self._parent_id(target.folder) if is_elsewhere else msgspec.UNSET,
            target.name if is_renamed else msgspec.UNSET,
        )

    async def _check_name_taken(self, change: Change, target: Location, error: ProcoreError) -> None:
        """After a refused rename: raises Blocked when another document is to leave the name, the error when it has."""
        if isinstance(error, NameTaken):
            namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
            is_free = namesake is None or self._namesakes.has_left(namesake, target)
            if is_free and change.attempts < TRIES_FOR_NAME:
                raise error
            if namesake is not None:
                self._namesakes.check_leaving(change, namesake)

    async def _refused_move(
        self,
        change: Change,
        known: Known,
        target: Location | None,
        named: DocumentId | msgspec.UnsetType | None,
        error: ProcoreError,
    ) -> NoReturn:
        """Raises what follows from a refused rename or move. `named`: the new folder, as the call had it."""
        if target is None:
            raise error
        await self._check_name_taken(change, target, error)
        if target.folder != known.node.parent and not isinstance(error, NameTaken | Forbidden):
            try:
                await self._look_at_folder(target.folder, named, error)
            except Blocked:
                if self._view.change(target.folder) is not None:
                    raise  # it is made anew
        if may_pass(error, change.attempts):
            raise error
        raise Refused(str(error), take_back=True) from error

    async def _look(self, known: Known) -> Document | None:
        """The document as it is now; None: it is really gone, and not something else that a call named."""
        document_id = known.node.document_id
        assert document_id is not None
        try:
            if known.node.is_folder:
                document = (await self._client.folder(document_id, priority=Priority.WRITING)).folder
            else:
                document = await self._client.file(document_id, priority=Priority.WRITING)
        except NotFound:
            return None
        return None if document.deleted else document

    async def _look_at_folder(
        self, folder: Inode, named: DocumentId | msgspec.UnsetType | None, error: ProcoreError
    ) -> None:
        """After a refusal that may be about the folder: is it still there? If not, it is made anew first.

        Raises Superseded when it was made anew since the call named its document.
        """
        node = self._store.by_inode(folder)
        if node is None or node.document_id is None:
            return
        if folder != ROOT and node.document_id != named:
            raise Superseded
        with self._own.order.reading() as request:
            try:
                listing = await self._client.folder(
                    node.document_id, priority=Priority.WRITING, on_sent=request.sent
                )
                is_gone = listing.folder.deleted
            except NotFound:
                is_gone = True
            if is_gone and self._own.order.admit(node.document_id, request):
                self._settling.removed_in_procore(node)
                raise Blocked(folder, "its folder was removed in Procore and is created again") from error

    def _join_colleague(self, change: Change, target: Location) -> bool:
        """Somebody else has made a document of that name meanwhile: ours becomes its next version."""
        occupant = self._occupant(change, target)
        if occupant is None or occupant.document_id is None:
            return False
        if occupant.kind is not change.kind:
            what = "folder" if occupant.is_folder else "file"
            raise Refused(f"Procore has a {what} of that name: rename one of the two")
        self._make_takeable(change, occupant.document_id)
        log.info("%s was created by another user as well: ours joins it.", self._view.path(change.inode))
        self._settling.join(change, occupant.document_id)
        return True

    def _make_takeable(self, change: Change, document: DocumentId) -> None:
        """Have nothing wanted of a document that is another inode here. Raises Blocked while something is, also in it.

        So it is when a colleague gave a document the name under which ours was to be made.
        """
        known = self._store.known(document)
        if known is None or known.node.inode == change.inode:
            return
        inode = known.node.inode
        theirs = self._view.change(inode)
        if (
            (theirs is not None and not theirs.is_idle)
            or self._drafts.is_written(inode)
            or self._calls.has(inode, document)
        ):
            raise Blocked(inode, "what was written to the document that has its name goes first")
        inside = self._view.laid_in(inode)
        if inside:
            raise Blocked(inside[0], "what was put into the folder that has its name goes first")
        if theirs is not None:
            self._settling.dismiss(theirs)

    def _check_still_wanted(self, change: Change, target: Location) -> None:
        """Raises Superseded when it is not wanted there any more: whoever has the name keeps it."""
        if not self._settling.is_current(change) or change.place != target:
            raise Superseded

    def _now_in(self, document: Document, target: Location | None, known: Known) -> Inode:
        """The folder that an answer says a document is in: a colleague may have moved it meanwhile."""
        named = self._store.known(document.parent_id) if document.parent_id is not None else None
        if named is not None and named.node.is_folder and self._store.reachable(named.node.inode):
            return named.node.inode
        return target.folder if target is not None else known.node.parent or ROOT

    def _taken_along(self, change: Change, *, is_alone: bool) -> MetadataPatch:
        """The metadata that the next call carries; `is_alone`: it carries nothing else."""
        if is_alone:
            self._apart.discard(change.inode)
        return MetadataPatch() if change.inode in self._apart else fields_only(change.wishes)

    def _refusal(
        self, change: Change, error: ProcoreError, wishes: MetadataPatch, *, is_alone: bool
    ) -> Exception:
        """What follows from a refused call; with metadata and more in it, that is tried without the metadata first."""
        if not wishes:
            return error
        if is_alone:
            return refused_metadata(wishes, error)
        self._apart.add(change.inode)
        return Superseded()

    async def _tags(self, change: Change) -> None:
        wishes = MetadataPatch(tags=change.wishes.tags)
        with self._calls.sending(change.inode, change.kind, change.document, wishes=wishes) as sending:
            await self._settling.send_tags(change)
            sending.answered()


def given(fields: dict[int, FieldValue]) -> dict[int, FieldValue] | msgspec.UnsetType:
    return fields or msgspec.UNSET


def goes_out_of_sight(change: Change) -> bool:
    """Whether tags are to be sent first: a document that was made private may be hidden from who did it."""
    return change.wishes.private is True and change.wishes.tags is not msgspec.UNSET
