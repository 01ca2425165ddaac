"""Bytes to the storage: all of them or an error, without a token, moving or given up."""

import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import trio

from procorefs.procore.api.changes import FileChange, ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.api.uploads import MIN_SEGMENT_BYTES, Uploads
from procorefs.procore.errors import (
    Forbidden,
    Invalid,
    Malformed,
    ProcoreError,
    Silent,
    Unavailable,
    UploadExpired,
    UploadRefused,
)
from procorefs.procore.http import file_body
from procorefs.procore.http.file_body import SourceChanged, SourceFile
from procorefs.procore.wire.models import Document
from procorefs.procore.wire.upload_decoding import SegmentedUpload, SegmentPlan, WholeUpload
from tests.support.api_client import client_of, fetched, random_bytes, staged
from tests.support.raw_server import KeepingServer, http, raw_server
from tests.support.sandbox import SandboxHandle

SIZE = 3 * 1024 * 1024 + 7
BYTES = random_bytes(SIZE)
BEGIN = "POST /rest/v1.1/projects/{project_id}/uploads"
FINISH = "PATCH /rest/v1.1/projects/{project_id}/uploads/{uuid}"
POST = "storage POST"
PUT = "storage PUT"

IN_SEGMENTS = random_bytes(2 * MIN_SEGMENT_BYTES + 100_003)
STARTS = range(0, len(IN_SEGMENTS), MIN_SEGMENT_BYTES)


def plan(content: bytes = IN_SEGMENTS, *, md5: bool = False) -> list[SegmentPlan]:
    parts = [
        content[start : start + MIN_SEGMENT_BYTES] for start in range(0, len(content), MIN_SEGMENT_BYTES)
    ]
    return [
        SegmentPlan(
            size_bytes=len(part),
            sha256=hashlib.sha256(part).hexdigest(),
            md5=hashlib.md5(part).hexdigest() if md5 else None,
        )
        for part in parts
    ]


class ClientAndUploads:
    """A client, its uploads, and how often it told of progress."""

    def __init__(self, sandbox: SandboxHandle, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self.uploads = Uploads(client)
        self.changes = ProjectChanges(client)
        self.sent: list[int] = []

    async def send(self, content: bytes = BYTES) -> WholeUpload:
        begun = await self.uploads.begin_whole("x.bin", "application/pdf", len(content))
        with staged(content) as source:
            await self.uploads.send_whole(begun, source, self.sent.append)
        return begun

    async def made(self, uuid: str) -> bytes:
        """The bytes of a new file of this upload."""
        document: Document = await self.changes.create_file(None, f"{uuid}.bin", uuid)
        assert document.version is not None
        return await fetched(Downloads(self.client), document.version)

    async def send_segments(self, begun: SegmentedUpload, source: SourceFile) -> list[str]:
        return [
            await self.uploads.send_segment(begun, index, source, start, self.sent.append)
            for index, start in enumerate(STARTS)
        ]


@pytest.fixture
async def set_up(sandbox: SandboxHandle) -> AsyncIterator[ClientAndUploads]:
    async with client_of(sandbox, silence_s=3.0) as client:
        await client.me()
        client.stats.by_route.clear()
        yield ClientAndUploads(sandbox, client)


@pytest.mark.parametrize("size", [0, 1, file_body.SEND_BYTES, file_body.READ_BYTES, SIZE])
@pytest.mark.parametrize("stored_status", [200, 201, 204])
async def test_a_file_in_one_piece(set_up: ClientAndUploads, size: int, stored_status: int) -> None:
    set_up.sandbox.faults(dialect={"stored_status": stored_status})
    begun = await set_up.send(BYTES[:size])
    assert await set_up.made(begun.uuid) == BYTES[:size]
    assert set_up.client.stats.by_route == {"POST uploads": 1, "POST files": 1}
    assert set_up.sent[-1:] == ([size] if size else [])
    assert set_up.sent == sorted(set(set_up.sent))
    assert all(
        later - earlier <= file_body.SEND_BYTES
        for earlier, later in zip([0, *set_up.sent], set_up.sent, strict=False)
    )


@pytest.mark.parametrize("md5", [False, True])
@pytest.mark.parametrize("size_as_text", [False, True])
async def test_a_file_in_segments(set_up: ClientAndUploads, md5: bool, size_as_text: bool) -> None:
    set_up.sandbox.faults(dialect={"etag_quotes": "refused", "segment_size_as_text": size_as_text})
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(md5=md5))
    with staged(IN_SEGMENTS) as source:
        etags = await set_up.send_segments(begun, source)
    await set_up.uploads.complete(begun, etags)
    assert set_up.client.stats.by_route == {"POST uploads": 1, "PATCH uploads": 1}
    assert await set_up.made(begun.uuid) == IN_SEGMENTS
    assert set_up.sent.count(MIN_SEGMENT_BYTES) == 2


