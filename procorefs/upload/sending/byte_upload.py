"""Brings the bytes of a change to the storage: completes and freezes a generation, then uploads it step by step.

    generation ─▶ complete ─▶ frozen ─▶ digests ─▶ begin (1 call) ─▶ bytes to the storage ─▶ is_stored
                                                                       (segments: put together, 1 call)

Each step is written down before the next one. What makes a version of it is the last call of file_calls.py. An upload
that was cut off goes on with the segments that are missing; one that has expired begins again.
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
"""Larger files are sent in segments: a transfer that broke off does not begin at zero."""

SEGMENT_BYTES = 16 << 20
MOST_SEGMENTS = 1000
SEGMENTS_AT_ONCE = 4
UPLOAD_S = 3000.0
"""A transfer begins within this time of its first step, else the step is made again: Procore grants an hour."""

UNUSED_S = 6 * 86_400.0
"""Stored bytes that wait longer to be used are sent again: Procore keeps them for a week."""


class ContentToSend:
    """Generations of staged files, one change at a time. Raises Superseded when a change was given up meanwhile."""

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

    # Bytes that are not here

    async def fetch_pending_copy(self, change: Change) -> None:
        """Bring the bytes of another document here: they are to be a version of this one. Raises ProcoreError."""
        version = change.pending_copy
        if version is None:
            return
        file = self._dirty_files.staging.create(version)
        try:
            await file.complete()
            # The document that has them may go as soon as the row says that they are here.
            await self._dirty_files.staging.sync([file])
            if not self._results.is_current(change) or change.pending_copy is not version:
                raise Superseded
            self._edits.sessions.take_fetched(change, file)
        except BaseException:
            file.delete()
            raise

    async def fetch_missing(self, change: Change) -> None:
        """Bring here what is missing of a change's bytes. Raises Superseded, ProcoreError, the staging's errors."""
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

    # While they are sent

    async def freeze(self, change: Change) -> StagedFile | None:
        """The newest flushed generation, which does not change until `thaw`; None: there are no bytes to send."""
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
        """The file stays as long as a row names it, be it another change than the one that was sent."""
        now = self._view.change(change.inode)
        is_wanted = now is not None and any(record.number == file.number for record in now.records)
        self._dirty_files.thaw(change.inode, file, is_wanted=is_wanted)

    def check_wanted(self, change: Change, file: StagedFile) -> None:
        """Raises Superseded when none are wanted any more, or newer ones, unless it gave way to such too often."""
        if not self._results.is_current(change) or change.staged is None:
            raise Superseded
        if change.staged.number != file.number and change.gives_way:
            raise Superseded

    async def ready(self, change: Change) -> StagedFile | None:
        """The frozen generation with all its bytes here; `thaw` follows. None: there are no bytes to send."""
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
        """Whether the document's version has these bytes already, as far as we know its hash."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            return False
        version, kept = known.node.version, known.node.kept
        if not kept.sha256 or kept.version_id != version.id or version.size_bytes != file.size_bytes:
            return False
        return await digest(file) == kept.sha256

    def nothing_new(self, change: Change, file: StagedFile) -> None:
        """The bytes are those of Procore's version: only their times are kept."""
        known = self._known(change)
        if known is None or known.node.version is None or known.node.kept is None:
            raise Superseded
        version = known.node.version
        change.kept = msgspec.structs.replace(
            change.kept, version_id=version.id, sha256=known.node.kept.sha256
        )
        self._results.nothing_new(change, file.number, version)

    def note_colleague(self, change: Change, known: Known, file: StagedFile) -> None:
        """Log it when ours comes on top of a version that the program that wrote here has not seen."""
        base = file.base
        if base is not None and known.node.version is not None and known.node.version.id != base.id:
            log.info(
                "%s has a newer version in Procore: ours comes on top, theirs stays in the history.",
                self._view.path(change.inode),
            )

    def _known(self, change: Change) -> Known | None:
        return self._store.known(change.document) if change.document is not None else None


class Uploader:
    """Sends generations; `note` writes the change down."""

    def __init__(self, uploads: Uploads, note: Callable[[Change], None]) -> None:
        self._uploads = uploads
        self._note = note
        self.sent_bytes: dict[int, int] = {}
        """Of the generations under way, by number."""

    async def store(self, change: Change, file: StagedFile, name: str) -> Upload:
        """Have the file's bytes in the storage; returns what the last call needs. Raises ProcoreError.

        The file must be complete and may not change meanwhile.
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
        """The last call is sent next; `before`: the document's newest version."""
        upload.is_used, upload.before = True, before
        self._note(change)

    def not_used(self, change: Change, upload: Upload) -> None:
        """The last call was refused."""
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
        """Those that have not arrived yet, a few at a time; the first failure ends them and is raised as itself."""
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
                except Exception as error:  # whatever it is, it is raised below
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
    """Whether the upload can be continued; one whose last call may have been sent always can."""
    begun = upload.whole or upload.segmented
    if begun is None or upload.is_used:
        return True
    age_s = clocks.unix_s() - begun.created_at_s
    return -UPLOAD_S < age_s < (UNUSED_S if upload.is_stored else UPLOAD_S)


def segment_size(size_bytes: int, *, all_at_once: bool) -> int:
    """Bytes of a segment; of a very large file they are larger, so that they stay countable.

    A transfer must begin within an hour of the upload's first step (procore-api.md, Uploading bytes). Where a line is
    so slow that the later segments can't, there are as few as are sent at a time.
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
