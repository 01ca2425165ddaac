"""Tells systemd that the mount is ready or stopping, what it does, and that it does not hang (sd_notify(3))."""

import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress

import trio

from procorefs.storage.printable import printable

REPORT_S = 10.0
"""How often the status text is updated."""


class ServiceManager:
    """The service manager that started this process; does nothing if there is none."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`address`: a path, or a name with a leading '@' (unix(7)). `watchdog_s`: None without a watchdog."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s = watchdog_s
        self._reported = ""

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str]) -> "ServiceManager":
        """The manager that the environment names; removes the variables, so that children do not notify."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        is_watched = watchdog_us.isdecimal() and int(watchdog_us) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(watchdog_us) / 1e6 if is_watched else None)

    def ready(self) -> None:
        """Tell that the mount answers."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Tell that the daemon ends."""
        self._send("STOPPING=1")

    async def run(self, status: Callable[[], str]) -> None:
        """Report the status text, and the watchdog's heartbeats from the event loop, until cancelled."""
        if not self._address:
            return
        interval_s = min(REPORT_S, self._watchdog_s / 2 if self._watchdog_s else REPORT_S)
        while True:
            text = printable(" ".join(status().split()))
            if text != self._reported:
                self._reported = text
                self._send(f"STATUS={text}")
            if self._watchdog_s:
                self._send("WATCHDOG=1")
            await trio.sleep(interval_s)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # Without an answer there is nothing to do: systemd times out by its own rules.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        ):
            sender.sendto(message.encode(errors="replace"), self._address)
