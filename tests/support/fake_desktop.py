"""A session bus of its own (a real dbus-daemon), with a notification service and a file manager that record calls."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, message_bus, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from tests.support.mounting import wait_until

_NOTIFICATIONS = "org.freedesktop.Notifications"
_FILE_MANAGER = "org.freedesktop.FileManager1"
_LISTEN_S = 0.1


@dataclass(frozen=True)
class Shown:
    """A call of Notify."""

    number: int
    replaces: int
    summary: str
    body: str
    actions: list[str]
    urgency: int


class FakeDesktop:
    """What the services were asked to do."""

    def __init__(self, address: str, capabilities: tuple[str, ...]) -> None:
        self.address = address
        self.shown: list[Shown] = []
        self.closed: list[int] = []
        self.folders: list[str] = []
        self._capabilities = list(capabilities)
        self._connection: DBusConnection = open_dbus_connection(address)
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._last = 0
        for name in (_NOTIFICATIONS, _FILE_MANAGER):
            unwrap_msg(self._connection.send_and_get_reply(message_bus.RequestName(name)))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def await_shown(self, count: int) -> Shown:
        """The newest notification, once there are so many."""
        wait_until(lambda: len(self.shown) >= count, f"{count} notifications, of {self.shown}")
        return self.shown[count - 1]

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, what)

    def choose(self, number: int, key: str) -> None:
        """A person clicks."""
        source = DBusAddress("/org/freedesktop/Notifications", None, _NOTIFICATIONS)
        self._send(new_signal(source, "ActionInvoked", "us", (number, key)))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                message = self._connection.receive(timeout=_LISTEN_S)
            except TimeoutError:
                continue
            except ConnectionResetError:
                return
            if message.header.message_type is MessageType.method_call:
                signature, body = self._answer(message.header.fields[HeaderFields.member], message.body)
                self._send(new_method_return(message, signature, body))

    def _send(self, message: Any) -> None:
        with self._sending:
            self._connection.send(message)

    def _answer(self, method: str, body: tuple[Any, ...]) -> tuple[str | None, tuple[Any, ...]]:
        match method:
            case "GetCapabilities":
                return "as", (self._capabilities,)
            case "Notify":
                _, replaces, _, summary, text, actions, hints, _ = body
                self._last = replaces or self._last + 1
                self.shown.append(
                    Shown(self._last, replaces, summary, text, actions, int(hints["urgency"][1]))
                )
                return "u", (self._last,)
            case "CloseNotification":
                self.closed.append(int(body[0]))
            case "ShowItems":
                self.folders += body[0]
        return None, ()


@contextmanager
def session_bus(directory: Path) -> Iterator[str]:
    """The address of a session bus that ends with the context."""
    address = f"unix:path={directory}/bus"
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", f"--address={address}", "--print-address=1"],
        stdout=subprocess.PIPE,
        text=True,
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith("unix:path=")
        try:
            yield address
        finally:
            daemon.terminate()


@contextmanager
def fake_desktop(
    directory: Path, capabilities: tuple[str, ...] = ("actions", "body", "body-markup")
) -> Iterator[FakeDesktop]:
    """A session whose services answer."""
    with session_bus(directory) as address:
        desktop = FakeDesktop(address, capabilities)
        try:
            yield desktop
        finally:
            desktop.end()
