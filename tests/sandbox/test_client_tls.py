"""TLS is verified, always; and it works through the wrapped streams."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from procorefs.procore.api.downloads import Downloads
from procorefs.procore.api.uploads import Uploads
from procorefs.procore.errors import Unavailable
from procorefs.procore.wire.models import Version, VersionId
from procorefs.procore.wire.upload_decoding import WholeUpload
from tests.support.api_client import client_of, fetched, random_bytes, staged
from tests.support.raw_server import CLOSE, KeepingServer
from tests.support.sandbox import SandboxHandle

DATA = random_bytes(300_000)

# Made for this test alone; it is nobody's and protects nothing.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgs6xOaNSUuO3zGLd/
CyAoyuim/hX6XBvwx1QoAPz9NYmhRANCAASyY+lHM9vlYrr5ZT4SXPg+4KVoa9sS
VrTJd9v7k3amc0uE574bY5VeTEqx0i1LwFcfrMIkscZoI8d3mMhgtT8e
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUEWRKnvxCENp8K3FJBU3T31imii8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzIzMDEyNFoYDzIxMjYxMDMw
MjMwMTI0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASyY+lHM9vlYrr5ZT4SXPg+4KVoa9sSVrTJd9v7k3amc0uE574bY5Ve
TEqx0i1LwFcfrMIkscZoI8d3mMhgtT8eo28wbTAdBgNVHQ4EFgQUQhVzLaQhuqWS
pFGqWOSOsmH7gKQwHwYDVR0jBBgwFoAUQhVzLaQhuqWSpFGqWOSOsmH7gKQwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgGUxWk30D/cwszb1lY0UpI5NIyHd/uw1UOEJ0nLPJhiMCIC4I
I1d+By/6quNTCOXVx6dB4D9ENNNBVJ3c/B+qI9q+
-----END CERTIFICATE-----
"""


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Key and certificate in one file."""
    path = tmp_path / "server.pem"
    path.write_text(KEY + CERTIFICATE)
    return path


async def serve_once(stream: trio.SSLStream[trio.SocketStream]) -> None:
    """Answers any request with the whole file."""
    try:
        await stream.receive_some(65536)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(DATA)
        await stream.send_all(head + CLOSE + b"\r\n\r\n" + DATA)
        await stream.receive_some()
    except trio.BrokenResourceError:
        pass  # the client did not trust us


async def start_serving(nursery: trio.Nursery, handler: Callable[[Any], Awaitable[object]], pem: Path) -> int:
    """Serve over TLS as long as the nursery lives; returns the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", https_compatible=True)
    nursery.start_soon(trio.serve_listeners, handler, listeners)
    port: int = listeners[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
    return port


async def test_the_machines_own_authorities_are_trusted(
    sandbox: SandboxHandle, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's proxy is known to the machine, and to no list that a package brings."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setattr(
        ssl.SSLContext, "load_default_certs", lambda context: context.load_verify_locations(pem)
    )
    async with trio.open_nursery() as nursery:
        port = await start_serving(nursery, serve_once, pem)
        version = Version(VersionId(1), 1, len(DATA), 0, f"https://localhost:{port}/x")
        async with client_of(sandbox, silence_s=2.0) as client:
            assert await fetched(Downloads(client), version) == DATA
        nursery.cancel_scope.cancel()


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    sandbox: SandboxHandle, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        port = await start_serving(nursery, serve_once, pem)
        version = Version(VersionId(1), 1, len(DATA), 0, f"https://localhost:{port}/x")
        async with client_of(sandbox, silence_s=2.0) as client:
            with pytest.raises(Unavailable, match="certificate"):
                await fetched(Downloads(client), version)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        async with client_of(sandbox) as client:
            assert await fetched(Downloads(client), version) == DATA
            elsewhere = Version(VersionId(2), 1, len(DATA), 0, f"https://127.0.0.2:{port}/x")
            with pytest.raises(Unavailable):
                await fetched(Downloads(client), elsewhere)
        nursery.cancel_scope.cancel()


async def test_an_upload_over_tls_brings_every_byte(
    sandbox: SandboxHandle, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    content = random_bytes(3_000_001)
    storage = KeepingServer()
    async with trio.open_nursery() as nursery:
        port = await start_serving(nursery, storage.serve, pem)
        upload = WholeUpload("u", f"https://localhost:{port}/up", {"key": "value"}, len(content), 0)
        async with client_of(sandbox) as client:
            with staged(content) as source:
                await Uploads(client).send_whole(upload, source)
        nursery.cancel_scope.cancel()
    assert content in storage.body
    assert b"authorization" not in storage.head.lower()
