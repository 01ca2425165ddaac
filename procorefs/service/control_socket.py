"""The control socket: commands send requests to the daemon over a Unix socket, one line of JSON each way.

    {"version": 1, "request": {"ask": "status"}}
    {"version": 1, "result": …}   or   {"version": 1, "error": "one sentence"}

The socket is 0600 in a 0700 directory: whoever can connect is the user of the mount. The client blocks, since
commands have nothing else to do; the server lives in the daemon's nursery. An answer may take hours (sync): whoever
does not want to wait any longer hangs up, and that ends the work on it.
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

from procorefs.storage.failures import Failure
from procorefs.storage.private_files import remove_socket
from procorefs.upload.items import Item

if TYPE_CHECKING:
    import trio
    from trio import TaskStatus

log = logging.getLogger(__name__)

VERSION = 1
MAX_LINE_BYTES = 16 << 20
MAX_ITEMS = 10_000
MAX_STAYING = 20
_SUN_PATH_BYTES = 107
"""Sun_path of unix(7) has 108 bytes, the last one NUL."""
_IDLE_S = 10.0
"""A client that says nothing for so long is let go."""

T = TypeVar("T")


class StatusRequest(msgspec.Struct, tag="status", tag_field="ask", frozen=True):
    """Answered with a MountStatus."""


class StopRequest(msgspec.Struct, tag="stop", tag_field="ask", frozen=True):
    """Answered with null as soon as the daemon has begun to stop."""


class UnmountingRequest(msgspec.Struct, tag="unmounting", tag_field="ask", frozen=True):
    """Answered with null: the mount point is about to be taken away, or is not after all."""

    goes_on: bool
    """What waits is sent without the mount point; else the daemon ends with it."""


class SyncRequest(msgspec.Struct, tag="sync", tag_field="ask", frozen=True):
    """Answered with Left once nothing at or below the paths can move any more: at best with nothing.

    Here and below, paths are counted from the root of the mount; the empty one is the root, and so everything.
    """

    paths: tuple[str, ...]


class WaitingRequest(msgspec.Struct, tag="waiting", tag_field="ask", frozen=True):
    """Answered at once with Left: what at or below the paths is not in Procore yet."""

    paths: tuple[str, ...]


class DrainRequest(msgspec.Struct, tag="drain", tag_field="ask", frozen=True):
    """Answered at once with Counts of the whole mount: what waits its time at or below the paths goes now.

    Who drains asks again and again. Without paths it hurries nothing.
    """

    paths: tuple[str, ...] = ("",)


class RetryRequest(msgspec.Struct, tag="retry", tag_field="ask", frozen=True):
    """Answered with Remaining: what is sent again."""

    paths: tuple[str, ...]


class DiscardRequest(msgspec.Struct, tag="discard", tag_field="ask", frozen=True):
    """Answered with Remaining: what was thrown away."""

    paths: tuple[str, ...]


class Remaining(msgspec.Struct, frozen=True):
    """Items of the outbox: the first MAX_ITEMS, and how many there are."""

    items: list[Item]
    total: int


class Staying(msgspec.Struct, frozen=True):
    """Files that stay here because of their names: the first MAX_STAYING, how many there are, and their bytes."""

    items: list[Item] = []
    total: int = 0
    bytes: int = 0


class Left(Remaining, frozen=True):
    """What is to be in Procore and is not, and beside it what stays here."""

    staying: Staying = Staying()


Request = (
    StatusRequest
    | StopRequest
    | UnmountingRequest
    | SyncRequest
    | WaitingRequest
    | DrainRequest
    | RetryRequest
    | DiscardRequest
)
Handler = Callable[[Request], Awaitable[object]]
"""Gives what msgspec can encode; a Failure becomes the reply's error."""


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
    """The daemon could not be asked, or it refused."""


class NobodyThere(ControlError):
    """No daemon listens at this socket."""


class NoAnswer(ControlError):
    """A daemon listens but did not answer in time."""


def ask(path: Path, request: Request, expect: type[T], *, timeout_s: float = 5.0) -> T:
    """Send one request and wait for its answer; `math.inf` seconds if need be.

    Raises NobodyThere, NoAnswer, or ControlError with the daemon's own words.
    """
    question = msgspec.json.encode(_Question(VERSION, request)) + b"\n"
    try:
        line = _exchange(path, question, time.monotonic() + timeout_s)
    except TimeoutError as error:
        raise NoAnswer(
            f"the daemon at {path} does not answer within {timeout_s:g} seconds; see its log"
        ) from error
    except OSError as error:
        raise NobodyThere(f"no daemon listens at {path} ({error.strerror})") from error
    return _result(line, expect)


async def serve(path: Path, handler: Handler, *, task_status: "TaskStatus[None] | None" = None) -> None:
    """Answer requests at `path` until cancelled; the socket goes away at the end. Raises ControlError."""
    import trio  # here, since the commands that only ask never need it

    async def converse(client: trio.SocketStream) -> None:
        await _converse(client, handler)

    listener = trio.SocketListener(trio.socket.from_stdlib_socket(_listen(path)))
    try:
        if task_status is not None:
            task_status.started()
        await trio.serve_listeners(converse, [listener])
    finally:
        path.unlink(missing_ok=True)  # noqa: ASYNC240 - must happen when cancelled too, and a tmpfs does not block


async def _converse(client: "trio.SocketStream", handler: Handler) -> None:
    import trio

    async with client:
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
    """None: whoever asked has gone."""
    try:
        version = msgspec.json.decode(line, type=_Version).version
        if version != VERSION:
            return _Reply(
                VERSION, error=f"the daemon speaks version {VERSION} and not {version}; mount again"
            )
        request = msgspec.json.decode(line, type=_Question).request
    except msgspec.DecodeError as error:
        return _Reply(VERSION, error=f"the request was not understood: {error}")
    return await _while_there(client, lambda: _answer(request, handler))


async def _while_there(client: "trio.SocketStream", answer: Callable[[], Awaitable[_Reply]]) -> _Reply | None:
    import trio

    reply = None

    async def watch() -> None:
        # it has said what it had to say: what comes now is its end
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
    except (
        Exception
    ):  # whatever it is: a command must not end the mount, it hears of it, and the log has the rest
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
        client.sendall(question)
        received = b""
        while not received.endswith(b"\n"):
            client.settimeout(_left(deadline))
            piece = client.recv(1 << 16)
            if not piece:
                raise OSError(errno.ECONNRESET, "it closed the connection without an answer")
            received += piece
    return received


def _left(deadline: float) -> float | None:
    """For settimeout, where None is for ever."""
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
    except msgspec.DecodeError as error:
        raise ControlError(
            f"the daemon's answer was not understood ({error}); unmount and mount again"
        ) from error


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for `path` that fits sun_path: a long one goes through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
