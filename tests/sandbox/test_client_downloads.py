"""Streams of bytes: exactly what was asked for, or an error, whatever the storage does."""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio

from procorefs.procore.api.client import Client
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.errors import Forbidden, Malformed, NotFound, ProcoreError, Silent, Unavailable
from procorefs.procore.wire.models import Version, VersionId
from tests.support.api_client import client_of, fetched, put_file, random_bytes, version_of
from tests.support.raw_server import http, raw_server
from tests.support.sandbox import SandboxHandle

SIZE = 3 * 1024 * 1024 + 7
BYTES = random_bytes(SIZE)
STORAGE = "storage GET"
VERSIONS = "GET /rest/v1.0/file_versions/{id}"


class ClientAndDownloads:
    """A client, its downloads, and one file in the sandbox."""

    def __init__(self, client: Client, version: Version) -> None:
        self.client = client
        self.downloads = Downloads(client)
        self.version = version

    async def read(self, start: int = 0, end: int = SIZE) -> bytes:
        return await fetched(self.downloads, self.version, start, end)


@pytest.fixture
async def set_up(sandbox: SandboxHandle) -> AsyncIterator[ClientAndDownloads]:
    file_id = put_file(sandbox, BYTES)
    async with client_of(sandbox, silence_s=3.0) as client:
        made = ClientAndDownloads(client, await version_of(client, file_id))
        sandbox.reset_calls()
        yield made


@pytest.mark.parametrize("urls", ["api", "storage"])
@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
async def test_any_range_of_any_storage(sandbox: SandboxHandle, urls: str, etag: str) -> None:
    sandbox.faults(dialect={"version_urls": urls, "storage_etag": etag, "storage_gzip": True})
    file_id = put_file(sandbox, BYTES)
    async with client_of(sandbox) as client:
        version = await version_of(client, file_id)
        downloads = Downloads(client)
        for start, end in [(0, SIZE), (0, 1), (SIZE - 1, SIZE), (5, 1_500_000), (7, 7)]:
            assert await fetched(downloads, version, start, end) == BYTES[start:end]
        assert client.stats.by_route == {"GET files": 1}  # storage costs no calls


async def test_reading_costs_no_calls_and_no_bytes_that_nobody_asked_for(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    await set_up.read(1000, 2000)
    assert sandbox.calls()["total"] == 0
    assert sandbox.calls()["storage_bytes_sent"] == 1000


async def test_an_empty_range_asks_nobody(sandbox: SandboxHandle, set_up: ClientAndDownloads) -> None:
    assert await set_up.read(5, 5) == b""
    assert sandbox.calls()["other"] == {}
    with pytest.raises(ValueError, match="inside"):
        await set_up.read(0, SIZE + 1)


async def test_pieces_are_big_and_never_empty(set_up: ClientAndDownloads) -> None:
    async with set_up.downloads.stream(set_up.version, 0, SIZE) as pieces:
        sizes = [len(piece) async for piece in pieces]
    assert min(sizes) > 0
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("settings", [{"no_range": True}, {"short_range_bytes": 400_000}])
async def test_a_storage_that_does_ranges_its_own_way(
    sandbox: SandboxHandle, set_up: ClientAndDownloads, settings: dict[str, Any]
) -> None:
    sandbox.faults(settings=settings)
    for start, end in [(0, SIZE), (1_000_000, 2_500_000), (SIZE - 1, SIZE)]:
        assert await set_up.read(start, end) == BYTES[start:end]


@pytest.mark.parametrize("no_range", [False, True])
@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "cut", "after_bytes": 700_000, "count": 2},
        {"kind": "drop", "count": 2},
        {"kind": "error", "status": 500, "count": 2},
        {"kind": "error", "status": 503, "count": 1, "retry_after": 1},
        {"kind": "error", "status": 429, "count": 1},
    ],
    ids=lambda rule: f"{rule['kind']} {rule.get('status', '')}",
)
async def test_a_broken_body_goes_on_where_it_stopped(
    sandbox: SandboxHandle, set_up: ClientAndDownloads, rule: dict[str, Any], no_range: bool
) -> None:
    sandbox.faults(rules=[{**rule, "route": STORAGE}], settings={"no_range": no_range})
    assert await set_up.read() == BYTES
    assert sandbox.calls()["total"] == 0
    if rule["kind"] == "cut" and not no_range:
        asked_for = sandbox.calls()["storage_bytes_sent"]
        assert asked_for == SIZE + (SIZE - 700_000) + (SIZE - 1_400_000)


