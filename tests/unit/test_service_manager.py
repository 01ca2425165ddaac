"""What systemd is told over its socket, and when."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from procorefs.service.service_manager import ServiceManager


class Systemd:
    """Receives what a service reports."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notify"


@pytest.fixture
def systemd(path: Path) -> Iterator[Systemd]:
    receiver = Systemd(str(path))
    yield receiver
    receiver.close()


def test_ready_and_stopping_are_told(systemd: Systemd, path: Path) -> None:
    manager = ServiceManager(str(path))
    manager.ready()
    manager.stopping()
    assert systemd.received() == ["READY=1", "STOPPING=1"]


def test_an_abstract_socket_is_found() -> None:
    systemd = Systemd(f"\0procorefs-test-{os.getpid()}")
    ServiceManager(f"@procorefs-test-{os.getpid()}").ready()
    assert systemd.received() == ["READY=1"]
    systemd.close()


async def test_status_is_told_when_it_changes_and_the_watchdog_always(
    systemd: Systemd, path: Path, autojump_clock: MockClock
) -> None:
    texts = iter(["one", "one", "two\nlines", "two\nlines"])
    manager = ServiceManager(str(path), watchdog_s=8.0)
    with trio.move_on_after(13):
        await manager.run(lambda: next(texts))
    assert systemd.received() == [
        "STATUS=one",
        "WATCHDOG=1",
        "WATCHDOG=1",
        "STATUS=two lines",
        "WATCHDOG=1",
        "WATCHDOG=1",
    ]


def test_the_environment_of_children_names_no_manager() -> None:
    environment = {
        "NOTIFY_SOCKET": "/s",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    ServiceManager.of_environment(environment)
    assert environment == {"HOME": "/"}


async def test_without_a_manager_nothing_happens() -> None:
    manager = ServiceManager.of_environment({})
    manager.ready()
    await manager.run(lambda: pytest.fail("nobody reads it"))


def test_a_manager_that_went_away_changes_nothing(path: Path) -> None:
    ServiceManager(str(path)).ready()
