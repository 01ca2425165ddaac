"""A mount that a service manager starts in the foreground: what it reports, and how its log looks in the journal."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounting import Home
from tests.support.sandbox import SandboxHandle

WAIT_S = 60.0


class Service:
    """A `procorefs mount -f` with a notification socket and a journal."""

    def __init__(self, home: Home, sandbox: SandboxHandle, folder: Path) -> None:
        self.place = folder / "place"
        self.place.mkdir()
        self.journal = folder / "journal"
        address = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))
        self._socket.settimeout(WAIT_S)
        with self.journal.open("wb") as stream:
            status = os.fstat(stream.fileno())
            environment = home.environment | sandbox.env()
            secret = folder / "secret"
            secret.write_text(environment.pop("PROCOREFS_CLIENT_SECRET"))
            secret.chmod(0o400)
            environment |= {
                "NOTIFY_SOCKET": str(address),
                "WATCHDOG_USEC": "1000000",
                "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}",
                "PROCOREFS_CLIENT_SECRET_FILE": str(secret),
            }
            self.process = subprocess.Popen(
                [sys.executable, "-m", "procorefs.cli", "mount", "-f", str(self.place)],
                env=environment,
                stderr=stream,
            )

    def wait_for(self, message: str) -> list[str]:
        """The messages up to this one; `message` is a regular expression."""
        seen: list[str] = []
        while not seen or not re.fullmatch(message, seen[-1]):
            seen.append(self._socket.recv(4096).decode())
        return seen

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def clear(self) -> None:
        self.end()
        self._socket.close()


@pytest.fixture
def service(home: Home, sandbox: SandboxHandle, tmp_path: Path) -> Iterator[Callable[[], Service]]:
    started: list[Service] = []

    def start() -> Service:
        started.append(Service(home, sandbox, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.clear()


def test_a_service_reports_its_state(service: Callable[[], Service]) -> None:
    running = service()
    before = running.wait_for("READY=1")
    assert f"mounted at {running.place}; everything sent" in "".join(before)
    assert any(running.place.iterdir())
    running.wait_for("WATCHDOG=1")
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("STOPPING=1")
    assert running.process.wait(WAIT_S) == 0


def test_the_journal_gets_levels_and_no_times(service: Callable[[], Service]) -> None:
    running = service()
    running.wait_for("READY=1")
    assert running.end() == 0
    lines = running.journal.read_text().splitlines()
    assert any(line.startswith("<6>procorefs.daemon: ") and "is mounted at" in line for line in lines)
    assert all(re.match(r"<[2-7]>", line) for line in lines)
