"""Uploads the bytes of a change: completes and freezes a generation, then sends it to the storage host in steps.

    generation ─▶ complete ─▶ frozen ─▶ digests ─▶ begin (1 call) ─▶ bytes to the storage host
                                         ─▶ is_stored (segments are joined with 1 call)

Each step is journaled before the next one. The call in file_calls.py that follows makes a version of the bytes. An
interrupted upload continues with the missing segments; an expired one begins again.
"""

import logging
import mimetypes
from collections.abc import Callable

import msgspec
import trio

from procorefs.journal.change import Change, Upload
from procorefs.procore.api.uploads import MAX_SEGMENT_BYTES, Uploads
from procorefs.procore.errors import UploadExpired, UploadRefused
from procorefs.procore.http.file_body import SourceFile
from procorefs.procore.wire.models import VersionId
from procorefs.procore.wire.upload_decoding import SegmentedUpload, SegmentPlan
from procorefs.staging.staging_area import StagedFile
from procorefs.staging.whole_file import digest, segment_digests
from procorefs.storage import clocks
from procorefs.tree.rows import Known
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.outcomes import Superseded
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

WHOLE_BYTES = 32 << 20
"""Larger files are sent in segments, so that an interrupted transfer does not begin at zero."""

SEGMENT_BYTES = 16 << 20
MOST_SEGMENTS = 1000
SEGMENTS_AT_ONCE = 4
UPLOAD_S = 3000.0
"""A transfer begins within this time of its first step, or the step is repeated: Procore allows an hour."""

UNUSED_S = 6 * 86_400.0
"""Stored bytes that are not used within this time are sent again: Procore keeps them for a week."""


