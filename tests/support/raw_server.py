"""A server on loopback that answers exactly the bytes a test wants, for what no decent server would send."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

Answer = Callable[[str], bytes]  # the request's head to the whole answer
CLOSE = b"Connection: close"


class RawServer:
    """Keeps the heads of all requests."""

    def __init__(self, answer: Answer, host: str) -> None:
        self.requests: list[str] = []
        self.connections = 0
        self.host = host
        self.url = ""
        self._answer = answer

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection: it stays open as long as answers do not say that they close it."""
        self.connections += 1
        try:
            while head := await self._head(stream):
                self.requests.append(head)
                answer = self._answer(head)
                await stream.send_all(answer)
                if CLOSE in answer or not answer.startswith(b"HTTP/"):
                    await stream.send_eof()
                    await (
                        stream.receive_some()
                    )  # until the client has closed: closing first could cut the answer
                    return
        except trio.BrokenResourceError:
            pass  # the client had enough

    async def _head(self, stream: trio.SocketStream) -> str:
        """The next request up to its empty line; empty when the client has gone."""
        head = b""
        while b"\r\n\r\n" not in head:
            received = await stream.receive_some()
            if not received:
                return ""
            head += received
        return head.decode()


@asynccontextmanager
async def raw_server(answer: Answer, host: str = "127.0.0.1") -> AsyncIterator[RawServer]:
    """Running as long as the context lasts; `host` is the name in its url."""
    server = RawServer(answer, host)
    async with trio.open_nursery() as nursery:
        on_loopback = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        listeners: list[trio.SocketListener] = await nursery.start(on_loopback)
        server.url = f"http://{host}:{listeners[0].socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()


def http(status: str, headers: dict[str, str], body: bytes = b"", *, keep: bool = False) -> bytes:
    """An answer as bytes; Content-Length only where the headers say so."""
    connection = [] if keep else [CLOSE.decode()]
    lines = [f"HTTP/1.1 {status}", *connection, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class KeepingServer:
    """Takes one request with a body, a little at a time, and keeps all of it."""

    def __init__(self, piece_bytes: int = 1024 * 1024, *, pause_s: float = 0.0) -> None:
        self.head = b""
        self.body = b""
        self._piece_bytes = piece_bytes
        self._pause_s = pause_s

    async def serve(self, stream: trio.abc.Stream) -> None:
        """A connection, for instance one of `trio.serve_listeners`."""
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some(self._piece_bytes)
        head, _, begun = bytes(received).partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split()[0])
        body = bytearray(begun)
        while len(body) < length:
            body += await stream.receive_some(self._piece_bytes)
            await trio.sleep(self._pause_s)
        self.head, self.body = head, bytes(body)
        await stream.send_all(http("204 No Content", {}))
        await stream.receive_some(1)  # until the client has closed
