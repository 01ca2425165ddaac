"""The calls for files: bytes to the storage first, then one call with all that becomes different.

An answer that was lost is looked into before anything is repeated: nothing is doubled, and no colleague's is taken.
"""

import logging
from typing import NamedTuple

import msgspec
import trio

from procorefs.journal.change import GONE, Change, Location, MetadataPatch, Upload
from procorefs.limiter import Priority
from procorefs.procore.api.changes import FileChange
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
from procorefs.procore.wire.models import Document, Kind, Version
from procorefs.staging.staging_area import StagedFile
from procorefs.tree.rows import Known
from procorefs.upload.outcomes import Refused, Superseded
from procorefs.upload.sending.apply_result import Sent
from procorefs.upload.sending.name_conflicts import Likeness
from procorefs.upload.sending.placement import Placement, given, goes_out_of_sight

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What an earlier call has done, as it is now."""

    document: Document
    version: Version
    """Ours, which may have others on top."""


class FileCalls(Placement):
    """Makes and changes files, and their versions."""

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
        if known is not None and goes_out_of_sight(change):
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
            raise Refused("its bytes are not on this disk any more: write it again")

    async def _bytes(self, change: Change) -> None:
        """Bring the bytes to the storage and make a version of them."""
        if change.borrowed is not None:
            await self._settling.fetch_borrowed(change)
        await self._edits.sessions.save_tail(change.inode)
        file = await self._settling.freeze(change)
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
        if isinstance(change.place, Location):
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
        upload.is_used = True
        upload.before = known.node.version.id if known is not None and known.node.version else None
        self._edits.changes.save_if_current(change)
        if known is None and target is not None:
            await self._create(change, target, upload)
        elif known is not None:
            self._settling.note_colleague(change, known, file)
            await self._update(change, known, upload)

    async def _create(self, change: Change, target: Location, upload: Upload) -> None:
        wishes = self._taken_along(change, is_alone=False)
        fields = FileChange(
            description=wishes.description,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=given(wishes.custom_fields),
        )
        folder_id = self._folder_id(target.folder)
        with (
            self._own.call(None) as request,
            self._calls.sending(
                change.inode, change.kind, None, target, upload=upload, wishes=wishes
            ) as sending,
        ):
            ours: Version | None = None
            try:
                document = await self._changes.create_file(
                    folder_id, target.name, upload.uuid, fields, on_sent=request.sent
                )
                self._settling.is_bare(document)
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                sending.refused()
                upload.is_used = False  # the name is taken, or the folder is gone
                self._edits.changes.save_if_current(change)
                if not isinstance(error, NameTaken | UploadRefused | Gone | Forbidden):
                    await self._look_at_folder(target.folder, folder_id, error)
                if not isinstance(error, NameTaken | UploadRefused | Gone):
                    raise self._refusal(change, error, wishes, is_alone=False) from error
                found = await self._after_refusal(change, target, upload, error)
                if found is None:
                    return
                document, ours, wishes = found.document, found.version, MetadataPatch()
            sending.answered()
            self._own.order.is_about(request, document.id)
            document = await self._with_version(document)
            self._settling.arrived(
                change,
                document,
                target.folder,
                wishes=wishes,
                target=target,
                sent=Sent(upload, ours or document.version),
                is_new=True,
            )

    async def made_of(self, place: Location, kind: Kind, upload: Upload) -> Found | None:
        """The document at a place that has a version made of the upload. Raises Blocked, ProcoreError."""
        namesake = await self._namesakes.find(self._folder_id(place.folder), place.name, kind)
        if namesake is None:
            return None
        theirs = await self._with_version(namesake.document)
        ours = await self._verifier.find_ours(theirs, upload)
        return Found(theirs, ours) if ours is not None else None

    async def _after_refusal(
        self, change: Change, target: Location, upload: Upload, error: ProcoreError
    ) -> Found | None:
        """What to make of a refused creation: our own earlier one, or a colleague's document, or a used upload."""
        namesake = await self._namesakes.find(self._folder_id(target.folder), target.name, change.kind)
        if namesake is not None and namesake.document.kind is change.kind:
            theirs = await self._with_version(namesake.document)
            ours = await self._verifier.find_ours(theirs, upload)
            if ours is not None:
                return Found(theirs, ours)
        is_theirs = namesake is not None and namesake.likeness is Likeness.SAME
        if not isinstance(error, NameTaken) and not is_theirs:
            # should something else have been refused, that is said next time
            self._settling.begin_anew(change, upload)
            raise _upload_refused(error)
        if namesake is None:
            raise error
        self._check_still_wanted(change, target)
        self._namesakes.check_joinable(change, target, namesake, error)
        self._make_takeable(change, namesake.document.id)
        log.warning(
            "%s was created by another user while ours waited: ours becomes its next version.",
            self._view.path(change.inode),
        )
        if not isinstance(error, NameTaken):
            self._settling.begin_anew(change, upload)
        self._settling.found(namesake.document, target.folder, change)
        return None

    async def _update(self, change: Change, known: Known, upload: Upload | None) -> None:
        document_id = change.document
        assert document_id is not None
        target = self._target(change, known)
        is_alone = target is None and upload is None
        wishes = self._taken_along(change, is_alone=is_alone)
        parent_id, name = self._moved(known, target)
        fields = FileChange(
            parent_id=parent_id,
            name=name,
            upload_uuid=upload.uuid if upload is not None else msgspec.UNSET,
            description=wishes.description,
            tracked=wishes.tracked,
            private=wishes.private,
            custom_fields=given(wishes.custom_fields),
        )
        with (
            self._own.call(document_id) as request,
            self._calls.sending(
                change.inode, change.kind, document_id, target, upload=upload, wishes=wishes
            ) as sending,
        ):
            ours: Version | None = None
            try:
                document = await self._changes.update_file(document_id, fields, on_sent=request.sent)
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                sending.refused()
                found = await self._look_after(change, known, upload, error)
                if found is None:
                    if upload is not None:
                        upload.is_used = False
                    if wishes:
                        raise self._refusal(change, error, wishes, is_alone=is_alone) from error
                    await self._refused_move(change, known, target, parent_id, error)
                # The earlier call may have carried other wishes, or have been meant for another place.
                document, ours, wishes, target = found.document, found.version, MetadataPatch(), None
            sending.answered()
            arrived = None
            if upload is not None:
                document = await self._with_version(document)
                arrived = Sent(upload, ours or document.version)
            parent = self._now_in(document, target, known)
            self._settling.arrived(change, document, parent, wishes=wishes, target=target, sent=arrived)

    async def _look_after(
        self, change: Change, known: Known, upload: Upload | None, error: ProcoreError
    ) -> Found | None:
        """After a refused PATCH: the document, if its upload has been used for it; None: the refusal stands.

        Raises Superseded when the document is gone, and UploadRefused when the bytes are to be sent anew.
        """
        if isinstance(error, CheckedOut):
            raise error
        is_about_bytes = upload is not None and isinstance(error, UploadRefused | NotFound | Gone)
        if not (is_about_bytes or isinstance(error, NotFound)):
            return None
        document = await self._look(known)
        if document is None:
            self._settling.removed_in_procore(known.node)
            raise Superseded
        if upload is None:
            return None
        ours = await self._verifier.find_ours(document, upload)
        if ours is not None:
            return Found(document, ours)
        self._settling.begin_anew(change, upload)
        raise _upload_refused(error)

    async def _with_version(self, document: Document) -> Document:
        """The same; an answer need not say which version it has."""
        if document.version is not None:
            return document
        return await self._client.file(document.id, priority=Priority.WRITING)


def _upload_refused(error: ProcoreError) -> UploadRefused:
    return UploadRefused(str(error), status=error.status, answer=error.answer)
