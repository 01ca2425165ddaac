"""Begin an upload, show it, finish one in segments. (procore-api.md, Uploading bytes)"""

import re

import msgspec

from procorefs.sandbox.api.call_contract import Call, Endpoint
from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.refusals import ApiError, invalid
from procorefs.sandbox.project.procore_names import check_content
from procorefs.sandbox.project.roles import Right
from procorefs.sandbox.storage.upload_records import (
    MAX_SEGMENT_BYTES,
    MIN_SEGMENT_BYTES,
    Segment,
    Upload,
    Uploads,
    shown,
)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_MD5 = re.compile(r"[0-9a-fA-F]{32}\Z")


class SegmentWish(msgspec.Struct, forbid_unknown_fields=True):
    size: int
    sha256: str
    md5: str | msgspec.UnsetType = msgspec.UNSET


class UploadWish(msgspec.Struct, forbid_unknown_fields=True):
    response_filename: str
    response_content_type: str | msgspec.UnsetType = msgspec.UNSET
    attachment_content_disposition: bool | msgspec.UnsetType = msgspec.UNSET
    size: int | msgspec.UnsetType = msgspec.UNSET
    segments: list[SegmentWish] | msgspec.UnsetType = msgspec.UNSET


class SegmentDone(msgspec.Struct, forbid_unknown_fields=True):
    size: int
    sha256: str
    etag: str
    md5: str | msgspec.UnsetType = msgspec.UNSET


class UploadDone(msgspec.Struct, forbid_unknown_fields=True):
    segments: list[SegmentDone]


def create_upload(call: Call) -> Answer:
    project = call.project()
    call.check(project, Right.WRITE)
    wish = call.body(UploadWish)
    if not wish.response_filename:
        raise invalid("response_filename", "is empty")
    size = None if isinstance(wish.size, msgspec.UnsetType) else wish.size
    if size is not None and size < 0:
        raise invalid("size", "is negative")
    segments = None if isinstance(wish.segments, msgspec.UnsetType) else _checked(wish.segments, size)
    check_content(wish.response_filename, size, call.sandbox.dialect, at="upload")
    upload = Uploads(call.sandbox).begin(call.caller, project.id, wish.response_filename, size, segments)
    return Answer(shown(call.sandbox, upload), 201)


def show_upload(call: Call) -> Answer:
    return Answer(shown(call.sandbox, _own(call)))


def update_upload(call: Call) -> Answer:
    """All segments are there: put them together."""
    uploads, upload = Uploads(call.sandbox), _own(call)
    done = call.body(UploadDone).segments
    if uploads.expired(upload):
        raise ApiError(410, "This upload has expired")
    if upload.segments is None:
        raise ApiError(400, "This upload has no segments")
    if len(done) != len(upload.segments):
        raise ApiError(422, {"segments": [f"must be {len(upload.segments)}, as they were announced"]})
    for index, (told, known) in enumerate(zip(done, upload.segments, strict=True)):
        problem = _mismatch(call, told, known)
        if problem:
            raise ApiError(422, {"segments": [f"number {index + 1}: {problem}"]})
    if upload.state != "used":
        uploads.complete(upload)
    return Answer(shown(call.sandbox, upload))


def _own(call: Call) -> Upload:
    project = call.project()
    return Uploads(call.sandbox).own(call.caller, project.id, call.request.path_params["uuid"])


def _checked(wishes: list[SegmentWish], size: int | None) -> list[Segment]:
    """Raises ApiError 400."""
    if not wishes:
        raise invalid("segments", "is empty")
    for index, wish in enumerate(wishes):
        is_last = index == len(wishes) - 1
        least = 1 if is_last else MIN_SEGMENT_BYTES
        if not least <= wish.size <= MAX_SEGMENT_BYTES:
            raise invalid("segments", f"number {index + 1} must have {least} to {MAX_SEGMENT_BYTES} bytes")
        if not _SHA256.match(wish.sha256):
            raise invalid("segments", f"number {index + 1} has no SHA-256")
        if not isinstance(wish.md5, msgspec.UnsetType) and not _MD5.match(wish.md5):
            raise invalid("segments", f"number {index + 1} has no MD5")
    if size is not None and size != sum(wish.size for wish in wishes):
        raise invalid("size", "is not the sum of the segments")
    return [
        Segment(
            size=wish.size,
            sha256=wish.sha256.lower(),
            md5=None if isinstance(wish.md5, msgspec.UnsetType) else wish.md5.lower(),
        )
        for wish in wishes
    ]


def _mismatch(call: Call, told: SegmentDone, known: Segment) -> str:
    if known.etag is None:
        return "has not been uploaded"
    quoted = told.etag.startswith('"')
    if quoted and call.sandbox.dialect.etag_quotes == "refused":
        return "etag must have no quotes"
    md5 = None if isinstance(told.md5, msgspec.UnsetType) else told.md5.lower()
    if told.size != known.size or told.sha256.lower() != known.sha256 or md5 != known.md5:
        return "is not what was announced"
    return "" if told.etag.strip('"') == known.etag else "etag is not the store's"


ENDPOINTS = (
    Endpoint(method="POST", path="/rest/v1.1/projects/{project_id}/uploads", handler=create_upload),
    Endpoint(method="GET", path="/rest/v1.1/projects/{project_id}/uploads/{uuid}", handler=show_upload),
    Endpoint(method="PATCH", path="/rest/v1.1/projects/{project_id}/uploads/{uuid}", handler=update_upload),
)
