"""What a hostile server sends costs a bounded amount of memory, and leads to no other address than it may."""

import gzip
import resource
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

import pytest

from procorefs.procore.errors import Malformed, ProcoreError
from procorefs.procore.http.addresses import AddressRule
from procorefs.procore.wire.upload_decoding import SegmentPlan, segmented
from tests.support.api_client import client_of
from tests.support.raw_server import http, raw_server
from tests.support.sandbox import SandboxHandle

MIB = 1 << 20
MOST_BYTES = 300 * MIB


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """The most that this process ever had grows by less than 300 MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_BYTES


@cache
def bomb(times: int) -> bytes:
    """A gibibyte of blanks as one gzip stream, compressed so many times in all."""
    packing = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    data = b"".join(packing.compress(b" " * MIB) for _ in range(1024)) + packing.flush()
    for _ in range(times - 1):
        data = gzip.compress(data)
    return data


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        ("gzip", bomb(1), "too large"),
        ("gzip, gzip", bomb(2), "encoding that was not asked for"),
        ("br", b"\x00" * 100, "encoding that was not asked for"),
        ("gzip", b"no gzip at all", "cannot be decompressed"),
        ("identity", b"[" + b"[]," * (5 * MIB) + b"[]]", "too many parts"),
        ("identity", b'{"id":' * 300_000, "is not JSON"),
        ("identity", b"[" * 300_000, "is not JSON"),
    ],
    ids=["bomb", "stacked", "other", "broken", "many", "deep objects", "deep lists"],
)
async def test_no_answer_takes_much_memory(
    sandbox: SandboxHandle, encoding: str, body: bytes, words: str
) -> None:
    headers = {
        "Content-Type": "application/json",
        "Content-Encoding": encoding,
        "Content-Length": str(len(body)),
    }
    async with (
        raw_server(lambda _head: http("200 OK", headers, body)) as api,
        client_of(sandbox, api_url=api.url) as client,
    ):
        with pytest.raises(Malformed, match=words):
            await client.me()


@pytest.mark.usefixtures("_little_memory")
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br"])
async def test_no_refusal_takes_much_memory(sandbox: SandboxHandle, encoding: str) -> None:
    body = bomb(2)
    headers = {"Content-Encoding": encoding, "Content-Length": str(len(body))}
    async with (
        raw_server(lambda _head: http("422 Unprocessable", headers, body)) as api,
        client_of(sandbox, api_url=api.url) as client,
    ):
        with pytest.raises(ProcoreError):
            await client.me()


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/x",
        "https://localhost/x",
        "https://localhost./x",
        "https://10.0.0.1./x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/x",
        "https://192.168.1.1/x",
        "https://[fe80::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://127.1/x",
        "https://[64:ff9b::7f00:1]/x",
        "https://[2002:7f00:1::]/x",
        "https://[::7f00:1]/x",
        "https://[ff02::1]/x",
        "https://224.0.0.1/x",
        "https://ip6-localhost/x",
        "https://localhost.localdomain/x",
        "https://metadata/computeMetadata/v1",
        "https://metadata.google.internal/computeMetadata/v1",
        "https://printer.local./x",
        "https://router.home.arpa/x",
        "https://user@files.example.com/x",
        "ftp://files.example.com/x",
    ],
)
def test_a_procore_elsewhere_leads_nobody_into_this_network(url: str) -> None:
    assert not AddressRule("api.procore.com").accepts(url)


def test_addresses_that_may_be_fetched() -> None:
    far = AddressRule("api.procore.com")
    assert far.accepts("https://files.example.com/x?y=1")
    assert far.accepts("https://8.8.8.8/x")
    assert far.accepts("https://[2606:4700::1111]/x")
    assert far.accepts("https://local.example.com/x")
    assert AddressRule("10.1.2.3").accepts("https://10.1.2.3/x")  # a company's own proxy
    assert not AddressRule("10.1.2.3").accepts("https://10.1.2.4/x")
    near = AddressRule("127.0.0.1")
    assert near.accepts("http://localhost:8080/x")
    assert not near.accepts("http://files.example.com/x")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("x-amz-content-sha256", True),
        ("Content-MD5", True),
        ("Host", False),
        ("Authorization", False),
        ("Cookie", False),
        ("Proxy-Authorization", False),
        ("X-Forwarded-For", False),
        ("Transfer-Encoding", False),
    ],
)
def test_a_segment_is_sent_with_harmless_headers_alone(name: str, allowed: bool) -> None:
    body = (
        b'{"uuid": "u-1", "segments": [{"size": 5, "url": "https://files.example.com/x", "headers": {"%s": "v"}}]}'
        % name.encode()
    )
    plan = [SegmentPlan(size_bytes=5, sha256="0" * 64)]
    if allowed:
        assert segmented(body, plan, 0, "begin").segments[0].headers == {name: "v"}
    else:
        with pytest.raises(Malformed, match="cannot be sent"):
            segmented(body, plan, 0, "begin")


@pytest.mark.parametrize(
    "location", ["http://[x", "//[", "\\\\[", "https://h:x/", "https://169.254.169.254/"]
)
async def test_a_redirect_to_what_is_no_address_is_an_answer_that_is_not_understood(
    sandbox: SandboxHandle, location: str
) -> None:
    async with (
        raw_server(
            lambda _head: http("302 Found", {"Location": location, "Content-Length": "0"}, b"")
        ) as api,
        client_of(sandbox, api_url=api.url) as client,
    ):
        with pytest.raises(ProcoreError):
            await client.me()


@pytest.mark.parametrize("life", ['"nan"', '"inf"', "1e300", "-5", "[" * 300_000])
async def test_no_token_lives_longer_than_a_year(sandbox: SandboxHandle, life: str) -> None:
    body = f'{{"access_token": "a", "expires_in": {life}}}'.encode()
    async with (
        raw_server(lambda _head: http("200 OK", {"Content-Length": str(len(body))}, body)) as login,
        client_of(sandbox, login_url=login.url) as client,
    ):
        with suppress(Malformed):
            assert await client.auth.token() == "a"
            assert await client.auth.token() == "a"
            assert len(login.requests) <= 2
