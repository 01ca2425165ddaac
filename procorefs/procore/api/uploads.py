"""Makes the calls of an upload: begin it at the API, send its bytes to the storage, complete it.

A change then names the upload by its `upload_uuid`. To begin one costs one call and may be repeated, since Procore
deletes an upload that is not used. The storage is not under the call limit and never sees a token. What an upload needs
to continue after a restart is in structs that JSON can hold.
"""

import logging
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import trio

from procorefs.limiter import Priority
from procorefs.procore.api.calls import Api, Call
from procorefs.procore.errors import (
    Gone,
    Invalid,
    Malformed,
    NotFound,
    ProcoreError,
    Unanswered,
    Unavailable,
    UploadExpired,
    UploadRefused,
    error_of_answer,
    sentence,
)
from procorefs.procore.http.addresses import redirected
from procorefs.procore.http.bodies import short_body
from procorefs.procore.http.file_body import FilePart, Progress, SourceFile, check
from procorefs.procore.http.http_client import Headers
from procorefs.procore.http.retry_policy import RetryPolicy
from procorefs.procore.wire import upload_decoding
from procorefs.procore.wire.paging import Answer
from procorefs.procore.wire.upload_decoding import (
    COMPLETE,
    SegmentedUpload,
    SegmentPlan,
    UploadLook,
    WholeUpload,
)
from procorefs.storage import clocks

log = logging.getLogger(__name__)

T = TypeVar("T")

EXPIRED = frozenset({401, 403, 404, 410})
FORGOTTEN = frozenset({404, 410})
"""By the API."""

BUSY = frozenset({408, 425, 429})
"""5xx are Unavailable anyway."""

FURTHER = frozenset({307, 308})
"""Redirects that keep method and body."""

MAX_REDIRECTS = 3
MIN_SEGMENT_BYTES = 5 * 1024 * 1024 + 1
"""Of every segment but the last: more than 5 MiB."""

MAX_SEGMENT_BYTES = 5 * 1024**3


def no_progress(_sent_bytes: int) -> None:
    """Ignores the progress."""


