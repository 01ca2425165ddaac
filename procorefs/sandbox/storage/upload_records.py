"""Uploads: begun by the API, filled at the store, used once by one user. (procore-api.md, Uploading bytes)

An upload's bytes are one content file; the segments of an upload are written into it at their places.
"""

import secrets
from typing import Any

import msgspec

from procorefs.sandbox.api.refusals import ApiError, invalid, not_found
from procorefs.sandbox.faults.dialect import Dialect
from procorefs.sandbox.project.records import Caller, Json, Value
from procorefs.sandbox.state import Sandbox

START_WITHIN_S = 3600
USE_WITHIN_S = 7 * 86_400
MIN_SEGMENT_BYTES = 5 * 1024 * 1024 + 1
MAX_SEGMENT_BYTES = 5 * 1024 * 1024 * 1024


class Segment(msgspec.Struct, kw_only=True):
    """One part; `etag` is set when its bytes are there."""

    size: int
    sha256: str
    md5: str | None = None
    offset: int = 0
    etag: str | None = None


class Upload(msgspec.Struct, kw_only=True):
    """A row of the uploads."""

    uuid: str
    project_id: int
    user_id: int
    created_at: int
    filename: str
    size: int | None
    segments: list[Segment] | None
    state: str
    fields: dict[str, str]
    received: int | None

    @property
    def content_name(self) -> str:
        return f"u{self.uuid}"


class Uploads:
    """Reads and writes the uploads' rows."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store

    def begin(
        self, caller: Caller, project_id: int, filename: str, size: int | None, parts: list[Segment] | None
    ) -> Upload:
        uuid = secrets.token_hex(13).upper()
        offset = 0
        for part in parts or ():
            part.offset, offset = offset, offset + part.size
        upload = Upload(
            uuid=uuid,
            project_id=project_id,
            user_id=caller.user.id,
            created_at=self._sandbox.clock.now_s(),
            filename=filename,
            size=offset if parts else size,
            segments=parts,
            state="ready",
            fields={
                "key": f"{project_id}/{uuid}",
                "policy": secrets.token_urlsafe(24),
                "x-sandbox-signature": self._sandbox.urls.sign(f"upload/{uuid}"),
            },
            received=None,
        )
        self._write(upload)
        return upload

    def find(self, uuid: str) -> Upload | None:
        row = self._store.one(
            "SELECT uuid, project_id, user_id, created_at, filename, size, segments, state, fields, received"
            " FROM uploads WHERE uuid = ?",
            (uuid,),
        )
        if row is None:
            return None
        segments = msgspec.json.decode(row[6], type=list[Segment]) if row[6] is not None else None
        return Upload(
            uuid=row[0],
            project_id=row[1],
            user_id=row[2],
            created_at=row[3],
            filename=row[4],
            size=row[5],
            segments=segments,
            state=row[7],
            fields=msgspec.json.decode(row[8]),
            received=row[9],
        )

    def own(self, caller: Caller, project_id: int, uuid: str) -> Upload:
        """Raises ApiError 404, or 403 when somebody else made it."""
        upload = self.find(uuid)
        if upload is None or upload.project_id != project_id:
            raise ApiError(404, "Upload not found")
        if upload.user_id != caller.user.id:
            raise ApiError(403, "This upload was made by another user")
        return upload

    def expired(self, upload: Upload) -> bool:
        return self._sandbox.clock.now_s() - upload.created_at > USE_WITHIN_S

    def may_start(self, upload: Upload) -> bool:
        """May bytes still be sent to the store."""
        return self._sandbox.clock.now_s() - upload.created_at <= START_WITHIN_S

    def received_whole(self, upload: Upload, size_bytes: int) -> None:
        upload.received, upload.state = size_bytes, "complete"
        self._write(upload)

    def received_segment(self, uuid: str, index: int, etag: str) -> None:
        """Note one segment on the upload as it is now: others arrive at the same time."""
        upload = self.find(uuid)
        assert upload is not None
        assert upload.segments is not None
        upload.segments[index].etag = etag
        upload.state = "receiving"
        self._write(upload)

    def complete(self, upload: Upload) -> None:
        upload.received, upload.state = upload.size, "complete"
        self._write(upload)

    def is_used(self, uuid: str) -> bool:
        upload = self.find(uuid)
        return upload is not None and upload.state == "used"

    def use(self, caller: Caller, project_id: int, uuid: str) -> tuple[int, str]:
        """(size, source) of the bytes; the upload is used up. Raises ApiError."""
        upload = self.find(uuid)
        if upload is None or upload.project_id != project_id or self.expired(upload):
            raise invalid("upload_uuid", "is unknown or has expired")
        if upload.user_id != caller.user.id:
            raise ApiError(403, "This upload was made by another user")
        if upload.state == "used":
            raise _used(self._sandbox.dialect)
        if upload.state != "complete" or upload.received is None:
            raise invalid("upload_uuid", "has not been uploaded completely")
        upload.state = "used"
        self._write(upload)
        return upload.received, f"blob:{upload.content_name}"

    def _write(self, upload: Upload) -> None:
        segments: Value = None if upload.segments is None else msgspec.json.encode(upload.segments).decode()
        row: tuple[Any, ...] = (
            upload.uuid,
            upload.project_id,
            upload.user_id,
            upload.created_at,
            upload.filename,
            upload.size,
            segments,
            upload.state,
            msgspec.json.encode(upload.fields).decode(),
            upload.received,
        )
        self._store.execute("REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def shown(sandbox: Sandbox, upload: Upload) -> Json:
    """An upload as the API shows it."""
    if upload.segments is None:
        return {
            "uuid": upload.uuid,
            "url": sandbox.urls.upload(upload.uuid),
            "fields": upload.fields,
            "status": sandbox.dialect.upload_status or _status(upload, "non_segmented"),
        }
    return {
        "uuid": upload.uuid,
        "status": _status(upload, "ready"),
        "segments": [_shown_segment(sandbox, upload, index) for index in range(len(upload.segments))],
    }


def segment_headers(sandbox: Sandbox, upload: Upload, index: int) -> dict[str, str]:
    """What must come with a segment's PUT."""
    assert upload.segments is not None
    return {
        "x-sandbox-content-sha256": upload.segments[index].sha256,
        "x-sandbox-signature": sandbox.urls.sign(f"segment/{upload.uuid}/{index}"),
    }


def _used(dialect: Dialect) -> ApiError:
    match dialect.used_upload:
        case "field" | "conflict":
            return invalid("upload_uuid", "has already been used")
        case "words":
            return ApiError(400, {"base": ["The upload was used before"]})
        case "unnamed":
            return ApiError(400, "Something is wrong with this request")
        case "missing":
            return not_found("Resource")


def _status(upload: Upload, at_first: str) -> str:
    return {"used": "complete", "ready": at_first}.get(upload.state, upload.state)


def _shown_segment(sandbox: Sandbox, upload: Upload, index: int) -> Json:
    assert upload.segments is not None
    segment = upload.segments[index]
    return {
        "size": str(segment.size) if sandbox.dialect.segment_size_as_text else segment.size,
        "sha256": segment.sha256,
        "md5": segment.md5,
        "etag": segment.etag,
        "url": sandbox.urls.segment(upload.uuid, index),
        "headers": segment_headers(sandbox, upload, index),
    }
