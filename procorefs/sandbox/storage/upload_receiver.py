"""The store's other half: bytes of uploads on their way in, whole as a form or in segments, streamed to disk."""

import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from procorefs.sandbox.api.json_answers import Answer, Dropped
from procorefs.sandbox.api.query_parameters import integer
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.faults.fault_strikes import with_faults
from procorefs.sandbox.state import Sandbox
from procorefs.sandbox.storage.storage_host import refuse_bearer
from procorefs.sandbox.storage.upload_records import Upload, Uploads, segment_headers

_MAX_FIELD_BYTES = 64 * 1024


def upload_routes(sandbox: Sandbox) -> list[Route]:
    """Uploads of the store's own host."""

    def served(method: str, path: str, receive: Callable[[Sandbox, Request], Awaitable[Response]]) -> Route:
        async def work(request: Request) -> Response:
            try:
                return await receive(sandbox, request)
            except ApiError as error:
                return Answer(error.body(sandbox.dialect), error.status).response({})
            except ClientDisconnect:
                return Dropped()

        async def serve(request: Request) -> Response:
            return await with_faults(
                sandbox, f"storage {method}", request, lambda: work(request), is_api=False
            )

        return Route(path, serve, methods=[method])

    return [
        served("POST", "/uploads/{uuid}", _receive_whole),
        served("PUT", "/uploads/{uuid}/segments/{index}", _receive_segment),
    ]


async def _receive_whole(sandbox: Sandbox, request: Request) -> Response:
    """A form: the upload's fields unchanged, then the bytes as the part `file`."""
    upload = _startable(sandbox, request)
    if upload.segments is not None:
        raise ApiError(400, "This upload is in segments")
    target = sandbox.contents.path(upload.content_name)
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        form = _Form(request.headers.get("content-type", ""), file)
        async for piece in request.stream():
            form.feed(piece)
    size_bytes = form.finish(upload)
    part.replace(target)
    Uploads(sandbox).received_whole(upload, size_bytes)
    return Response(status_code=sandbox.dialect.stored_status, headers={"ETag": f'"{form.md5.hexdigest()}"'})


async def _receive_segment(sandbox: Sandbox, request: Request) -> Response:
    """The bytes of one segment, with exactly the headers that were given out."""
    upload = _startable(sandbox, request)
    index = integer("index", str(int(request.path_params["index"]) + 1)) - 1
    if upload.segments is None or index >= len(upload.segments):
        raise ApiError(404, "No such segment")
    if request.query_params.get("sig") != sandbox.urls.sign(f"{upload.uuid}/{index}"):
        raise ApiError(403, "The signature of the url is wrong")
    for name, value in segment_headers(sandbox, upload, index).items():
        if request.headers.get(name) != value:
            raise ApiError(403, f"The header {name} is missing or not the one that was given out")
    segment, target = upload.segments[index], sandbox.contents.path(upload.content_name)
    sha256, md5 = await _write_at(request, target, segment.offset, segment.size)
    if sha256 != segment.sha256 or segment.md5 not in (None, md5):
        raise ApiError(400, "The bytes are not those whose digest was announced")
    Uploads(sandbox).received_segment(upload.uuid, index, md5)
    return Response(status_code=200, headers={"ETag": f'"{md5}"'})


async def _write_at(request: Request, target: Path, offset: int, size_bytes: int) -> tuple[str, str]:
    """(SHA-256, MD5) of what was written. Raises ApiError 400 when it is longer or shorter than announced."""
    sha256, md5, written = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async for piece in request.stream():
            if written + len(piece) > size_bytes:
                raise ApiError(400, f"More than the {size_bytes} bytes that were announced")
            os.pwrite(fd, piece, offset + written)
            sha256.update(piece)
            md5.update(piece)
            written += len(piece)
    finally:
        os.close(fd)
    if written != size_bytes:
        raise ApiError(400, f"{written} bytes instead of the {size_bytes} that were announced")
    return sha256.hexdigest(), md5.hexdigest()


def _startable(sandbox: Sandbox, request: Request) -> Upload:
    """Raises ApiError: a bearer token, unknown, used, or begun too long ago."""
    refuse_bearer(request)
    uploads = Uploads(sandbox)
    upload = uploads.find(request.path_params["uuid"])
    if upload is None:
        raise ApiError(404, "No such upload")
    if not uploads.may_start(upload):
        raise ApiError(403, "Request has expired")
    if upload.state == "used":
        raise ApiError(403, "This upload was used already")
    return upload


class _Form:
    """Takes a multipart form apart while it arrives; the part `file` goes to disk."""

    def __init__(self, content_type: str, file: BinaryIO) -> None:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise ApiError(400, "The body must be multipart/form-data")
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._file = file
        self._size_bytes = 0
        self._parts: list[str] = []
        self._fields: dict[str, bytes] = {}
        self._header = (b"", b"")
        self._ended = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Raises ApiError 400."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise ApiError(400, f"The form is malformed: {error}") from error

    def finish(self, upload: Upload) -> int:
        """Size of the file in bytes. Raises ApiError 400, 403."""
        if not self._ended or self._parts[-1:] != ["file"] or self._parts.count("file") != 1:
            raise ApiError(400, "The form must end with one part named file")
        given = {name: value.decode(errors="replace") for name, value in self._fields.items()}
        if given != upload.fields:
            raise ApiError(403, "The form's fields are not those that were given out")
        if upload.size is not None and upload.size != self._size_bytes:
            raise ApiError(400, f"{self._size_bytes} bytes instead of the {upload.size} that were announced")
        return self._size_bytes

    def _begin_part(self) -> None:
        self._parts.append("")
        self._header = (b"", b"")

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], b"")

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        self._header = (b"", b"")
        if name.lower() == b"content-disposition":
            self._parts[-1] = parse_options_header(value)[1].get(b"name", b"").decode(errors="replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece, name = data[start:end], self._parts[-1]
        if name == "file":
            self._file.write(piece)
            self.md5.update(piece)
            self._size_bytes += len(piece)
            return
        self._fields[name] = self._fields.get(name, b"") + piece
        if len(self._fields[name]) > _MAX_FIELD_BYTES:
            raise ApiError(400, f"The field {name} is too long")

    def _end(self) -> None:
        self._ended = True