class ContentToSend:
    """The generation of one change. Raises Superseded if the change was given up meanwhile."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        edits: LocalEdits,
        results: ResultApplier,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._edits = edits
        self._results = results

    # Missing bytes

    async def fetch_pending_copy(self, change: Change) -> None:
        """Fetch the bytes of another document, which are to be a version of this one. Raises ProcoreError."""
        version = change.pending_copy
        if version is None:
            return
        file = self._dirty_files.staging.create(version)
        try:
            await file.complete()
            # The document that has them may be removed as soon as the row records that they are here.
            await self._dirty_files.staging.sync([file])
            if not self._results.is_current(change) or change.pending_copy is not version:
                raise Superseded
            self._edits.sessions.take_fetched(change, file)
        except BaseException:
            file.delete()
            raise

    async def fetch_missing(self, change: Change) -> None:
        """Fetch the missing bytes of a change. Raises Superseded, ProcoreError and the errors of staging."""
        if change.pending_copy is not None:
            await self.fetch_pending_copy(change)
            return
        file = await self.freeze(change)
        if file is None:
            return
        try:
            await file.complete()
            await self._dirty_files.staging.sync([file])
            self._check_is_newest(change, file)
            self._edits.sessions.take_completed(change, file)
        finally:
            self.thaw(change, file)

    def _check_is_newest(self, change: Change, file: StagedFile) -> None:
        is_current = self._results.is_current(change)
        if not is_current or change.staged is None or change.staged.number != file.number:
            raise Superseded

    # During the upload

    async def freeze(self, change: Change) -> StagedFile | None:
        """Freeze the newest flushed generation, so that it does not change until `thaw`; None if there are no bytes
        to send."""
        await self._dirty_files.still(change.inode)
        if not self._results.is_current(change):
            raise Superseded
        dirty_file = self._dirty_files.get(change.inode)
        if dirty_file is not None and dirty_file.is_changed and not dirty_file.is_frozen:
            self._edits.sessions.flushed(change.inode)
        if change.staged is None:
            return None
        return self._dirty_files.freeze(change.inode, change.staged)

    def thaw(self, change: Change, file: StagedFile) -> None:
        """Unfreeze the file and keep it while a row names it, even the row of another change."""
        now = self._view.change(change.inode)
        is_wanted = now is not None and any(record.number == file.number for record in now.records)
        self._dirty_files.thaw(change.inode, file, is_wanted=is_wanted)

    def check_wanted(self, change: Change, file: StagedFile) -> None:
        """Raise Superseded if the bytes are no longer wanted, or if newer ones are, unless that happened too often."""
        if not self._results.is_current(change) or change.staged is None:
            raise Superseded
        if change.staged.number != file.number and change.gives_way:
            raise Superseded

    async def ready(self, change: Change) -> StagedFile | None:
        """The frozen generation with all its bytes; `thaw` follows. None if there are no bytes to send."""
        await self.fetch_pending_copy(change)
        await self._edits.sessions.save_tail(change.inode)
        file = await self.freeze(change)
        if file is None:
            return None
        try:
            await file.still()
            await file.complete()
        except BaseException:
            self.thaw(change, file)
            raise
        return file

    async def is_known(self, change: Change, file: StagedFile) -> bool:
        """Whether the document's version has these bytes already; False if its hash is unknown."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            return False
        version, kept = known.node.version, known.node.kept
        if not kept.sha256 or kept.version_id != version.id or version.size_bytes != file.size_bytes:
            return False
        return await digest(file) == kept.sha256

    def nothing_new(self, change: Change, file: StagedFile) -> None:
        """Note that the bytes are those of Procore's version: only their times are kept."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            raise Superseded
        version = known.node.version
        change.kept = msgspec.structs.replace(
            change.kept, version_id=version.id, sha256=known.node.kept.sha256
        )
        self._results.nothing_new(change, file.number, version)

    def note_colleague(self, change: Change, known: Known, file: StagedFile) -> None:
        """Log when ours becomes the version after one that the writing program has not seen."""
        base = file.base
        if base is not None and known.node.version is not None and known.node.version.id != base.id:
            log.info(
                "%s has a newer version in Procore: ours comes on top, theirs stays in the history.",
                self._view.path(change.inode),
            )

    def _known(self, change: Change) -> Known | None:
        return self._store.known(change.document) if change.document is not None else None


class Uploader:
    """Sends generations. `note` journals the change."""

    def __init__(self, uploads: Uploads, note: Callable[[Change], None]) -> None:
        self._uploads = uploads
        self._note = note
        self.sent_bytes: dict[int, int] = {}
        """Bytes that were sent of the running generations, by number."""

    async def store(self, change: Change, file: StagedFile, name: str) -> Upload:
        """Upload the file's bytes and return what the last call needs. Raises ProcoreError.

        The file must be complete and must not change meanwhile.
        """
        upload = change.upload
        if upload is None or upload.generation != file.number or not _is_fresh(upload):
            upload = Upload(generation=file.number, sha256=await digest(file))
            change.begin_upload(upload)
        if upload.is_stored:
            return upload
        try:
            self.sent_bytes[file.number] = 0
            with file.held():
                await self._send(change, upload, file, name)
        except (UploadExpired, UploadRefused) as error:
            if isinstance(error, UploadExpired) and upload.etags:
                change.upload_expired()
            change.drop_upload()
            self._note(change)
            raise
        finally:
            self.sent_bytes.pop(file.number, None)
        upload.is_stored = True
        self._note(change)
        return upload

    def use(self, change: Change, upload: Upload, before: VersionId | None) -> None:
        """Journal that the last call is sent next. `before`: the document's newest version."""
        upload.is_used, upload.before = True, before
        self._note(change)

    def not_used(self, change: Change, upload: Upload) -> None:
        """Journal that the last call was refused."""
        upload.is_used = False
        self._note(change)

    async def _send(self, change: Change, upload: Upload, file: StagedFile, name: str) -> None:
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if file.size_bytes <= WHOLE_BYTES:
            if upload.whole is None:
                upload.whole = await self._uploads.begin_whole(name, content_type, file.size_bytes)
                self._note(change)
            await self._uploads.send_whole(
                upload.whole, SourceFile(file.fd, file.size_bytes), self._progress(file.number)
            )
            return
        if upload.segmented is None:
            plans = await _plans(file, all_at_once=change.is_on_slow_line)
            upload.segmented = await self._uploads.begin_segments(name, content_type, plans)
            self._note(change)
        await self._send_segments(change, upload, upload.segmented, file)
        etags = [upload.etags[index] for index in range(len(upload.segmented.segments))]
        await self._uploads.complete(upload.segmented, etags)

    def _progress(self, number: int) -> Callable[[int], None]:
        def progress(sent_bytes: int) -> None:
            self.sent_bytes[number] = sent_bytes

        return progress

    async def _send_segments(
        self, change: Change, upload: Upload, segmented: SegmentedUpload, file: StagedFile
    ) -> None:
        """Upload the segments that have not arrived, a few at a time. The first failure cancels the others and is
        raised."""
        missing = [index for index in range(len(segmented.segments)) if index not in upload.etags]
        offsets = _offsets(segmented)
        source = SourceFile(file.fd, file.size_bytes)
        failures: list[Exception] = []

        async def send_some(nursery: trio.Nursery) -> None:
            while missing:
                index = missing.pop(0)
                try:
                    upload.etags[index] = await self._uploads.send_segment(
                        segmented, index, source, offsets[index]
                    )
                    self.sent_bytes[file.number] += segmented.segments[index].size_bytes
                    self._note(change)
                except Exception as error:  # raised below
                    failures.append(error)
                    nursery.cancel_scope.cancel()
                    return

        at_once = len(missing) if change.is_on_slow_line else SEGMENTS_AT_ONCE
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(send_some, nursery)
        if failures:
            raise failures[0]


def _is_fresh(upload: Upload) -> bool:
    """Whether the upload can be continued; always true if its last call may have been sent."""
    begun = upload.whole or upload.segmented
    if begun is None or upload.is_used:
        return True
    age_s = clocks.unix_s() - begun.created_at_s
    return -UPLOAD_S < age_s < (UNUSED_S if upload.is_stored else UPLOAD_S)


def segment_size(size_bytes: int, *, all_at_once: bool) -> int:
    """The size of a segment; it grows for very large files, to limit their number.

    A transfer must begin within an hour of the upload's first step (procore-api.md, Uploading bytes). If the network
    is too slow for that, there are only as many segments as are sent at a time.
    """
    if all_at_once:
        return min(max(SEGMENT_BYTES, -(-size_bytes // SEGMENTS_AT_ONCE)), MAX_SEGMENT_BYTES)
    return max(SEGMENT_BYTES, -(-size_bytes // MOST_SEGMENTS))


async def _plans(file: StagedFile, *, all_at_once: bool) -> list[SegmentPlan]:
    segment_bytes = segment_size(file.size_bytes, all_at_once=all_at_once)
    digests = await segment_digests(file, segment_bytes)
    return [SegmentPlan(size_bytes=size_bytes, sha256=sha256) for size_bytes, sha256 in digests]


def _offsets(segmented: SegmentedUpload) -> list[int]:
    offsets, offset = [], 0
    for segment in segmented.segments:
        offsets.append(offset)
        offset += segment.size_bytes
    return offsets
