"""The control socket: defines the requests of commands to the daemon, and sends and serves them as lines of JSON.

    {"version": 2, "request": {"ask": "status"}}
    {"version": 2, "result": …}   or   {"version": 2, "error": "one sentence"}

The socket is 0600 in a 0700 directory, and both sides check that the other one runs as the same user. The client
blocks, because commands have nothing else to do; the server runs in the daemon's nursery. An answer may take hours
(sync): when the client disconnects, the daemon ends the work on it.
"""

import contextlib
import errno
import logging
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from procorefs.storage.failures import UNDECODABLE, Failure
from procorefs.storage.private_files import remove_socket
from procorefs.storage.processes import uid_of_peer
from procorefs.upload.items import Item

if TYPE_CHECKING:
    import trio
    from trio import TaskStatus

log = logging.getLogger(__name__)

VERSION = 2
MAX_LINE_BYTES = 16 << 20
MAX_ITEMS = 10_000
MAX_STAYING = 20
_SUN_PATH_BYTES = 107
"""Sun_path of unix(7) has 108 bytes, the last one NUL."""
_IDLE_S = 10.0
"""The server disconnects a client that sends nothing for this time."""

T = TypeVar("T")


class StatusRequest(msgspec.Struct, tag="status", tag_field="ask", frozen=True):
    """Answered with a MountStatus."""


class DetailsRequest(msgspec.Struct, tag="details", tag_field="ask", frozen=True):
    """Answered with MountDetails."""


class StopRequest(msgspec.Struct, tag="stop", tag_field="ask", frozen=True):
    """Answered with null when the daemon has begun to stop."""


class UnmountingRequest(msgspec.Struct, tag="unmounting", tag_field="ask", frozen=True):
    """Answered with null: a command is about to unmount, or has failed to."""

    continues: bool
    """True: the daemon sends waiting changes after the unmount; False: it ends."""


class SyncRequest(msgspec.Struct, tag="sync", tag_field="ask", frozen=True):
    """Answered with Left when nothing at or below the paths is sent automatically any more.

    Here and below, paths start at the root of the mount; the empty path is the root.
    """

    paths: tuple[str, ...]


class WaitingRequest(msgspec.Struct, tag="waiting", tag_field="ask", frozen=True):
    """Answered immediately with Left: the changes at or below the paths that are not in Procore yet."""

    paths: tuple[str, ...]


class DrainRequest(msgspec.Struct, tag="drain", tag_field="ask", frozen=True):
    """Answered immediately with Counts of the whole mount: changes at or below the paths skip their delay.

    A command that drains repeats the request. Without paths no change skips its delay.
    """

    paths: tuple[str, ...] = ("",)


class RetryRequest(msgspec.Struct, tag="retry", tag_field="ask", frozen=True):
    """Answered with Remaining: the changes that are sent again."""

    paths: tuple[str, ...]


class DiscardRequest(msgspec.Struct, tag="discard", tag_field="ask", frozen=True):
    """Answered with Remaining: the changes that were discarded."""

    paths: tuple[str, ...]


class SetRequest(msgspec.Struct, tag="set", tag_field="ask", frozen=True):
    """Answered with Settings: the values after these changes, by name. Without any, nothing changes."""

    words: dict[str, str] = {}


class AccessRequest(msgspec.Struct, tag="access", tag_field="ask", frozen=True):
    """Answered with Settings: changes of programs are refused from now on, or accepted."""

    read_only: bool


class FilesRequest(msgspec.Struct, tag="files", tag_field="ask", frozen=True):
    """Answered with FilesAnswer from what is known: Procore is not asked."""

    paths: tuple[str, ...]
    folder: str | None = None
    """The entries of this folder are told, too."""


class DetailRequest(msgspec.Struct, tag="detail", tag_field="ask", frozen=True):
    """Answered never: debug detail is logged until the client disconnects."""


class Remaining(msgspec.Struct, frozen=True):
    """Items of the outbox: the first MAX_ITEMS, and the number of all."""

    items: list[Item]
    total: int


class Staying(msgspec.Struct, frozen=True):
    """Files that stay here because of their names: the first MAX_STAYING, and the number and bytes of all."""

    items: list[Item] = []
    total: int = 0
    bytes: int = 0


class Left(Remaining, frozen=True):
    """Changes that are not in Procore, and files that stay here."""

    staying: Staying = Staying()


OutboxRequest = SyncRequest | WaitingRequest | DrainRequest | RetryRequest | DiscardRequest
Request = (
    StatusRequest
    | DetailsRequest
    | StopRequest
    | UnmountingRequest
    | FilesRequest
    | SetRequest
    | AccessRequest
    | DetailRequest
    | OutboxRequest
)
Handler = Callable[[Request], Awaitable[object]]
"""Returns a value that msgspec can encode; a Failure becomes the reply's error."""


