"""Serves ASGI over trio sockets, with what a store and broken connections need: sendfile and abort.

Beside the usual messages an application may send
    {"type": "sandbox.file", "fd": int, "offset": int, "count": int}   body bytes that go by sendfile(2)
    {"type": "sandbox.abort"}                                          the connection ends here, answered or not
"""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import trio

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger(__name__)
_RECEIVE_BYTES = 256 * 1024
_SENDFILE_BYTES = 1024 * 1024


class _Aborted(Exception):
    """The application asked for the connection to be dropped."""


async def serve_http(app: Application, listeners: list[trio.SocketListener]) -> None:
    """Serve until cancelled; every connection is a task of this call."""

    async def handle(stream: trio.SocketStream) -> None:
        await _Connection(app, stream).run()

    await trio.serve_listeners(handle, listeners)


class _Connection:
    """One client connection: requests one after the other."""

    def __init__(self, app: Application, stream: trio.SocketStream) -> None:
        self._app = app
        self._stream = stream
        self._protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=128 * 1024)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        try:
            while (request := await self._next_request()) is not None:
                await _Exchange(self._app, self._stream, self._protocol, request).run()
                if self._protocol.our_state is not h11.DONE or self._protocol.their_state is not h11.DONE:
                    return
                self._protocol.start_next_cycle()
        except _Aborted:
            pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError) as error:
            _log.debug("connection ended: %s", error)
        finally:
            with trio.CancelScope(shield=True):
                await self._stream.aclose()

    async def _next_request(self) -> h11.Request | None:
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return None
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            self._protocol.receive_data(await self._stream.receive_some(_RECEIVE_BYTES))

    async def _refuse(self, status: int) -> None:
        if self._protocol.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        answer = h11.Response(status_code=status, headers=[("content-length", "0"), ("connection", "close")])
        sent = self._protocol.send(answer)
        if sent:
            await self._stream.send_all(sent)


class _Exchange:
    """One request and its answer: the ASGI scope, `receive` and `send`."""

    def __init__(
        self, app: Application, stream: trio.SocketStream, protocol: h11.Connection, request: h11.Request
    ) -> None:
        self._app = app
        self._stream = stream
        self._protocol = protocol
        self._request = request
        self._body_read = False
        self._head = b""
        self._aborted = False

    async def run(self) -> None:
        try:
            await self._app(self._scope(), self._receive, self._send)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            raise
        except Exception:
            _log.exception("%s %s failed", self._request.method.decode(), self._request.target.decode())
            raise _Aborted from None
        if self._aborted or self._protocol.our_state is h11.SEND_BODY:
            raise _Aborted
        await self._drain()

    def _scope(self) -> Message:
        path, _, query = self._request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self._request.http_version.decode(),
            "method": self._request.method.decode(),
            "scheme": "http",
            "path": _unquoted(path),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(name, value) for name, value in self._request.headers],
            "client": self._stream.socket.getpeername()[:2],
            "server": self._stream.socket.getsockname()[:2],
            "extensions": {"sandbox.file": {}, "sandbox.abort": {}},
        }

    async def _receive(self) -> Message:
        """The next piece of the body; after its end, the client's going."""
        while True:
            event = h11.PAUSED if self._body_read else self._protocol.next_event()
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                self._body_read = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if isinstance(event, h11.ConnectionClosed):
                return {"type": "http.disconnect"}
            if self._protocol.they_are_waiting_for_100_continue:
                await self._stream.send_all(
                    self._protocol.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                )
            data = await self._received()
            if not data and self._body_read:
                return {"type": "http.disconnect"}
            self._protocol.receive_data(data)

    async def _received(self) -> bytes:
        """Bytes from the client; none when it has gone, in whatever way."""
        try:
            return bytes(await self._stream.receive_some(_RECEIVE_BYTES))
        except trio.BrokenResourceError:
            return b""

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._aborted:
            return
        if kind == "http.response.start":
            response = h11.Response(status_code=message["status"], headers=list(message["headers"]))
            self._head = self._protocol.send(response) or b""
        elif kind == "http.response.body":
            await self._send_body(message.get("body", b""), last=not message.get("more_body", False))
        elif kind == "sandbox.file":
            await self._send_file(message["fd"], message["offset"], message["count"])
        elif kind == "sandbox.abort":
            # No exception from here: the framework would answer it with a 500.
            self._aborted = True

    async def _send_body(self, body: bytes, *, last: bool) -> None:
        pieces = [self._head]
        self._head = b""
        if body and self._request.method != b"HEAD":
            pieces.extend(self._protocol.send_with_data_passthrough(h11.Data(data=body)) or [])
        if last:
            pieces.append(self._protocol.send(h11.EndOfMessage()) or b"")
        if len(body) <= 65536:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            if piece:
                await self._stream.send_all(piece)

    async def _send_file(self, fd: int, offset: int, count: int) -> None:
        """Hand `count` bytes of `fd` to the socket inside the kernel."""
        # The protocol object counts the bytes against Content-Length, so that keep-alive goes on working.
        self._protocol.send_with_data_passthrough(h11.Data(data=_Uncopied(count)))
        if self._head:
            await self._stream.send_all(self._head)
            self._head = b""
        end = offset + count
        target = self._stream.socket
        while offset < end:
            try:
                sent = os.sendfile(target.fileno(), fd, offset, min(end - offset, _SENDFILE_BYTES))
            except BlockingIOError:
                await trio.lowlevel.wait_writable(target)
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error
            if sent == 0:
                raise trio.BrokenResourceError("the file is shorter than its version")
            offset += sent
            await trio.lowlevel.checkpoint()

    async def _drain(self) -> None:
        """Read what the application left of the body, so that the next request is found."""
        while not self._body_read and self._protocol.their_state is h11.SEND_BODY:
            if (await self._receive())["type"] == "http.disconnect":
                return


class _Uncopied(bytes):
    """Stands for bytes that go by another way: only their number is asked for."""

    def __new__(cls, _count: int) -> "_Uncopied":
        return super().__new__(cls)

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


def _unquoted(path: bytes) -> str:
    return unquote_to_bytes(path).decode("utf-8", "surrogateescape")
