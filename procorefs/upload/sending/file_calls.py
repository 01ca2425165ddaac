"""Makes the calls for files: uploads the bytes first, then makes one call with everything that changes.

After a lost answer, the outcome is looked up before anything is repeated, so that nothing is doubled and no other
user's document is taken.
"""

from typing import NamedTuple

import msgspec
import trio

from procorefs.journal.change import Change, Location, MetadataPatch, Upload
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
from procorefs.procore.wire.models import Document, Version
from procorefs.staging.staging_area import StagedFile
from procorefs.tree.rows import Known
from procorefs.upload.outcomes import Blocked, Refused, Superseded
from procorefs.upload.planning.plan import Create, Update, Wait
from procorefs.upload.planning.situation import Situations
from procorefs.upload.sending.after_refusal import AfterRefusal
from procorefs.upload.sending.apply_result import ResultApplier, Sent
from procorefs.upload.sending.byte_upload import ContentToSend, Uploader
from procorefs.upload.sending.documents import DocumentCalls, given
from procorefs.upload.sending.name_conflicts import Likeness
from procorefs.upload.sending.version_match import VersionMatcher


class Found(NamedTuple):
    """The document that an earlier call made, as it is now."""

    document: Document
    version: Version
    """Our version, which need not be the newest."""


class FileCalls:
    """Creates and changes files and their versions."""

    def __init__(
        self,
        documents: DocumentCalls,
        situations: Situations,
        content: ContentToSend,
        uploader: Uploader,
        versions: VersionMatcher,
        refusals: AfterRefusal,
        results: ResultApplier,
    ) -> None:
        self._documents = documents
        self._situations = situations
        self._content = content
        self._uploader = uploader
        self._versions = versions
        self._refusals = refusals
        self._results = results

    async def send(self, change: Change, step: Create | Update) -> None:
        """Make the calls of a step. Raises Blocked, Superseded, Refused, ProcoreError and the errors of staging."""
        if isinstance(step, Update) and not step.has_bytes:
            await self._update(change, step, None)
            return
        file = await self._content.ready(change)
        if file is None:
            return
        try:
            await self._send_bytes(change, file, step)
        except (Invalid, UploadRefused) as error:
            why = self._situations.content_rules.explain(_name(step), file.size_bytes, error)
            if not why:
                raise
            raise Refused(why) from error
        finally:
            self._content.thaw(change, file)

    async def _send_bytes(self, change: Change, file: StagedFile, step: Create | Update) -> None:
        """Upload the bytes and make a version of them, if that is still the next step by then."""
        is_known = await self._content.is_known(change, file)
        self._content.check_wanted(change, file)
        if is_known:
            self._content.nothing_new(change, file)
            return
        document = change.document
        upload = await self._uploader.store(change, file, _name(step))
        await trio.lowlevel.checkpoint_if_cancelled()  # the last call cannot be cancelled
        self._content.check_wanted(change, file)
        if change.upload is not upload or change.document != document:
            raise Superseded  # another inode took it over, or it took over a document that may have these bytes
        now = self._situations.step(change)
        if isinstance(now, Create):
            self._uploader.use(change, upload, None)
            await self._create(change, now.target, upload)
        elif isinstance(now, Update) and now.has_bytes:
            version = now.known.node.version
            self._uploader.use(change, upload, version.id if version is not None else None)
            self._content.note_colleague(change, now.known, file)
            await self._update(change, now, upload)
        elif isinstance(now, Wait):
            raise Blocked(now)
        else:
            raise Superseded

    async def _create(self, change: Change, target: Location, upload: Upload) -> None:
        metadata = self._refusals.taken_along(change, is_alone=False)
        fields = FileChange(
            description=metadata.description,
            tracked=metadata.tracked,
            private=metadata.private,
            custom_fields=given(metadata.custom_fields),
        )
        folder_id = self._documents.folder_id(target.folder)
        async with self._documents.changing(change, None, target, upload=upload, metadata=metadata) as (
            request,
            sending,
        ):
            ours: Version | None = None
            try:
                document = await self._documents.changes.create_file(
                    folder_id, target.name, upload.uuid, fields, on_sent=request.sent
                )
                self._documents.tags.made(document.id)
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                sending.refused()
                self._uploader.not_used(change, upload)  # the name is taken, or the folder is gone
                if not isinstance(error, NameTaken | UploadRefused | Gone | Forbidden):
                    await self._refusals.check_folder(target.folder, folder_id, error)
                if not isinstance(error, NameTaken | UploadRefused | Gone):
                    raise self._refusals.of_metadata(change, error, metadata, is_alone=False) from error
                found = await self._after_refused_creation(change, target, upload, error)
                if found is None:
                    return
                document, ours, metadata = found.document, found.version, MetadataPatch()
            sending.unclear()
            self._documents.own.order.is_about(request, document.id)
            document = await self._documents.with_version(document)
            sending.answered()
            target = sending.place or target
            self._results.arrived(
                change,
                document,
                target.folder,
                metadata=metadata,
                target=target,
                sent=Sent(upload, ours or document.version),
                is_new=True,
            )

    async def _after_refused_creation(
        self, change: Change, target: Location, upload: Upload, error: ProcoreError
    ) -> Found | None:
        """Resolve a refused creation: by our own earlier call, by another user's document, or by a new upload."""
        conflicts = self._refusals.conflicts
        folder_id = self._documents.folder_id(target.folder)
        conflict = await conflicts.find(folder_id, target, change.kind)
        maybe_made = conflicts.maybe_made(conflict, change)
        if maybe_made is not None:
            theirs = await self._documents.with_version(maybe_made)
            ours = await self._versions.find_ours(theirs, upload)
            if ours is not None:
                return Found(theirs, ours)
        is_theirs = conflict is not None and conflict.likeness is Likeness.SAME
        if not isinstance(error, NameTaken) and not is_theirs:
            # if something else was refused, the next try says so
            self._results.begin_upload_again(change, upload)
            raise _upload_refused(error)
        if conflict is None:
            raise error
        self._refusals.take(change, target, conflict, error)
        if not isinstance(error, NameTaken):
            self._results.begin_upload_again(change, upload)
        is_theirs = conflict.likeness is not Likeness.CHANGED
        self._results.found(conflict.document, target.folder, change, is_theirs=is_theirs)
        return None

    async def _update(self, change: Change, step: Update, upload: Upload | None) -> None:
        document_id, known, target = change.document, step.known, step.target
        assert document_id is not None
        is_alone = target is None and upload is None
        metadata = self._refusals.taken_along(change, is_alone=is_alone)
        parent_id, name = self._documents.moved(known, target)
        fields = FileChange(
            parent_id=parent_id,
            name=name,
            upload_uuid=upload.uuid if upload is not None else msgspec.UNSET,
            description=metadata.description,
            tracked=metadata.tracked,
            private=metadata.private,
            custom_fields=given(metadata.custom_fields),
        )
        async with self._documents.changing(
            change, document_id, target, upload=upload, metadata=metadata
        ) as (
            request,
            sending,
        ):
            ours: Version | None = None
            try:
                document = await self._documents.changes.update_file(
                    document_id, fields, on_sent=request.sent
                )
            except (NotFound, Forbidden, Invalid, Conflict, Gone) as error:
                sending.refused()
                found = await self._after_refused_update(change, known, upload, error)
                if found is None:
                    if upload is not None:
                        upload.is_used = False
                    if metadata:
                        raise self._refusals.of_metadata(
                            change, error, metadata, is_alone=is_alone
                        ) from error
                    await self._refusals.of_move(change, known, target, parent_id, error)
                # The earlier call may have carried other metadata or another place.
                document, ours, metadata, target = found.document, found.version, MetadataPatch(), None
            sending.unclear()
            arrived = None
            if upload is not None:
                document = await self._documents.with_version(document)
                arrived = Sent(upload, ours or document.version)
            sending.answered()
            target = sending.place if target is not None else None
            parent = self._results.folder_of(document, target)
            self._results.arrived(change, document, parent, metadata=metadata, target=target, sent=arrived)

    async def _after_refused_update(
        self, change: Change, known: Known, upload: Upload | None, error: ProcoreError
    ) -> Found | None:
        """After a refused PATCH, the document if its upload was used for it; None if the refusal stands.

        Raises Superseded if the document is gone, and UploadRefused if the bytes must be sent again.
        """
        if isinstance(error, CheckedOut):
            raise error
        is_about_bytes = upload is not None and isinstance(error, UploadRefused | NotFound | Gone)
        if not (is_about_bytes or isinstance(error, NotFound)):
            return None
        assert known.node.document_id is not None
        document = await self._documents.now(known.node.document_id, known.node.kind)
        if document is None:
            self._results.removed_in_procore(known.node)
            raise Superseded
        if upload is None:
            return None
        ours = await self._versions.find_ours(document, upload)
        if ours is not None:
            return Found(document, ours)
        self._results.begin_upload_again(change, upload)
        raise _upload_refused(error)


def _name(step: Create | Update) -> str:
    if step.target is not None:
        return step.target.name
    assert isinstance(step, Update)
    return step.known.name


def _upload_refused(error: ProcoreError) -> UploadRefused:
    return UploadRefused(str(error), status=error.status, answer=error.answer)
