"""Talks to the notification service of a desktop session over D-Bus, and to its file manager."""

import html
import logging
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
from jeepney import DBusAddress, DBusErrorResponse, MatchRule, Message, message_bus, new_method_call
from jeepney.io.common import RouterClosed
from jeepney.io.trio import DBusRouter, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from procorefs.storage.failures import first_cause
from procorefs.storage.processes import uid_of_peer

log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""How long an answer may take; a service that is being started takes a second or two."""

_SERVICE = DBusAddress(
    "/org/freedesktop/Notifications", "org.freedesktop.Notifications", "org.freedesktop.Notifications"
)
_FILE_MANAGER = DBusAddress(
    "/org/freedesktop/FileManager1", "org.freedesktop.FileManager1", "org.freedesktop.FileManager1"
)
_CRITICAL, _NORMAL = 2, 1
_BUFFER = 32


class NoDesktop(Exception):
    """There is no session bus, or nobody shows notifications on it."""


class SessionBus:
    """A connection to the session's bus."""

    def __init__(self, router: DBusRouter) -> None:
        self._router = router
        self._capabilities: frozenset[str] | None = None

    async def show(
        self,
        summary: str,
        body: str,
        actions: Sequence[tuple[str, str]] = (),
        *,
        critical: bool = False,
        replaces: int = 0,
    ) -> int:
        """Show a notification; returns its id. Raises NoDesktop."""
        if self._capabilities is None:
            self._capabilities = frozenset((await self._call(_SERVICE, "GetCapabilities"))[0])
        offered = actions if "actions" in self._capabilities else ()
        hints = {
            "urgency": ("y", _CRITICAL if critical else _NORMAL),
            "desktop-entry": ("s", "procorefs"),
        }
        answer = await self._call(
            _SERVICE,
            "Notify",
            "susssasa{sv}i",
            (
                "ProcoreFS",
                replaces,
                "folder-remote",
                summary,
                html.escape(body, quote=False) if "body-markup" in self._capabilities else body,
                [word for action in offered for word in action],
                hints,
                -1,
            ),
        )
        return int(answer[0])

    async def close(self, number: int) -> None:
        """Take a notification away; nothing happens when it is gone. Raises NoDesktop."""
        await self._call(_SERVICE, "CloseNotification", "u", (number,))

    async def show_in_folder(self, path: Path) -> None:
        """Let the file manager show a file. Raises NoDesktop."""
        await self._call(_FILE_MANAGER, "ShowItems", "ass", ([path.as_uri()], ""))

    async def invoked(self) -> trio.MemoryReceiveChannel[Message]:
        """The messages that tell which action of which notification a person chose: (id, key). Raises NoDesktop.

        The channel ends with the connection.
        """
        rule = MatchRule(
            type="signal", interface=_SERVICE.interface, member="ActionInvoked", path=_SERVICE.object_path
        )
        with _translated():
            unwrap_msg(await self._router.send_and_get_reply(message_bus.AddMatch(rule)))
        send, messages = trio.open_memory_channel[Message](_BUFFER)
        # never closed here: the router's end closes it, and fails if a filter is removed at that moment
        self._router.filter(rule, channel=send)
        return messages

    async def _call(
        self, whom: DBusAddress, method: str, signature: str | None = None, body: tuple[object, ...] = ()
    ) -> tuple[Any, ...]:
        with _translated(), trio.fail_after(ANSWER_S):
            reply = await self._router.send_and_get_reply(new_method_call(whom, method, signature, body))
            answer: tuple[Any, ...] = unwrap_msg(reply)
            return answer


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[SessionBus]:
    """A connection for the block of an `async with`. Raises NoDesktop, also when it breaks."""
    with _translated(), trio.fail_after(ANSWER_S):
        try:
            connection = await open_dbus_connection(address)
        except ValueError as error:  # an address such as `disabled:`, or a bus that refuses this user
            raise NoDesktop(str(error)) from error
    async with connection:
        # `sudo -E` keeps the address: another user's bus would see names, and choose actions on their documents.
        if uid_of_peer(connection.socket) not in (os.geteuid(), 0):
            raise NoDesktop("the session bus belongs to another user")
        with _translated():
            async with connection.router() as router:
                yield SessionBus(router)


_FAULTS = (
    DBusErrorResponse,
    OSError,
    RouterClosed,
    RuntimeError,  # what jeepney raises for a kind of address that it does not know
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
    trio.TooSlowError,
    NoDesktop,
)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn all ways in which a bus or a service can fail into NoDesktop."""
    try:
        yield
    except _FAULTS as error:
        raise NoDesktop(str(error) or type(error).__name__) from error
    except BaseExceptionGroup as group:  # of the router's nursery
        faults, others = group.split(_FAULTS)
        if faults is None:
            raise
        if others is not None:  # the connection is closed in any case
            raise others from None
        raise NoDesktop(str(first_cause(group))) from group
