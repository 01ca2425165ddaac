"""Serves the page on this machine to which Procore's login redirects the browser with the code (RFC 8252, 7.3)."""

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import trio

from procorefs.cli.support.local_peers import is_own_user
from procorefs.config import Failure

WAIT_S = 600.0
"""The code is valid for ten minutes (procore-api.md, OAuth 2.0)."""
_REQUEST_BYTES = 16 << 10
_REQUEST_S = 10.0

_PAGE = "<!doctype html><meta charset=utf-8><title>ProcoreFS</title><p>{}</p>"
_WELCOME = "ProcoreFS is logged in; this page can be closed."
_OTHER_USER = "This address is for the user who runs `procorefs login`."
_UNEXPECTED = "This is not the answer to the login that ProcoreFS waits for."


class LoginNotFinished(Failure):
    """The login was refused, or no login came in time."""


def answer_of(target: str, path: str, state: str) -> str | None:
    """The code in a request target, or None for a request that is not our answer. Raises LoginNotFinished.

    The state must be the one that was sent: otherwise any web page could log this user in to another account.
    """
    try:
        parts = urlsplit(target)
        query = parse_qs(parts.query)
    except ValueError:
        return None
    if parts.path != path or query.get("state") != [state]:
        return None
    if "error" in query:
        reason = (query.get("error_description") or query["error"])[0]
        printable = "".join(character for character in reason if character.isprintable())[:200]
        raise LoginNotFinished(f"Procore did not let you in ({printable}); run `procorefs login` again")
    return query["code"][0] if "code" in query else None


async def receive_code(redirect_uri: str, state: str, show: Callable[[], None]) -> str:
    """Listen at `redirect_uri`, call `show` once it answers, and wait for the code. Raises LoginNotFinished."""
    address = urlsplit(redirect_uri)
    try:
        listeners = await trio.open_tcp_listeners(address.port or 80, host=address.hostname)
    except OSError as error:
        raise LoginNotFinished(
            f"cannot listen at {redirect_uri} ({error.strerror}); name another with --redirect-uri, or use --paste"
        ) from error
    send, receive = trio.open_memory_channel[str | LoginNotFinished](1)

    async def converse(browser: trio.SocketStream) -> None:
        async with browser:
            with trio.move_on_after(_REQUEST_S):
                await _answer(browser, address.path or "/", state, send)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, converse, listeners)
        show()
        with trio.move_on_after(WAIT_S):
            result = await receive.receive()
            nursery.cancel_scope.cancel()
            if isinstance(result, LoginNotFinished):
                raise result
            return result
        nursery.cancel_scope.cancel()
    raise LoginNotFinished("nobody logged in within ten minutes; run `procorefs login` again")


async def _answer(
    browser: trio.SocketStream, path: str, state: str, send: trio.MemorySendChannel[str | LoginNotFinished]
) -> None:
    target = await _request_target(browser)
    # The state is in the list of processes while the browser starts: another user could send a code of their own.
    if not is_own_user(browser.socket.getpeername()[:2], browser.socket.getsockname()[:2]):
        await _respond(browser, 403, _OTHER_USER)
        return
    result: str | LoginNotFinished | None
    try:
        result = answer_of(target, path, state)
    except LoginNotFinished as error:
        result = error
    text = _WELCOME if isinstance(result, str) else str(result or _UNEXPECTED)
    await _respond(browser, 200 if isinstance(result, str) else 400, text)
    if result is not None:
        try:
            send.send_nowait(result)
        except trio.WouldBlock:
            return


async def _request_target(browser: trio.SocketStream) -> str:
    request = b""
    while b"\r\n\r\n" not in request and len(request) < _REQUEST_BYTES:
        piece = await browser.receive_some()
        if not piece:
            break
        request += piece
    words = request.split(b"\r\n", 1)[0].split(b" ")
    return words[1].decode("latin-1") if len(words) == 3 and words[0] == b"GET" else ""


async def _respond(browser: trio.SocketStream, status: int, text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    body = _PAGE.format(escaped).encode()
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/html\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    await browser.send_all(head.encode() + body)
