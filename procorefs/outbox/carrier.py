"""Carries out one change: compares what is wanted with what Procore has, and makes the calls for the difference.

    change ─▶ gone? ─▶ DELETE            ─▶ answer ─▶ the tree, under the change's inode ─▶ nothing left to want?
           ─▶ folder? ─▶ POST or PATCH
           ─▶ file: bytes to the storage ─▶ POST or PATCH, place and fields along with it

Programs go on changing the same change meanwhile: after every await it is looked at again, an answer settles only what
was sent, and what differs still is sent next. A call whose answer was lost is looked into before anything is repeated.
"""

import logging
from dataclasses import dataclass
from typing import NoReturn

import msgspec
import trio

from procorefs.content.staging import StagedFile
from procorefs.limiter import Priority
from procorefs.outbox.change import FOLLOW, GONE, Change, Place, Upload, Wishes
from procorefs.outbox.drafts import Drafts
from procorefs.outbox.edits import Edits
from procorefs.outbox.flights import Flights
from procorefs.outbox.keeper import is_trace
from procorefs.outbox.namesakes import Likeness, Namesakes, is_no_older
from procorefs.outbox.removing import Remover
from procorefs.outbox.settling import Settling
from procorefs.outbox.strays import Strays
from procorefs.outbox.uploading import Uploader
from procorefs.outbox.verdicts import Blocked, Refused, Superseded
from procorefs.outbox.verifying import Verifier
from procorefs.outbox.view import View
from procorefs.outbox.wishing import fields_only
from procorefs.procore.changes import FieldValue, FileChange, FolderChange, ProjectChanges
from procorefs.procore.client import Client
from procorefs.procore.errors import (
    CheckedOut,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NameTaken,
    NotFound,
    ProcoreError,
    UploadRefused,
)
from procorefs.procore.models import Document, DocumentId
from procorefs.tree.names import marked
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.own import OwnChanges
from procorefs.tree.rows import Known
from procorefs.tree.store import TreeStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rooms:
    """What carrying out needs of the others."""

    store: TreeStore
    own: OwnChanges
    view: View
    drafts: Drafts
    edits: Edits
    client: Client
    changes: ProjectChanges


