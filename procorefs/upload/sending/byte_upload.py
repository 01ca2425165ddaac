"""Uploads the bytes of one generation to the storage, step by step; each step is written down before the next one.

    generation ─▶ digests ─▶ begin (1 call) ─▶ bytes to the storage ─▶ segments put together (1 call) ─▶ is_stored

What makes a version of it is the last call of file_calls.py. An upload that was cut off goes on with the segments that
are missing; one that has expired begins again.
"""

import mimetypes
from collections.abc import Callable

import trio

from procorefs.journal.change import Change, Upload
from procorefs.procore.api.uploads import MAX_SEGMENT_BYTES, Uploads
from procorefs.procore.errors import UploadExpired, UploadRefused
from procorefs.procore.wire.models import VersionId
from procorefs.procore.wire.upload_decoding import SegmentedUpload, SegmentPlan
from procorefs.staging.staging_area import StagedFile
from procorefs.staging.whole_file import digest, segment_digests
from procorefs.storage import clocks

WHOLE_BYTES = 32 << 20
"""Larger files are sent in segments: a transfer that broke off does not begin at zero."""

SEGMENT_BYTES = 16 << 20
MOST_SEGMENTS = 1000
SEGMENTS_AT_ONCE = 4
UPLOAD_S = 3000.0
"""A transfer begins within this time of its first step, else the step is made again: Procore grants an hour."""

UNUSED_S = 6 * 86_400.0
"""Stored bytes that wait longer to be used are sent again: Procore keeps them for a week."""


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
            upload = change.upload = Upload(generation=file.number, sha256=await digest(file))
        if upload.is_stored:
            return upload
        try:
            self.sent_bytes[file.number] = 0
            with file.held():
                await self._send(change, upload, file, name)
        except (UploadExpired, UploadRefused) as error:
            change.is_on_slow_line |= isinstance(error, UploadExpired) and bool(upload.etags)
            change.upload = None
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
            await self._uploads.send_whole(upload.whole, file, self._progress(file.number))
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
        failures: list[Exception] = []

        async def send_some(nursery: trio.Nursery) -> None:
            while missing:
                index = missing.pop(0)
                try:
                    upload.etags[index] = await self._uploads.send_segment(
                        segmented, index, file, offsets[index]
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
