"""The store: a host of its own that knows signed urls and no bearer tokens."""

import gzip
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from procorefs.sandbox.api.json_answers import Answer
from procorefs.sandbox.api.oauth_tokens import caller_of
from procorefs.sandbox.api.query_parameters import integer
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.faults.fault_strikes import with_faults
from procorefs.sandbox.project.records import Version
from procorefs.sandbox.project.roles import Right
from procorefs.sandbox.state import Sandbox
from procorefs.sandbox.storage.download import Bytes
from procorefs.sandbox.storage.range_header import NotSatisfiable, requested_range, still_same


def storage_routes(sandbox: Sandbox) -> list[Route]:
    """Downloads of the store's own host."""

    async def download(request: Request) -> Response:
        async def work() -> Response:
            return _refusing(sandbox, lambda: _download(sandbox, request))

        return await with_faults(sandbox, f"storage {request.method}", request, work, is_api=False)

    return [Route("/files/{version_id}", download, methods=["GET"])]


def redirect_routes(sandbox: Sandbox) -> list[Route]:
    """Version urls on the API's host: bearer wanted, and mostly a redirect to the store."""

    async def redirect(request: Request) -> Response:
        async def work() -> Response:
            return _refusing(sandbox, lambda: _redirect(sandbox, request))

        return await with_faults(sandbox, f"download {request.method}", request, work, is_api=False)

    return [Route("/webclients/files/{version_id}", redirect, methods=["GET"])]


def _refusing(sandbox: Sandbox, work: Callable[[], Response]) -> Response:
    """The work's answer, or its refusal as JSON."""
    try:
        return work()
    except ApiError as error:
        return Answer(error.body(sandbox.dialect), error.status).response({})


def refuse_bearer(request: Request) -> None:
    """Raises ApiError 400: a token for Procore was sent to the store."""
    if "authorization" in request.headers:
        raise ApiError(
            400, "Only one authentication mechanism is allowed: this url is signed, send no Authorization"
        )


def _redirect(sandbox: Sandbox, request: Request) -> Response:
    caller = caller_of(sandbox, request)
    version = _signed_version(sandbox, request)
    project_id = sandbox.store.value("SELECT project_id FROM documents WHERE id = ?", (version.document_id,))
    role = sandbox.store.role(caller.user.id, project_id)
    if role is None or not role.may(Right.READ):
        raise ApiError(403, "You do not have access to this file")
    expiry_s = sandbox.urls.expiry(sandbox.faults.settings.url_lifetime_s)
    if sandbox.dialect.version_urls == "api_bytes":
        return _bytes(sandbox, request, version)
    target = sandbox.urls.version(version.id, expiry_s, direct=True)
    return RedirectResponse(target, sandbox.dialect.redirect_status)


def _signed_version(sandbox: Sandbox, request: Request) -> Version:
    version_id = integer("version_id", request.path_params["version_id"])
    if not sandbox.urls.good(version_id, request.query_params.get("sig", "")):
        raise ApiError(sandbox.faults.settings.expired_status, "This url has expired")
    version = sandbox.store.version(version_id)
    if version is None:
        raise ApiError(404, "No such object")
    return version


def _download(sandbox: Sandbox, request: Request) -> Response:
    refuse_bearer(request)
    return _bytes(sandbox, request, _signed_version(sandbox, request))


def _bytes(sandbox: Sandbox, request: Request, version: Version) -> Response:
    settings = sandbox.faults.settings
    headers = _headers(sandbox, version)
    if sandbox.dialect.storage_gzip and "gzip" in request.headers.get("accept-encoding", ""):
        packed = gzip.compress(sandbox.contents.read(version))
        return Response(packed, 200, {**headers, "Content-Encoding": "gzip"})
    part = None
    if not settings.no_range:
        headers["Accept-Ranges"] = "bytes"
        if still_same(request.headers.get("if-range"), headers.get("ETag", "")):
            try:
                part = requested_range(request.headers.get("range"), version.size)
            except NotSatisfiable:
                return Response(
                    status_code=416, headers={**headers, "Content-Range": f"bytes */{version.size}"}
                )
    return _body(sandbox, version, part, headers)


def _body(
    sandbox: Sandbox, version: Version, part: tuple[int, int] | None, headers: dict[str, str]
) -> Response:
    settings = sandbox.faults.settings
    start, end = part or (0, version.size)
    if part is not None:
        if settings.short_range_bytes is not None:
            end = min(end, start + settings.short_range_bytes)
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{version.size}"
    sandbox.calls.stored_bytes_sent += end - start
    return Bytes(
        sandbox.contents.blob(version.source) or sandbox.contents.invented(version),
        start,
        end,
        status=206 if part is not None else 200,
        headers=headers,
        bandwidth_bytes_s=settings.bandwidth_bytes_s,
    )


def _headers(sandbox: Sandbox, version: Version) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream"}
    tag = f'"{sandbox.urls.sign(f"etag/{version.id}")}"'
    if sandbox.dialect.storage_etag == "strong":
        headers["ETag"] = tag
    elif sandbox.dialect.storage_etag == "weak":
        headers["ETag"] = f"W/{tag}"
    return headers