class Carrier:
    """One change at a time and call; `carry_out` may run for several inodes at once."""

    def __init__(
        self,
        rooms: Rooms,
        uploader: Uploader,
        settling: Settling,
        verifier: Verifier,
        remover: Remover,
        flights: Flights,
        strays: Strays,
    ) -> None:
        self._store = rooms.store
        self._own = rooms.own
        self._view = rooms.view
        self._drafts = rooms.drafts
        self._edits = rooms.edits
        self._client = rooms.client
        self._changes = rooms.changes
        self._uploader = uploader
        self._settling = settling
        self._verifier = verifier
        self._remover = remover
        self._flights = flights
        self._namesakes = Namesakes(rooms.store, rooms.view, rooms.client)
        self._strays = strays
        self._apart: set[Inode] = set()
        """Whose metadata goes in a call of its own: one that carried more was refused, and it may be the reason."""

    async def carry_out(self, inode: Inode) -> None:
        """Take the change a call further. Raises Blocked, Refused, Superseded, ProcoreError, the staging's errors."""
        change = self._view.change(inode)
        if change is None:
            return
        known = self._known(change)
        if is_trace(change):
            await self._strays.find(change)
        elif change.place is GONE:
            await self._remover.remove(change, known)
        elif change.is_folder:
            await self._folder(change, known)
        else:
            await self._file(change, known)

    def blocker(self, inode: Inode) -> Inode | None:
        """The inode whose change must be carried out first; None: this one may go."""
        change = self._view.change(inode)
        if change is None:
            return None
        try:
            if is_trace(change):
                self._strays.check(change)
            elif change.place is GONE:
                self._remover.check(change, self._known(change))
            else:
                self._check_way(change, self._target(change, self._known(change)))
        except Blocked as blocked:
            return blocked.by
        return None

    # What Procore has

    def _known(self, change: Change) -> Known | None:
        """What Procore has of the change's document; None: nothing (any more)."""
        if change.document is None:
            return None
        known = self._store.known(change.document)
        return known if known is not None and self._store.reachable(known.node.inode) else None

    def _target(self, change: Change, known: Known | None) -> Place | None:
        """Where the document must be moved or made; None: it is where it is wanted."""
        if not isinstance(change.place, Place):
            return None
        if known is not None and change.place.has(known):
            return None
        return change.place

    def _check_way(self, change: Change, target: Place | None) -> None:
        """Raises Blocked when a call about the document is under way, or `target` is not free for it yet."""
        other = self._flights.in_the_way(change.inode, change.document, target)
        if other is not None:
            raise Blocked(other, "another call about it is under way")
        if target is not None:
            self._check_target(change, target)

    def _check_target(self, change: Change, target: Place) -> None:
        """Raises Blocked when the folder has no document yet, or the name is still somebody else's who leaves it."""
        folder = self._view.change(target.folder)
        if folder is not None and folder.document is None:
            raise Blocked(target.folder, "its folder is not in Procore yet")
        occupant = self._occupant(change, target)
        theirs = self._view.change(occupant.inode) if occupant is not None else None
        if theirs is not None and theirs.place is not FOLLOW:
            raise Blocked(theirs.inode, "another document still has the name in Procore")

    def _occupant(self, change: Change, target: Place) -> Node | None:
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
        self, known: Known, target: Place | None
    ) -> tuple[DocumentId | msgspec.UnsetType | None, str | msgspec.UnsetType]:
        """(folder's document, name) as a PATCH names them: what stays as it is need not be said."""
        if target is None:
            return msgspec.UNSET, msgspec.UNSET
        is_elsewhere, is_renamed = known.node.parent != target.folder, known.name != target.name
        return (
            self._parent_id(target.folder) if is_elsewhere else msgspec.UNSET,
            target.name if is_renamed else msgspec.UNSET,
        )

    # Folders

    async def _folder(self, change: Change, known: Known | None) -> None:
        if change.document is not None and known is None:
            self._settling.vanished(change)
            return
        target = self._target(change, known)
        self._check_way(change, target)
        if target is not None and known is None and self._join_colleague(change, target):
            return
        if known is not None:
            self._settling.forgo(change, known)
        if known is not None and _goes_out_of_sight(change):
            await self._tags(change)
        if known is None and target is not None:
            await self._make_folder(change, target)
        elif known is not None and (target is not None or change.wishes.has_fields):
            await self._change_folder(change, known, target)
        elif change.wishes.tags is not msgspec.UNSET:
            await self._tags(change)
        else:
            self._settling.is_in_place(change)

    async def _make_folder(self, change: Change, target: Place) -> None:
        wishes = self._taken_along(change, is_alone=False)
        fields = FolderChange(
            tracked=wishes.tracked, private=wishes.private, custom_fields=_given(wishes.custom_fields)
        )
        with self._own.call() as asked:
            try:
                folder_id, may_be_made = self._folder_id(target.folder), change.asked is not None
                self._edits.will_ask(change, target)
                with self._flights.of(change.inode, None, target):
                    document = await self._changes.create_folder(folder_id, target.name, fields)
                self._settling.is_bare(document)
            except NameTaken as error:
                document, wishes = (
                    await self._same_folder(change, target, error, may_be_made=may_be_made),
                    Wishes(),
                )
            except (NotFound, Forbidden, Invalid) as error:
                change.asked = None
                if not isinstance(error, Forbidden):
                    await self._look_at_folder(target.folder, error)
                raise self._refusal(change, error, wishes, is_alone=False) from error
            self._settling.arrived(
                change, document, target.folder, asked=asked, wishes=wishes, target=target, is_new=True
            )

    async def _change_folder(self, change: Change, known: Known, target: Place | None) -> None:
        is_alone = target is None
        wishes = self._taken_along(change, is_alone=is_alone)
        parent_id, name = self._moved(known, target)
        fields = FolderChange(
            parent_id=parent_id,
            name=name,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=_given(wishes.custom_fields),
        )
        with self._own.call() as asked:
            try:
                with self._flights.of(change.inode, change.document, target):
                    document = await self._changes.update_folder(
                        known.node.document_id or DocumentId(0), fields
                    )
            except NotFound as error:
                if await self._look(known) is None:
                    self._settling.removed_in_procore(known.node, asked=asked)
                    return
                await self._refused_move(change, known, target, error)
            except (Forbidden, Invalid, Conflict) as error:
                if wishes:
                    raise self._refusal(change, error, wishes, is_alone=is_alone) from error
                await self._refused_move(change, known, target, error)
            parent = self._now_in(document, target, known)
            self._settling.arrived(change, document, parent, asked=asked, wishes=wishes, target=target)

    async def _same_folder(
        self, change: Change, target: Place, error: NameTaken, *, may_be_made: bool
    ) -> Document:
        """The folder that is there already, of ours or a colleague's making. Raises Refused, Blocked.

        `may_be_made`: an earlier call of ours was not answered.
        """
        namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
        if not may_be_made:
            change.asked = None
            self._edits.note(change)
        if namesake is None:
            raise error
        if not (may_be_made and is_no_older(namesake.document, change)):
            self._namesakes.check_joinable(change, target, namesake, error)
        return namesake.document

    async def _check_name_taken(self, change: Change, target: Place, error: ProcoreError) -> None:
        """After a refused rename: raises Blocked when who has the name is about to leave it."""
        if isinstance(error, NameTaken):
            namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
            if namesake is not None:
                self._namesakes.check_leaving(change, namesake)

    async def _refused_move(
        self, change: Change, known: Known, target: Place | None, error: ProcoreError
    ) -> NoReturn:
        """Raises what follows from a refused rename or move."""
        if target is None:
            raise error
        await self._check_name_taken(change, target, error)
        if target.folder != known.node.parent and not isinstance(error, NameTaken | Forbidden):
            try:
                await self._look_at_folder(target.folder, error)
            except Blocked:
                if self._view.change(target.folder) is not None:
                    raise  # it is made anew
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

    async def _look_at_folder(self, folder: Inode, error: ProcoreError) -> None:
        """After a refusal that may be about the folder: is it still there? If not, it is made anew first."""
        node = self._store.by_inode(folder)
        if node is None or node.document_id is None:
            return
        with self._own.call() as asked:
            try:
                listing = await self._client.folder(node.document_id, priority=Priority.WRITING)
                is_gone = listing.folder.deleted
            except NotFound:
                is_gone = True
            if is_gone:
                self._settling.removed_in_procore(node, asked=asked)
                raise Blocked(folder, "its folder was removed in Procore and is made anew") from error

    # Files

    async def _file(self, change: Change, known: Known | None) -> None:
        if change.document is not None and known is None:
            self._settling.vanished(change)
            return
        target = self._target(change, known)
        self._check_way(change, target)
        if target is not None and known is None and self._join_colleague(change, target):
            return
        if known is not None:
            self._settling.forgo(change, known)
        if known is not None and _goes_out_of_sight(change):
            await self._tags(change)
        if change.has_bytes:
            await self._bytes(change)
        elif known is not None and (target is not None or change.wishes.has_fields):
            await self._update(change, known, None)
        elif change.wishes.tags is not msgspec.UNSET:
            await self._tags(change)
        elif known is not None:
            self._settling.is_in_place(change)
        else:
            raise Refused("its bytes are not there any more: write it anew")

    def _join_colleague(self, change: Change, target: Place) -> bool:
        """Somebody else has made a document of that name meanwhile: ours becomes its next version."""
        occupant = self._occupant(change, target)
        if occupant is None or occupant.document_id is None:
            return False
        if occupant.kind is not change.kind:
            what = "folder" if occupant.is_folder else "file"
            raise Refused(f"Procore has a {what} of that name: rename one of the two")
        log.info("%s was made by somebody else as well: ours joins it.", self._view.path(change.inode))
        self._settling.join(change, occupant.document_id)
        return True

    async def _bytes(self, change: Change) -> None:
        """Bring the bytes to the storage and make a version of them."""
        if change.borrowed is not None:
            await self._settling.fetch_borrowed(change)
        file = self._settling.freeze(change)
        if file is None:
            return
        try:
            await file.still()
            await file.complete()
            is_known = await self._settling.is_known(change, file)
            self._check_wanted(change, file)
            if is_known:
                self._settling.nothing_new(change, file)
                return
            upload = await self._uploader.store(change, file, self._name(change))
            await trio.lowlevel.checkpoint_if_cancelled()  # no cancellation is left for the last call
            self._check_wanted(change, file)
            if change.upload is not upload:
                raise Superseded  # it changed hands
            known = self._known(change)
            if change.document is not None and known is None:
                self._settling.vanished(change)
                return
            if change.place is GONE:
                return
            await self._make_version(change, known, upload, file)
        finally:
            self._settling.thaw(change, file)

    def _check_wanted(self, change: Change, file: StagedFile) -> None:
        """Raises Superseded when none are wanted any more, or newer ones, unless it gave way to such too often."""
        if not self._settling.is_current(change) or change.staged is None:
            raise Superseded
        if change.staged.number != file.number and change.gives_way:
            raise Superseded

    def _name(self, change: Change) -> str:
        if isinstance(change.place, Place):
            return change.place.name
        known = self._known(change)
        return known.name if known is not None else "file"

    async def _make_version(
        self, change: Change, known: Known | None, upload: Upload, file: StagedFile
    ) -> None:
        target = self._target(change, known)
        self._check_way(change, target)
        if target is not None and known is None and self._join_colleague(change, target):
            return
        if not upload.is_used:
            upload.is_used = True
            upload.before = known.node.version.id if known is not None and known.node.version else None
            self._edits.note(change)
            is_repeat = False
        else:
            is_repeat = True
        if known is None and target is not None:
            await self._create(change, target, upload, file, is_repeat=is_repeat)
        elif known is not None:
            await self._update(change, known, (upload, file), is_repeat=is_repeat)

    async def _create(
        self, change: Change, target: Place, upload: Upload, file: StagedFile, *, is_repeat: bool
    ) -> None:
        wishes = self._taken_along(change, is_alone=False)
        fields = FileChange(
            description=wishes.description,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=_given(wishes.custom_fields),
        )
        with self._own.call() as asked:
            try:
                folder_id = self._folder_id(target.folder)
                self._edits.will_ask(change, target, file.size_bytes, upload.sha256)
                with self._flights.of(change.inode, None, target):
                    document = await self._changes.create_file(folder_id, target.name, upload.uuid, fields)
                self._settling.is_bare(document)
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                if not is_repeat:
                    upload.is_used, change.asked = False, None  # the name is taken, or the folder is gone
                self._edits.note(change)
                if not isinstance(error, NameTaken | UploadRefused | Gone | Forbidden):
                    await self._look_at_folder(target.folder, error)
                if not is_repeat and not isinstance(error, NameTaken | UploadRefused | Gone):
                    raise self._refusal(change, error, wishes, is_alone=False) from error
                found = await self._after_refusal(change, target, upload, error, is_repeat=is_repeat)
                if found is None:
                    return
                document, wishes = found, Wishes()
            document = await self._with_version(document)
            self._settling.arrived(
                change,
                document,
                target.folder,
                asked=asked,
                wishes=wishes,
                target=target,
                sent=(upload, file),
                is_new=True,
            )

    async def _after_refusal(
        self, change: Change, target: Place, upload: Upload, error: ProcoreError, *, is_repeat: bool
    ) -> Document | None:
        """What to make of a refused creation: our own earlier one, or a colleague's document, or a used upload."""
        namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
        if is_repeat and namesake is not None:
            theirs = await self._with_version(namesake.document)
            if await self._verifier.is_ours(theirs, upload, change):
                return theirs
        upload.is_used = False
        self._edits.note(change)
        is_theirs = namesake is not None and namesake.likeness is Likeness.SAME
        if not isinstance(error, NameTaken | Forbidden) and not is_theirs:
            self._settling.begin_anew(
                change
            )  # should something else have been refused, that is said next time
            raise _upload_refused(error)
        if namesake is None or isinstance(error, Forbidden):
            raise error
        self._namesakes.check_joinable(change, target, namesake, error)
        log.warning(
            "%s was made by somebody else while ours waited: ours becomes its next version.",
            self._view.path(change.inode),
        )
        if not isinstance(error, NameTaken):
            self._settling.begin_anew(change)
        with self._own.call() as asked:
            self._settling.found(namesake.document, target.folder, change, asked=asked)
        return None

    async def _update(
        self,
        change: Change,
        known: Known,
        sent: tuple[Upload, StagedFile] | None,
        *,
        is_repeat: bool = False,
    ) -> None:
        document_id = change.document
        assert document_id is not None
        target = self._target(change, known)
        is_alone = target is None and sent is None
        wishes = self._taken_along(change, is_alone=is_alone)
        parent_id, name = self._moved(known, target)
        fields = FileChange(
            parent_id=parent_id,
            name=name,
            upload_uuid=sent[0].uuid if sent is not None else msgspec.UNSET,
            description=wishes.description,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=_given(wishes.custom_fields),
        )
        if sent is not None:
            self._settling.note_colleague(change, known, sent[1])
        with self._own.call() as asked:
            try:
                with self._flights.of(change.inode, document_id, target):
                    document = await self._changes.update_file(document_id, fields)
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                found = await self._look_after(change, known, sent, error, asked=asked, is_repeat=is_repeat)
                if found is None:
                    if sent is not None:
                        sent[0].is_used = False
                    if wishes:
                        raise self._refusal(change, error, wishes, is_alone=is_alone) from error
                    await self._refused_move(change, known, target, error)
                # The earlier call may have carried other wishes, or have been meant for another place.
                document, wishes, target = found, Wishes(), None
            if sent is not None:
                document = await self._with_version(document)
            parent = self._now_in(document, target, known)
            self._settling.arrived(
                change, document, parent, asked=asked, wishes=wishes, target=target, sent=sent
            )

    async def _look_after(
        self,
        change: Change,
        known: Known,
        sent: tuple[Upload, StagedFile] | None,
        error: ProcoreError,
        *,
        asked: int,
        is_repeat: bool,
    ) -> Document | None:
        """After a refused PATCH: the document, if an earlier call had brought its bytes; None: the refusal stands.

        Raises Superseded when the document is gone, and UploadRefused when the bytes are to be sent anew.
        """
        if isinstance(error, CheckedOut):
            raise error
        is_about_bytes = sent is not None and isinstance(error, UploadRefused | NotFound | Gone)
        if not (is_repeat or is_about_bytes or isinstance(error, NotFound)):
            return None
        document = await self._look(known)
        if document is None:
            self._settling.removed_in_procore(known.node, asked=asked)
            raise Superseded
        if sent is None:
            return None
        if is_repeat and await self._verifier.is_ours(document, sent[0], change):
            return document
        if isinstance(error, NameTaken | Forbidden):
            return None
        self._settling.begin_anew(change)
        raise _upload_refused(error)

    async def _with_version(self, document: Document) -> Document:
        """The same; an answer need not say which version it has."""
        if document.version is not None:
            return document
        return await self._client.file(document.id, priority=Priority.WRITING)

    def _now_in(self, document: Document, target: Place | None, known: Known) -> Inode:
        """The folder that an answer says a document is in: a colleague may have moved it meanwhile."""
        named = self._store.known(document.parent_id) if document.parent_id is not None else None
        if named is not None and named.node.is_folder and self._store.reachable(named.node.inode):
            return named.node.inode
        return target.folder if target is not None else known.node.parent or ROOT

    # Metadata

    async def _tags(self, change: Change) -> None:
        with self._flights.of(change.inode, change.document):
            await self._settling.send_tags(change)

    def _taken_along(self, change: Change, *, is_alone: bool) -> Wishes:
        """The metadata that the next call carries; `is_alone`: it carries nothing else."""
        if is_alone:
            self._apart.discard(change.inode)
        return Wishes() if change.inode in self._apart else fields_only(change.wishes)

    def _refusal(self, change: Change, error: ProcoreError, wishes: Wishes, *, is_alone: bool) -> Exception:
        """What follows from a refused call; with metadata and more in it, that is tried without the metadata first."""
        if not wishes:
            return error
        if is_alone:
            return Refused(str(error), wishes=wishes)
        self._apart.add(change.inode)
        return Superseded()

    async def step_aside(self, inode: Inode) -> None:
        """Give a document another name for a moment: two that swap names would wait for each other for ever."""
        change = self._view.change(inode)
        known = self._known(change) if change is not None else None
        if change is None or known is None or change.document is None or known.node.parent is None:
            return
        name = marked(known.name, str(change.document)).decode("utf-8", "replace")
        parent = known.node.parent
        document_id = change.document
        self._check_way(change, None)
        with self._own.call() as asked:
            with self._flights.of(inode, document_id, Place(parent, name)):
                if change.is_folder:
                    document = await self._changes.update_folder(document_id, FolderChange(name=name))
                else:
                    document = await self._changes.update_file(document_id, FileChange(name=name))
            self._settling.arrived(change, document, parent, asked=asked, wishes=Wishes())


def _goes_out_of_sight(change: Change) -> bool:
    """Whether tags are to be sent first: a document that was made private may be hidden from who did it."""
    return change.wishes.private is True and change.wishes.tags is not msgspec.UNSET


def _upload_refused(error: ProcoreError) -> UploadRefused:
    return UploadRefused(str(error), status=error.status, answer=error.answer)


def _given(fields: dict[int, FieldValue]) -> dict[int, FieldValue] | msgspec.UnsetType:
    return fields or msgspec.UNSET