async def test_segments_in_any_order_and_after_a_restart(set_up: ClientAndUploads) -> None:
    """What the journal stores is enough to go on with what is missing."""
    begun = await set_up.uploads.begin_segments("x.bin", None, plan())
    with staged(IN_SEGMENTS) as source:
        etags = {2: await set_up.uploads.send_segment(begun, 2, source, STARTS[2])}
        stored = msgspec.json.encode((begun, etags))
        async with client_of(set_up.sandbox) as later:
            uploads = Uploads(later)
            known, etags = msgspec.json.decode(stored, type=tuple[SegmentedUpload, dict[int, str]])
            assert known == begun
            seen = await uploads.look(known.uuid)
            assert (seen.status, seen.etags) == ("receiving", [None, None, etags[2]])
            with pytest.raises(UploadRefused):
                await uploads.complete(known, ["x", "y", etags[2]])
            for index in (1, 0):
                etags[index] = await uploads.send_segment(known, index, source, STARTS[index])
            await uploads.complete(known, [f'"{etags[index]}"' for index in range(3)])
    assert (await set_up.uploads.look(begun.uuid)).status == "complete"
    assert await set_up.made(begun.uuid) == IN_SEGMENTS


def test_an_upload_survives_as_json() -> None:
    upload = WholeUpload("u", "https://x/y", {"key": "a\nb"}, 5, 7)
    assert msgspec.json.decode(msgspec.json.encode(upload), type=WholeUpload) == upload


async def test_segments_that_nobody_would_take_are_not_announced(set_up: ClientAndUploads) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    small = SegmentPlan(size_bytes=10, sha256=digest)
    for segments in ([], [small, small], [SegmentPlan(size_bytes=0, sha256=digest)]):
        with pytest.raises(ValueError, match="segment"):
            await set_up.uploads.begin_segments("x", None, segments)
    assert set_up.client.stats.by_route == {}


# --- what goes wrong at the API ---


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "drop", "when": "after"},
        {"kind": "error", "when": "after", "status": 500},
        {"kind": "cut", "after_bytes": 20},
        {"kind": "error", "status": 503, "retry_after": 1},
    ],
    ids=lambda rule: f"{rule['kind']} {rule.get('status', '')}",
)
async def test_beginning_is_harmless_and_so_repeated(set_up: ClientAndUploads, rule: dict[str, Any]) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": BEGIN, "count": 1}])
    begun = await set_up.send(b"abc")
    assert await set_up.made(begun.uuid) == b"abc"
    assert set_up.client.stats.by_route == {"POST uploads": 2, "POST files": 1}


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "{}",
        '{"uuid": "x", "url": "https://store/x"}',
        '{"uuid": "x", "url": "http://store/x", "fields": {}}',
        '{"uuid": "x", "url": "file:///etc/passwd", "fields": {}}',
        '{"uuid": "../x", "url": "https://store/x", "fields": {}}',
        '{"uuid": 5, "url": "https://store/x", "fields": {}}',
        '{"uuid": "x", "url": "https://store/x", "fields": {"a": 5}}',
        '{"uuid": "x", "url": "https://store/x", "fields": {"a\\r\\nb": "c"}}',
    ],
)
async def test_nonsense_about_an_upload_is_refused(set_up: ClientAndUploads, answer: str) -> None:
    set_up.sandbox.faults(rules=[{"kind": "wrong_type", "route": BEGIN, "body": answer}])
    with pytest.raises(Malformed, match="Could not begin the upload of 'x"):
        await set_up.uploads.begin_whole("x.bin", None, 3)
    assert set_up.client.stats.by_route == {"POST uploads": 1}
    set_up.sandbox.forget_violations()


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "drop", "when": "after"},
        {"kind": "error", "when": "after", "status": 502},
        {"kind": "not_json"},
    ],
    ids=lambda rule: str(rule["kind"]),
)
async def test_a_lost_answer_to_the_finish_is_looked_up(
    set_up: ClientAndUploads, rule: dict[str, Any]
) -> None:
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"small") as source:
        etag = await set_up.uploads.send_segment(begun, 0, source, 0)
    set_up.sandbox.faults(rules=[{**rule, "route": FINISH, "count": 1}])
    await set_up.uploads.complete(begun, [etag])
    assert set_up.client.stats.by_route == {"POST uploads": 1, "PATCH uploads": 1, "GET uploads": 1}
    assert await set_up.made(begun.uuid) == b"small"
    set_up.sandbox.forget_violations()