class Uploads:
    """Uploads into the settings' project, as its user."""

    def __init__(self, client: Api) -> None:
        self._client = client

    async def begin_whole(
        self,
        filename: str,
        content_type: str | None,
        size_bytes: int,
        *,
        priority: Priority = Priority.WRITING,
    ) -> WholeUpload:
        """An upload for a file in one piece. One call."""
        call = self._call("", f"begin the upload of {filename!r}", priority)
        body = {**_described(filename, content_type), "size": size_bytes}
        created_at_s = int(clocks.unix_s())
        answer = await self._begin(call, body)
        return upload_decoding.whole(answer.body, size_bytes, created_at_s, call.action)

    async def begin_segments(
        self,
        filename: str,
        content_type: str | None,
        segments: Sequence[SegmentPlan],
        *,
        priority: Priority = Priority.WRITING,
    ) -> SegmentedUpload:
        """An upload in segments, in this order. One call. Raises ValueError for a segment that is too small."""
        _check_sizes(segments)
        call = self._call("", f"begin the upload of {filename!r}", priority)
        body = {**_described(filename, content_type), "segments": [_planned(one) for one in segments]}
        created_at_s = int(clocks.unix_s())
        answer = await self._begin(call, body)
        return upload_decoding.segmented(answer.body, segments, created_at_s, call.action)

    async def _begin(self, call: Call, body: dict[str, Any]) -> Answer:
        """The first step. The route is there for every project, so a 404 is about no document and passes."""
        try:
            return await self._client.ask(call.sending("POST", body, harmless=True, needs=("write",)))
        except NotFound as error:
            raise _as(Unavailable, error) from error

    async def send_whole(
        self, upload: WholeUpload, source: SourceFile, progress: Progress = no_progress
    ) -> None:
        """Send a file in one piece. Raises UploadExpired, Unavailable, Silent; SourceChanged (a ValueError)."""
        if source.size_bytes != upload.size_bytes:
            raise ValueError(f"the upload was begun for {upload.size_bytes} bytes, not {source.size_bytes}")
        await check(source)
        boundary = secrets.token_hex(16)
        body = FilePart(
            source,
            0,
            source.size_bytes,
            progress,
            head=_form_head(upload.fields, boundary),
            tail=f"\r\n--{boundary}--\r\n".encode(),
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        await self._store("POST", upload.url, headers, body, "send the file to the storage")

    async def send_segment(
        self,
        upload: SegmentedUpload,
        index: int,
        source: SourceFile,
        offset: int,
        progress: Progress = no_progress,
    ) -> str:
        """Send the segment that begins at `offset` of the source; its etag comes back. Raises as `send_whole`."""
        segment = upload.segments[index]
        if not 0 <= offset <= source.size_bytes - segment.size_bytes:
            raise ValueError(f"segment {index + 1} does not lie inside the file")
        await check(source)
        body = FilePart(source, offset, segment.size_bytes, progress)
        action = f"send segment {index + 1} of {len(upload.segments)} to the storage"
        answered = await self._store("PUT", segment.url, segment.headers, body, action)
        etag = upload_decoding.bare_etag(answered.get("etag", ""))
        if etag is None:
            raise Malformed(f"Could not {action}: the storage did not say which bytes it has")
        return etag

    async def complete(
        self, upload: SegmentedUpload, etags: Sequence[str], *, priority: Priority = Priority.WRITING
    ) -> None:
        """Have the segments put together. One call; two when it was refused or its answer was lost.

        Raises UploadExpired, UploadRefused (a segment is missing or wrong: begin again); Unavailable when it has not
        been done yet.
        """
        call = self._call(f"/{upload.uuid}", "finish the upload", priority)
        done = [
            {**_planned(segment), "etag": etag} for segment, etag in zip(upload.segments, etags, strict=True)
        ]
        try:
            status = await self._client.change(
                call.sending("PATCH", {"segments": done}), upload_decoding.status_of
            )
        except (Unanswered, Invalid, Gone, NotFound) as error:
            if error.status in FORGOTTEN:
                raise _as(UploadExpired, error) from error
            status = (await self.look(upload.uuid, priority=priority)).status
            if status != COMPLETE and isinstance(error, Invalid):
                raise _as(UploadRefused, error) from error
        if status != COMPLETE:
            raise Unavailable(f"Could not {call.action}: Procore has not put it together yet")

    async def look(self, uuid: str, *, priority: Priority = Priority.WRITING) -> UploadLook:
        """What Procore has of an upload. Raises UploadExpired when it does not know it any more."""
        call = self._call(f"/{uuid}", "look at the upload", priority)
        try:
            answer = await self._client.ask(call)
        except (Gone, NotFound) as error:
            raise _as(UploadExpired, error) from error
        return upload_decoding.look(answer.body, call.action)

    def _call(self, path: str, action: str, priority: Priority) -> Call:
        _, project_id = self._client.company_and_project()
        return Call("uploads", f"/rest/v1.1/projects/{project_id}/uploads{path}", {}, action, priority)

    # The storage

    async def _store(
        self, method: str, url: str, headers: Mapping[str, str], body: FilePart, action: str
    ) -> Headers:
        """Send bytes to the storage, and repeat it after passing failures: the same bytes replace themselves."""
        sent = Headers({"Accept": "*/*"})
        sent.update(headers)  # whose names may differ in case
        sent["Content-Length"] = str(body.length)
        return await self._with_retries(lambda: self._sent(method, url, sent, body, action))

    async def _sent(
        self, method: str, url: str, headers: Mapping[str, str], body: FilePart, action: str
    ) -> Headers:
        """One try: the headers of the storage's answer."""
        for _ in range(MAX_REDIRECTS + 1):
            async with self._client.http.send(
                method,
                url,
                action=action,
                headers=headers,
                body=body,
                silence_s=self._client.settings.silence_s,
            ) as response:
                status, location = response.status_code, response.headers.get("location")
                said = await short_body(response)
                if 200 <= status < 300:
                    return response.headers
                if status not in FURTHER or not location:
                    raise _refusal(action, status, said)
                url = redirected(url, location)
        raise Malformed(f"Could not {action}: the storage redirects more than {MAX_REDIRECTS} times")

    async def _with_retries(self, send: Callable[[], Awaitable[T]]) -> T:
        retries = RetryPolicy(self._client.settings.retry_for_s, trio.current_time(), random.random)
        with self._client.connectivity.tries() as tries:
            while True:
                try:
                    return await send()
                except ProcoreError as error:
                    tries.failed(error)
                    pause_s = retries.pause_s(error, trio.current_time())
                    if pause_s is None:
                        raise
                    log.info("%s: trying again in %.1f s", error, pause_s)
                    await trio.sleep(pause_s)


def _refusal(action: str, status: int, said: bytes) -> ProcoreError:
    """What the storage's answer means; its own words are XML with a code in it."""
    code = re.search(rb"<Code>(\w{1,100})</Code>", said)
    words = code[1].decode() if code else ""
    if status in EXPIRED:
        return UploadExpired(sentence(UploadExpired, action, status, words), status=status)
    if status in BUSY or words in ("RequestTimeout", "SlowDown"):
        return Unavailable(
            f"Could not {action}: the storage is busy (HTTP {status}{': ' + words if words else ''})",
            status=status,
        )
    error = error_of_answer(action, status, said)
    return type(error)(sentence(type(error), action, status, words), status=status) if words else error


def _as(kind: type[ProcoreError], error: ProcoreError) -> ProcoreError:
    return kind(str(error), status=error.status, answer=error.answer)


def _described(filename: str, content_type: str | None) -> dict[str, Any]:
    named = {"response_filename": filename}
    return named | {"response_content_type": content_type} if content_type else named


def _planned(segment: SegmentPlan) -> dict[str, Any]:
    plan = {"size": segment.size_bytes, "sha256": segment.sha256}
    return plan | {"md5": segment.md5} if segment.md5 is not None else plan


def _check_sizes(segments: Sequence[SegmentPlan]) -> None:
    """Raises ValueError."""
    if not segments:
        raise ValueError("an upload in segments needs one at least")
    for number, segment in enumerate(segments, 1):
        least = 1 if number == len(segments) else MIN_SEGMENT_BYTES
        if not least <= segment.size_bytes <= MAX_SEGMENT_BYTES:
            raise ValueError(f"segment {number} must have {least} to {MAX_SEGMENT_BYTES} bytes")


def _form_head(fields: Mapping[str, str], boundary: str) -> bytes:
    """The form up to the file's first byte: the upload's fields as they came, then the part `file`."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = 'Content-Disposition: form-data; name="file"; filename="file"'
    kind = "Content-Type: application/octet-stream"
    return "".join([*parts, f"--{boundary}\r\n{file}\r\n{kind}\r\n\r\n"]).encode()
