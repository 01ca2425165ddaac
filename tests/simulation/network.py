"""The network between client and sandbox: an httpx transport that calls the sandbox's applications in this process.

request ─▶ (latency, fault) ─▶ the sandbox's work, one moment ─▶ (latency, fault) ─▶ answer
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import trio

from procorefs.procore._httpx import httpx

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class _Body(httpx.AsyncByteStream):
    """An answer's bytes, at once."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content


class Answer:
    """What the sandbox answered: status None if it ended the connection instead."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.is_cut = False

    async def take(self, message: Message) -> None:
        """The application's `send`."""
        match message["type"]:
            case "http.response.start":
                self.status, self.headers = message["status"], list(message["headers"])
            case "http.response.body":
                self.body += message.get("body", b"")
            case "sandbox.file":
                self.body += os.pread(message["fd"], message["count"], message["offset"])
            case "sandbox.abort":
                self.is_cut = True


async def call(app: Application, request: httpx.Request, body: bytes) -> Answer:
    """Let an application answer a request whose body has arrived. In one moment, if it waits for nothing."""
    path, _, query = request.url.raw_path.partition(b"?")
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": unquote_to_bytes(path).decode("utf-8", "surrogateescape"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port),
        "extensions": {"sandbox.file": {}, "sandbox.abort": {}},
    }
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return pieces.pop() if pieces else {"type": "http.disconnect"}

    answer = Answer()
    await app(scope, receive, answer.take)
    return answer


class Network(httpx.AsyncBaseTransport):
    """All connections of one computer."""

    def __init__(self, hosts: dict[str, Application], latency_s: Callable[[], float]) -> None:
        """`hosts`: `name:port` of a URL -> who answers there."""
        self._hosts = hosts
        self._latency_s = latency_s
        self.calls: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        app = self._hosts[request.url.netloc.decode()]
        body = b"".join([piece async for piece in request.stream])  # type: ignore[union-attr]
        await trio.sleep(self._latency_s())
        answer = await call(app, request, body)
        self.calls.append(f"{request.method} {request.url.path} {answer.status}")
        await trio.sleep(self._latency_s())
        return response_of(answer, request)


def response_of(answer: Answer, request: httpx.Request) -> httpx.Response:
    if answer.is_cut or answer.status is None:
        raise httpx.RemoteProtocolError("the server ended the connection", request=request)
    return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.body))