async def test_a_finish_that_was_not_done_can_be_done_later(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"small") as source:
        etag = await set_up.uploads.send_segment(begun, 0, source, 0)
    set_up.sandbox.faults(rules=[{"kind": "drop", "route": FINISH, "count": 1}])
    with pytest.raises(Unavailable, match="not put it together"):
        await set_up.uploads.complete(begun, [etag])
    await set_up.uploads.complete(begun, [etag])
    await set_up.uploads.complete(begun, [etag])  # once more does no harm


async def test_an_upload_that_is_too_old(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    late = await set_up.uploads.begin_whole("x.bin", None, len(BYTES))
    set_up.sandbox.faults(clock_shift_s=3601.0)
    with staged(b"small") as source, pytest.raises(UploadExpired, match="has expired"):
        await set_up.uploads.send_segment(begun, 0, source, 0)
    with staged(BYTES) as source, pytest.raises(UploadExpired):
        await set_up.uploads.send_whole(late, source)
    set_up.sandbox.faults(clock_shift_s=8 * 86_400.0)
    with pytest.raises(UploadExpired):
        await set_up.uploads.complete(begun, ["x"])
    with pytest.raises(UploadExpired):
        await set_up.uploads.look("0" * 26)


async def test_an_upload_of_somebody_else(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_whole("x.bin", None, 3)
    second = {name: set_up.sandbox.second[name] for name in ("client_id", "client_secret")}
    async with client_of(set_up.sandbox, None, **second) as other:
        with pytest.raises(Forbidden):
            await Uploads(other).look(begun.uuid)


# --- what goes wrong at the storage ---


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "drop", "when": "after"},
        {"kind": "drop"},
        {"kind": "error", "status": 500},
        {"kind": "error", "status": 503},
        {"kind": "error", "status": 429},
        {"kind": "error", "status": 408},
    ],
    ids=lambda rule: f"{rule['kind']} {rule.get('status', '')}",
)
async def test_the_same_bytes_are_sent_again(set_up: ClientAndUploads, rule: dict[str, Any]) -> None:
    set_up.sandbox.faults(rules=[{**rule, "route": POST, "count": 2}, {**rule, "route": PUT, "count": 1}])
    begun = await set_up.send()
    assert await set_up.made(begun.uuid) == BYTES
    parts = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"small") as source:
        etag = await set_up.uploads.send_segment(parts, 0, source, 0)
    await set_up.uploads.complete(parts, [etag])
    other = set_up.sandbox.calls()["other"]
    assert (other[POST], other[PUT]) == (3, 2)
    assert sum(set_up.client.stats.by_route.values()) == 4


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_storage_that_does_not_know_the_upload(set_up: ClientAndUploads, status: int) -> None:
    set_up.sandbox.faults(rules=[{"kind": "error", "status": status, "route": "storage P*"}])
    with pytest.raises(UploadExpired):
        await set_up.send()
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"small") as source, pytest.raises(UploadExpired):
        await set_up.uploads.send_segment(begun, 0, source, 0)
    assert set_up.sandbox.calls()["other"][POST] == 1


async def test_a_storage_that_stays_broken_is_given_up(set_up: ClientAndUploads) -> None:
    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, retry_for_s=1.0)
    set_up.sandbox.faults(rules=[{"kind": "error", "status": 500, "route": POST}])
    with trio.fail_after(10), pytest.raises(Unavailable, match="HTTP 500"):
        await set_up.send()