class _Question(msgspec.Struct, frozen=True):
    version: int
    request: Request


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    version: int
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str | None = None


class ControlError(Failure):
    """The daemon did not answer, or it refused the request."""


class NotListening(ControlError):
    """No daemon listens at this socket."""


class NoAnswer(ControlError):
    """A daemon listens but did not answer in time."""


def ask(path: Path, request: Request, expect: type[T], *, timeout_s: float = 5.0) -> T:
    """Send one request and wait for its answer; `timeout_s` may be `math.inf`.

    Raises NotListening, NoAnswer, or ControlError with the daemon's message.
    """
    question = msgspec.json.encode(_Question(VERSION, request)) + b"\n"
    try:
        line = _exchange(path, question, time.monotonic() + timeout_s)
    except TimeoutError as error:
        raise NoAnswer(
            f"the daemon at {path} does not answer within {timeout_s:g} seconds; see its log"
        ) from error
    except OSError as error:
        raise NotListening(f"no daemon listens at {path} ({error.strerror})") from error
    return _result(line, expect)


async def serve(path: Path, handler: Handler, *, task_status: "TaskStatus[None] | None" = None) -> None:
    """Answer requests at `path` until cancelled, then delete the socket. Raises ControlError."""
    import trio  # here: commands that only send requests do not need it

    async def serve_client(client: trio.SocketStream) -> None:
        await _serve_client(client, handler)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(_listen(path)))
    try:
        if task_status is not None:
            task_status.started()
        await trio.serve_listeners(serve_client, [listener])
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - must happen when cancelled too, and a tmpfs does not block


async def _serve_client(client: "trio.SocketStream", handler: Handler) -> None:
    import trio

    async with client:
        if uid_of_peer(client.socket) not in (os.geteuid(), 0):
            return
        with contextlib.suppress(trio.BrokenResourceError):
            received = b""
            with trio.move_on_after(_IDLE_S):
                while not received.endswith(b"\n") and len(received) <= MAX_LINE_BYTES:
                    piece = await client.receive_some()
                    if not piece:
                        break
                    received += piece
            if received:
                reply = await _reply(received, client, handler)
                if reply is not None:
                    await client.send_all(msgspec.json.encode(reply) + b"\n")


async def _reply(line: bytes, client: "trio.SocketStream", handler: Handler) -> _Reply | None:
    """The reply; None: the client has disconnected."""
    try:
        version = msgspec.json.decode(line, type=_Version).version
        if version != VERSION:
            return _Reply(
                VERSION, error=f"the daemon speaks version {VERSION} and not {version}; mount again"
            )
        request = msgspec.json.decode(line, type=_Question).request
    except UNDECODABLE as error:
        return _Reply(VERSION, error=f"the request was not understood: {error}")
    return await _while_connected(client, lambda: _answer(request, handler))


async def _while_connected(
    client: "trio.SocketStream", answer: Callable[[], Awaitable[_Reply]]
) -> _Reply | None:
    import trio

    reply = None

    async def watch() -> None:
        # The request is complete: the only other event is the disconnect.
        with contextlib.suppress(trio.BrokenResourceError):
            while await client.receive_some():
                pass
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        reply = await answer()
        nursery.cancel_scope.cancel()
    return reply


async def _answer(request: Request, handler: Handler) -> _Reply:
    try:
        return _Reply(VERSION, result=msgspec.Raw(msgspec.json.encode(await handler(request))))
    except Failure as error:
        return _Reply(VERSION, error=str(error))
    except Exception:  # a request must not end the mount
        log.exception("a control request failed")
        return _Reply(VERSION, error="the daemon failed on this request; see its log")


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        remove_socket(path)
        with _short(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise ControlError(f"the control socket {path} cannot be made ({error.strerror})") from error
    return listener


def _exchange(path: Path, question: bytes, deadline: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(_left(deadline))
        with _short(path) as address:
            client.connect(address)
        if uid_of_peer(client) != os.geteuid():
            raise OSError(errno.EPERM, "it belongs to another user")
        client.sendall(question)
        received = bytearray()
        while not received.endswith(b"\n"):
            client.settimeout(_left(deadline))
            piece = client.recv(1 << 16)
            if not piece:
                raise OSError(errno.ECONNRESET, "it closed the connection without an answer")
            received += piece
    return bytes(received)


def _left(deadline: float) -> float | None:
    """The remaining seconds for settimeout; None: no limit."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return None if left == math.inf else left


def _result(line: bytes, expect: type[T]) -> T:
    try:
        reply = msgspec.json.decode(line, type=_Reply)
        if reply.error is not None:
            raise ControlError(reply.error)
        return msgspec.json.decode(reply.result, type=expect)
    except UNDECODABLE as error:
        raise ControlError(
            f"the daemon's answer was not understood ({error}); unmount and mount again"
        ) from error


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for `path` that fits sun_path: a long path becomes one through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