async def test_a_storage_that_stays_broken_is_given_up(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(rules=[{"kind": "cut", "after_bytes": 1000, "route": STORAGE}])
    set_up.client.settings = msgspec.structs.replace(set_up.client.settings, silence_s=0.5)
    with trio.fail_after(15), pytest.raises(Unavailable, match="Could not read the file"):
        await set_up.read()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_address_is_looked_up_once_for_all(
    sandbox: SandboxHandle, set_up: ClientAndDownloads, status: int
) -> None:
    sandbox.faults(expire_urls=True, settings={"expired_status": status})
    found: list[bytes] = []

    async def reader(start: int) -> None:
        found.append(await set_up.read(start, start + 1000))

    async with trio.open_nursery() as nursery:
        for start in range(0, 5000, 1000):
            nursery.start_soon(reader, start)
    assert sorted(found) == sorted(BYTES[start : start + 1000] for start in range(0, 5000, 1000))
    assert await set_up.read(0, 10) == BYTES[:10]  # the new address is remembered
    assert sandbox.calls()["by_route"] == {VERSIONS: 1}


async def test_a_newer_listing_beats_what_was_looked_up(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(expire_urls=True)
    await set_up.read(0, 10)
    sandbox.faults(expire_urls=True)
    set_up.version = await set_up.client.file_version(set_up.version.id, priority=0)  # type: ignore[arg-type]
    sandbox.reset_calls()
    assert await set_up.read(0, 10) == BYTES[:10]
    assert sandbox.calls()["total"] == 0


async def test_an_address_that_stays_refused_is_an_error(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(rules=[{"kind": "error", "status": 403, "route": STORAGE}])
    with pytest.raises(Forbidden, match="Could not read the file"):
        await set_up.read()
    assert sandbox.calls()["by_route"] == {VERSIONS: 1}


async def test_a_version_that_is_gone_is_an_error(sandbox: SandboxHandle, set_up: ClientAndDownloads) -> None:
    sandbox.faults(
        expire_urls=True, rules=[{"kind": "error", "status": 404, "route": "GET /rest/v1.0/file_versions/*"}]
    )
    with pytest.raises(NotFound):
        await set_up.read()


async def test_an_expired_token_at_the_apis_own_host_is_renewed(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(expire_tokens=True)
    assert await set_up.read() == BYTES
    assert sandbox.calls()["total"] == 0


async def test_silence_ends_the_read_and_cancelling_ends_it_at_once(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(rules=[{"kind": "silence", "route": STORAGE}])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(set_up.read)
        await sandbox.silent_calls()
        began_s = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began_s < 1
    with trio.fail_after(10), pytest.raises(Silent, match="sent nothing"):
        await set_up.read()


async def test_a_slow_reader_is_no_silence(set_up: ClientAndDownloads) -> None:
    """Time that the consumer takes is not the server's."""
    async with set_up.downloads.stream(set_up.version, 0, SIZE) as pieces:
        first = await anext(pieces)
        set_up.client.settings = msgspec.structs.replace(set_up.client.settings, silence_s=0.0)
        await trio.sleep(0.1)
        rest = b"".join([piece async for piece in pieces])
    assert first + rest == BYTES


async def test_leaving_early_ends_the_download_at_once(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    sandbox.faults(settings={"bandwidth_bytes_s": 20_000})
    with trio.fail_after(15):  # the whole would take minutes
        async with set_up.downloads.stream(set_up.version, 0, SIZE) as pieces:
            async for _ in pieces:
                break
        assert await set_up.read(0, 10) == BYTES[:10]


async def test_a_size_that_is_not_the_listed_one_is_refused(
    sandbox: SandboxHandle, set_up: ClientAndDownloads
) -> None:
    for wrong in (SIZE - 1, SIZE + 1):
        set_up.version = msgspec.structs.replace(set_up.version, size_bytes=wrong)
        for no_range in (False, True):
            sandbox.faults(settings={"no_range": no_range})
            with pytest.raises(Malformed, match=f"Procore lists {wrong}"):
                await set_up.read(0, 10)


# --- what no decent server sends ---

DATA = bytes(range(100))


def version_at(url: str) -> Version:
    return Version(VersionId(1), 1, len(DATA), 0, url)


def part(head: str, etag: str = '"a"', data: bytes = DATA) -> bytes:
    """A decent 206."""
    wanted = re.search(r"range: bytes=(\d+)-(\d+)", head, re.IGNORECASE)
    assert wanted is not None
    start, last = int(wanted[1]), int(wanted[2])
    headers = {
        "Content-Range": f"bytes {start}-{last}/{len(data)}",
        "Content-Length": str(last - start + 1),
        "ETag": etag,
    }
    return http("206 Partial Content", headers, data[start : last + 1])


async def test_the_token_goes_to_the_apis_origin_alone(sandbox: SandboxHandle) -> None:
    """Other hosts, other ports, and redirects in any order."""
    async with raw_server(part, "localhost") as storage:

        def redirect(head: str) -> bytes:
            if "GET /back" in head:
                return part(head)
            path = "/x" if "GET /there" in head else "/away"
            return http("302 Found", {"Location": f"{storage.url}{path}", "Content-Length": "0"})

        async with raw_server(redirect) as api:
            async with client_of(sandbox, api_url=api.url) as client:
                downloads = Downloads(client)
                assert await fetched(downloads, version_at(f"{api.url}/there")) == DATA
                assert await fetched(downloads, version_at(f"{storage.url}/direct")) == DATA
                wrong_name = storage.url.replace("localhost", "127.0.0.1")
                assert await fetched(downloads, version_at(wrong_name)) == DATA
            assert "authorization: bearer" in api.requests[0].lower()
            assert len(storage.requests) == 3
            for request in storage.requests:
                assert "authorization" not in request.lower()
                assert "procore-company-id" not in request.lower()


async def test_connections_are_used_again_also_those_that_redirect(sandbox: SandboxHandle) -> None:
    def decent(head: str) -> bytes:
        return part(head).replace(b"Connection: close\r\n", b"")

    async with raw_server(decent, "localhost") as storage:

        def redirect(_head: str) -> bytes:
            headers = {"Location": f"{storage.url}/x", "Content-Length": "5"}
            return http("302 Found", headers, b"moved", keep=True)

        async with raw_server(redirect) as api, client_of(sandbox, api_url=api.url) as client:
            downloads = Downloads(client)
            for _ in range(4):
                assert await fetched(downloads, version_at(f"{api.url}/x"), 0, 50) == DATA[:50]
            assert (api.connections, storage.connections) == (1, 1)
            assert (len(api.requests), len(storage.requests)) == (4, 4)


async def test_a_token_that_left_home_does_not_come_back(sandbox: SandboxHandle) -> None:
    homes: list[str] = []

    def bounce(_head: str) -> bytes:
        return http("302 Found", {"Location": f"{homes[0]}/back", "Content-Length": "0"})

    async with raw_server(bounce, "localhost") as away:

        def home(head: str) -> bytes:
            if "GET /back" in head:
                return part(head)
            return http("307 Temporary Redirect", {"Location": away.url, "Content-Length": "0"})

        async with raw_server(home) as api:
            homes.append(api.url)
            async with client_of(sandbox, api_url=api.url) as client:
                assert await fetched(Downloads(client), version_at(f"{api.url}/x")) == DATA
            assert ["authorization" in request.lower() for request in api.requests] == [True, False]


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/again", "redirects more than 5 times"),
        ("ftp://127.0.0.1/x", "may not be fetched"),
        ("file:///etc/passwd", "may not be fetched"),
        ("http://storage.example/x", "may not be fetched"),
        ("//storage.example/x", "may not be fetched"),
    ],
)
async def test_redirects_that_are_not_followed(sandbox: SandboxHandle, location: str, words: str) -> None:
    def redirect(_head: str) -> bytes:
        return http("302 Found", {"Location": location, "Content-Length": "0"})

    async with raw_server(redirect) as storage, client_of(sandbox) as client:
        with pytest.raises(Malformed, match=words):
            await fetched(Downloads(client), version_at(storage.url))
        assert len(storage.requests) <= 6


@pytest.mark.parametrize(
    "answer",
    [
        http("206 Partial Content", {"Content-Length": "100"}, DATA),
        http("206 Partial Content", {"Content-Range": "bytes 10-99/100", "Content-Length": "90"}, DATA[10:]),
        http("206 Partial Content", {"Content-Range": "bytes 0-99/99", "Content-Length": "100"}, DATA),
        http("206 Partial Content", {"Content-Range": "bytes 0-99/100"}, DATA + b"x"),
        http("200 OK", {"Content-Length": "101"}, DATA + b"x"),
        http("200 OK", {"Content-Length": "99"}, DATA[:99]),
        http("200 OK", {}, DATA + b"x"),
        http("416 Range Not Satisfiable", {"Content-Range": "bytes */50", "Content-Length": "0"}),
        http("204 No Content", {}),
    ],
)
async def test_answers_that_cannot_be_the_version(sandbox: SandboxHandle, answer: bytes) -> None:
    async with raw_server(lambda _head: answer) as storage, client_of(sandbox) as client:
        with pytest.raises(Malformed, match="Could not read the file"):
            await fetched(Downloads(client), version_at(storage.url))
        assert len(storage.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", {}, DATA[:50]),  # without a length nothing but the listing shows that it is short
        http("200 OK", {"Content-Length": "100"}, DATA[:50]),
        http("200 OK", {"Transfer-Encoding": "chunked"}, b"32\r\n" + DATA[:50] + b"\r\n"),
        http("206 Partial Content", {"Content-Range": "bytes 0-99/100"}, b""),
        b"",
        b"nonsense\r\n\r\n",
    ],
)
async def test_bodies_that_stay_short(sandbox: SandboxHandle, answer: bytes) -> None:
    async with raw_server(lambda _head: answer) as storage, client_of(sandbox, silence_s=0.5) as client:
        with trio.fail_after(15), pytest.raises(Unavailable, match="Could not read the file"):
            await fetched(Downloads(client), version_at(storage.url))
        assert len(storage.requests) > 1


async def test_bytes_that_change_in_the_storage_are_never_mixed(sandbox: SandboxHandle) -> None:
    other = DATA[::-1]
    now = [DATA]

    def changing(head: str) -> bytes:
        data = now[0]
        if "if-range" in head.lower() and '"old"' in head and data is other:
            return http("200 OK", {"Content-Length": "100", "ETag": '"new"'}, data)
        return part(head, '"old"' if data is DATA else '"new"', data)

    async with raw_server(changing) as storage, client_of(sandbox) as client:
        downloads = Downloads(client)
        version = version_at(storage.url)
        assert await fetched(downloads, version, 0, 50) == DATA[:50]
        now[0] = other
        with pytest.raises(ProcoreError):
            await fetched(downloads, version, 50, 100)