async def test_wrong_bytes_are_refused_for_good(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"other") as source, pytest.raises(Invalid):
        await set_up.uploads.send_segment(begun, 0, source, 0)
    assert set_up.sandbox.calls()["other"][PUT] == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_silent_storage_is_left(set_up: ClientAndUploads, when: str) -> None:
    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, silence_s=0.5)
    set_up.sandbox.faults(rules=[{"kind": "silence", "route": POST, "when": when}])
    with trio.fail_after(10), pytest.raises(Silent):
        await set_up.send(random_bytes(20 * 1024 * 1024))
    assert set_up.sandbox.calls()["other"][POST] == 1


async def test_an_upload_can_be_left_at_once(set_up: ClientAndUploads) -> None:
    set_up.sandbox.faults(rules=[{"kind": "silence", "route": POST}])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_up.send, random_bytes(20 * 1024 * 1024))
        await set_up.sandbox.silent_calls()
        began_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s < 2
    set_up.sandbox.release()
    begun = await set_up.send()
    assert await set_up.made(begun.uuid) == BYTES


# --- the source ---


@contextmanager
def said_to_have(content: bytes, size: int) -> Iterator[SourceFile]:
    with staged(content) as source:
        yield SourceFile(source.fd, size)


@pytest.mark.parametrize("difference", [-1, 1, -SIZE])
async def test_a_file_of_another_size_sends_nothing(set_up: ClientAndUploads, difference: int) -> None:
    begun = await set_up.uploads.begin_whole("x.bin", None, SIZE)
    with said_to_have(random_bytes(SIZE + difference), SIZE) as source, pytest.raises(SourceChanged):
        await set_up.uploads.send_whole(begun, source)
    with staged(b"abc") as source, pytest.raises(ValueError, match="begun for"):
        await set_up.uploads.send_whole(begun, source)
    assert POST not in set_up.sandbox.calls()["other"]


@pytest.mark.parametrize("new_size", [SIZE - 1, SIZE + 1, 100_000])
async def test_a_file_that_changes_its_size_while_it_is_sent_never_arrives(
    set_up: ClientAndUploads, new_size: int
) -> None:
    begun = await set_up.uploads.begin_whole("x.bin", None, SIZE)
    with staged(BYTES) as source:

        def change(sent_bytes: int) -> None:
            if sent_bytes <= 2 * file_body.SEND_BYTES:
                os.truncate(source.fd, new_size)

        with pytest.raises(SourceChanged):
            await set_up.uploads.send_whole(begun, source, change)
    with pytest.raises(UploadRefused):
        await set_up.changes.create_file(None, "x.bin", begun.uuid)
    again = await set_up.send()
    assert await set_up.made(again.uuid) == BYTES


async def test_a_segment_outside_the_file_is_a_mistake(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"small"))
    with staged(b"small") as source, pytest.raises(ValueError, match="inside"):
        await set_up.uploads.send_segment(begun, 0, source, 1)


async def test_an_error_of_who_watches_ends_the_upload(set_up: ClientAndUploads) -> None:
    def watch(sent_bytes: int) -> None:
        raise KeyError(sent_bytes)

    begun = await set_up.uploads.begin_whole("x.bin", None, SIZE)
    with staged(BYTES) as source, pytest.raises(KeyError):
        await set_up.uploads.send_whole(begun, source, watch)


async def test_the_file_is_never_read_on_the_loop(
    set_up: ClientAndUploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = set()
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        readers.add(threading.get_ident())
        return real(fd, min(count, 300_000), offset)  # short reads are gone on with

    monkeypatch.setattr(os, "pread", pread)
    begun = await set_up.send()
    monkeypatch.undo()
    assert readers
    assert threading.get_ident() not in readers
    assert await set_up.made(begun.uuid) == BYTES


# --- what no decent storage does ---


async def test_a_slow_line_is_not_silence(set_up: ClientAndUploads) -> None:
    """The bytes of an upload that moves slowly must not all lie in the kernel while we wait for an answer: trio
    lets it take no more than it can soon send (TCP_NOTSENT_LOWAT)."""
    storage = KeepingServer(64 * 1024, pause_s=0.05)
    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, silence_s=0.7)
    content = BYTES[: 1024 * 1024]
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        listeners[0].socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 64 * 1024)
        nursery.start_soon(trio.serve_listeners, storage.serve, listeners)
        port = listeners[0].socket.getsockname()[1]
        upload = WholeUpload("u", f"http://127.0.0.1:{port}/up?sig=1", {"key": 'a "b"\n'}, len(content), 0)
        with staged(content) as source:
            await set_up.uploads.send_whole(upload, source)
        nursery.cancel_scope.cancel()
    head = storage.head.lower()
    assert b"authorization" not in head
    assert b"procore-company-id" not in head
    first, rest = storage.body.split(b"\r\n\r\n", 1)
    assert first.endswith(b'Content-Disposition: form-data; name="key"')
    assert rest.startswith(b'a "b"\n\r\n--')
    assert content in storage.body


