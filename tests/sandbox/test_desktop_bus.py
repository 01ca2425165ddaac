"""Notifications over a real session bus: shown, replaced, withdrawn, chosen from, and a session that is not there."""

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from procorefs.desktop import notifier
from procorefs.desktop.notices import Known, Subject
from procorefs.desktop.notifier import DesktopNotifier
from procorefs.desktop.session_bus import NoDesktop, connected
from tests.support.fake_desktop import fake_desktop, session_bus

FAILED = Known("Riverside", failed=[Subject("a/R&D <1>.txt", "the folder is gone")], failed_count=1)
CALM = Known("Riverside")


class Mount:
    """What a notifier asks of its mount."""

    def __init__(self) -> None:
        self.known = CALM
        self.retried: list[tuple[str, ...]] = []

    async def retry(self, paths: tuple[str, ...]) -> None:
        self.retried.append(paths)


@asynccontextmanager
async def running(
    address: str, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DesktopNotifier]:
    monkeypatch.setattr("procorefs.desktop.notices.GATHER_S", 0.0)
    one = DesktopNotifier(address, Path("/mnt/riverside"), lambda: mount.known, mount.retry, poll_s=0.01)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        yield one
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], what: str) -> None:
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - the service answers in a thread
            await trio.sleep(0.01)
    assert condition(), what


async def test_a_notice_is_shown_chosen_from_and_withdrawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount()
    with fake_desktop(tmp_path) as desktop:
        async with running(desktop.address, mount, monkeypatch):
            mount.known = FAILED
            await until(lambda: len(desktop.shown) == 1, "a notification")
            shown = desktop.shown[0]
            assert shown.summary == "1 change of Riverside not in Procore"
            assert shown.body == "R&amp;D &lt;1&gt;.txt: the folder is gone"
            assert shown.actions[::2] == ["retry", "folder", "default"]
            desktop.choose(shown.number + 1, "retry")  # another program's
            desktop.choose(shown.number, "unknown")
            desktop.choose(shown.number, "retry")
            await until(lambda: bool(mount.retried), "a retry")
            assert mount.retried == [("a/R&D <1>.txt",)]
            desktop.choose(shown.number, "folder")
            await until(lambda: bool(desktop.folders), "the file manager")
            assert desktop.folders == ["file:///mnt/riverside/a/R%26D%20%3C1%3E.txt"]
            mount.known = CALM
            await until(lambda: bool(desktop.closed), "the notification to go")
            assert desktop.closed == [shown.number]
            assert len(desktop.shown) == 1


async def test_a_service_without_actions_and_markup_gets_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = Mount()
    mount.known = FAILED
    with fake_desktop(tmp_path, capabilities=("body",)) as desktop:
        async with running(desktop.address, mount, monkeypatch):
            await until(lambda: len(desktop.shown) == 1, "a notification")
            assert desktop.shown[0].actions == []
            assert desktop.shown[0].body == "R&D <1>.txt: the folder is gone"


async def test_the_page_is_opened_or_a_notification_says_that_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_served, asked = False, 0

    async def open_page() -> bool:
        nonlocal asked
        asked += 1
        return is_served

    monkeypatch.setattr(notifier, "open_status_page", open_page)
    mount = Mount()
    mount.known = FAILED
    with fake_desktop(tmp_path) as desktop:
        async with running(desktop.address, mount, monkeypatch):
            await until(lambda: len(desktop.shown) == 1, "a notification")
            desktop.choose(desktop.shown[0].number, "default")
            await until(lambda: len(desktop.shown) == 2, "an explanation")
            assert "procorefs serve" in desktop.shown[1].body
            is_served = True
            desktop.choose(desktop.shown[0].number, "default")
            await until(lambda: asked == 2, "the page")
            assert len(desktop.shown) == 2


async def test_what_is_told_before_the_session_is_there_is_shown_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "RETRY_S", 0.05)
    mount = Mount()
    mount.known = FAILED
    async with running(f"unix:path={tmp_path}/bus", mount, monkeypatch):
        await trio.testing.wait_all_tasks_blocked()
        with fake_desktop(tmp_path) as desktop:
            await until(lambda: len(desktop.shown) == 1, "a notification")


async def test_without_a_notification_service_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "RETRY_S", 0.01)
    mount = Mount()
    mount.known = FAILED
    with session_bus(tmp_path) as address:
        async with running(address, mount, monkeypatch) as one:
            with trio.fail_after(10):
                await one.show_last(("bye", "now"))


@pytest.mark.parametrize(
    "address", ["disabled:", "autolaunch:", "nonce-tcp:host=localhost,port=1", "nothing"]
)
async def test_an_address_that_leads_to_no_bus_ends_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "RETRY_S", 0.01)
    mount = Mount()
    mount.known = FAILED
    async with running(address, mount, monkeypatch) as one:
        await trio.testing.wait_all_tasks_blocked()
        await one.show_last(("bye", "now"))


# jeepney leaves the socket to the garbage collector
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
async def test_a_bus_that_refuses_this_user_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the bus of another user, whose address `sudo -E` keeps, refuses root."""
    monkeypatch.setattr(notifier, "RETRY_S", 0.01)
    mount = Mount()
    mount.known = FAILED
    refused = 0

    async def refuse(client: trio.SocketStream) -> None:
        nonlocal refused
        await client.receive_some()
        await client.send_all(b"REJECTED EXTERNAL\r\n")
        refused += 1

    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "bus"))
    listener.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, [trio.SocketListener(listener)])
        async with running(f"unix:path={tmp_path}/bus", mount, monkeypatch) as one:
            await until(lambda: refused >= 2, "a second try")
            await one.show_last(("bye", "now"))
        nursery.cancel_scope.cancel()


async def test_an_error_of_ours_is_logged_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notifier, "RETRY_S", 0.01)
    mount = Mount()
    mount.known = FAILED

    async def retry(_paths: tuple[str, ...]) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(mount, "retry", retry)
    with fake_desktop(tmp_path) as desktop, caplog.at_level(logging.WARNING):
        async with running(desktop.address, mount, monkeypatch):
            await until(lambda: len(desktop.shown) == 1, "a notification")
            desktop.choose(desktop.shown[0].number, "retry")
            await until(lambda: bool(caplog.records), "a warning")
            mount.known = Known("Riverside", login_error="it was revoked")
            await until(lambda: len(desktop.shown) == 2, "another notification")
    assert "KeyError: 'a bug'" in caplog.text


async def test_a_browser_that_stays_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "python"
    command.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! >{tmp_path}/browser\n")
    command.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(command))
    try:
        with trio.fail_after(10):
            assert await notifier.open_status_page()
    finally:
        os.kill(int((tmp_path / "browser").read_text()), signal.SIGKILL)


async def test_the_bus_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sudo -E` keeps its address; what that user runs there may accept root."""
    monkeypatch.setattr("procorefs.desktop.session_bus.uid_of_peer", lambda _socket: os.geteuid() + 1)
    with session_bus(tmp_path) as address, pytest.raises(NoDesktop, match="belongs to another user"):
        async with connected(address):
            pass


async def test_the_end_of_a_mount_is_shown_before_the_daemon_goes(tmp_path: Path) -> None:
    mount = Mount()
    with fake_desktop(tmp_path) as desktop:
        one = DesktopNotifier(desktop.address, Path("/mnt"), lambda: CALM, mount.retry)
        await one.show_last(None)
        await one.show_last(("2 changes of Riverside not in Procore", "Nothing is lost."))
        assert [shown.summary for shown in desktop.shown] == ["2 changes of Riverside not in Procore"]