def _redirect(where: str, status: str = "307 Temporary Redirect") -> bytes:
    return http(status, {"Location": where, "Content-Length": "0"})


async def test_a_storage_may_send_on_to_another(set_up: ClientAndUploads) -> None:
    begun = await set_up.uploads.begin_whole("x.bin", None, 3)
    async with raw_server(lambda _head: _redirect(begun.url)) as first:
        moved = msgspec.structs.replace(begun, url=f"{first.url}/up")
        with staged(b"abc") as source:
            await set_up.uploads.send_whole(moved, source)
    assert await set_up.made(begun.uuid) == b"abc"
    for where, status in (
        ("http://store.example/x", "307 Temporary Redirect"),
        ("/again", "308 Permanent Redirect"),
        ("https://store.example/x", "302 Found"),
    ):
        answer = _redirect(where, status)
        async with raw_server(lambda _head, answer=answer: answer) as first:  # type: ignore[misc]
            moved = msgspec.structs.replace(begun, url=f"{first.url}/up")
            with staged(b"abc") as source, pytest.raises(Malformed):
                await set_up.uploads.send_whole(moved, source)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("403 Forbidden", "<Error><Code>AccessDenied</Code></Error>", UploadExpired),
        ("400 Bad Request", "<Error><Code>EntityTooLarge</Code></Error>", Invalid),
        ("400 Bad Request", "<Error><Code>RequestTimeout</Code></Error>", Unavailable),
        ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", Unavailable),
    ],
)
async def test_a_storage_says_why_in_its_own_way(
    set_up: ClientAndUploads, status: str, body: str, kind: type[ProcoreError]
) -> None:
    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, retry_for_s=0.1)
    answer = http(status, {"Content-Length": str(len(body))}, body.encode())
    code = body.split("<Code>")[1].split("<")[0]
    async with raw_server(lambda _head: answer) as server:
        upload = WholeUpload("u", f"{server.url}/up", {}, 3, 0)
        with staged(b"abc") as source, pytest.raises(kind, match=code):
            await set_up.uploads.send_whole(upload, source)


async def test_a_segment_without_an_etag_does_not_count(set_up: ClientAndUploads) -> None:
    async with raw_server(lambda _head: http("200 OK", {"Content-Length": "0"})) as server:
        begun = await set_up.uploads.begin_segments("x.bin", None, plan(b"abc"))
        segment = msgspec.structs.replace(
            begun.segments[0], url=server.url, headers={"content-length": "3", "x-amz-a": "b"}
        )
        with staged(b"abc") as source, pytest.raises(Malformed, match="which bytes"):
            await set_up.uploads.send_segment(
                msgspec.structs.replace(begun, segments=[segment]), 0, source, 0
            )
    head = server.requests[0].lower()
    assert head.count("content-length") == 1
    assert "x-amz-a: b" in head
    assert "content-type" not in head
    assert "transfer-encoding" not in head


async def test_a_new_version_by_segments(set_up: ClientAndUploads) -> None:
    first = await set_up.send(b"first")
    made = await set_up.changes.create_file(None, "a.bin", first.uuid)
    begun = await set_up.uploads.begin_segments("a.bin", None, plan())
    with staged(IN_SEGMENTS) as source:
        await set_up.uploads.complete(begun, await set_up.send_segments(begun, source))
    changed = await set_up.changes.update_file(made.id, FileChange(upload_uuid=begun.uuid))
    assert changed.version is not None
    assert (changed.version.number, changed.version.size_bytes) == (2, len(IN_SEGMENTS))
    assert sum(set_up.client.stats.by_route.values()) == 5


def test_a_temporary_file_is_a_source() -> None:
    with tempfile.TemporaryFile() as file:
        source: SourceFile = SourceFile(file.fileno(), 0)
        assert source.size_bytes == 0
