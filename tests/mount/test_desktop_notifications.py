"""A mount in a desktop session: what fails is told there, and can be sent again from there."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_desktop import FakeDesktop, fake_desktop
from tests.support.mounting import Home, Mounted
from tests.support.sandbox import SandboxHandle


@pytest.fixture
def desktop(tmp_path: Path, home: Home) -> Iterator[FakeDesktop]:
    with fake_desktop(tmp_path) as session:
        home.environment["DBUS_SESSION_BUS_ADDRESS"] = session.address
        yield session


def test_a_refused_name_is_told_with_its_reason(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], desktop: FakeDesktop
) -> None:
    mounted = mount(sandbox)
    with pytest.raises(OSError, match="Invalid argument"):
        (mounted.path / "what?.txt").write_text("x")
    shown = desktop.await_shown(1)
    assert "a file was refused" in shown.summary
    assert "what?.txt" in shown.body
    assert "?" in shown.body.partition(": ")[2]


def test_a_document_that_somebody_holds_is_told_with_his_name(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], desktop: FakeDesktop
) -> None:
    mounted = mount(sandbox, "write_back=0", "freshness=0")
    file = mounted.path / "plan.txt"
    file.write_text("one")
    assert mounted.home.procorefs("sync", mounted.path).returncode == 0
    sandbox.act("check_out", path="/plan.txt")
    file.write_text("two")
    shown = desktop.await_shown(1)
    assert shown.summary.startswith("1 change of ")
    assert shown.body.startswith("plan.txt: ")
    assert "check" in shown.body
    sandbox.act("check_in", path="/plan.txt")
    desktop.choose(shown.number, "retry")
    desktop.await_that(lambda: bool(desktop.closed), "the notification to go when the file is sent")


def test_what_is_left_at_the_end_is_told(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], desktop: FakeDesktop
) -> None:
    mounted = mount(sandbox, "write_back=1h")
    (mounted.path / "late.txt").write_text("x")
    assert mounted.home.procorefs("umount", "--now", mounted.path).returncode == 1
    mounted.await_end()
    shown = desktop.await_shown(1)
    assert shown.summary.startswith("1 change of ")
    assert shown.summary.endswith("not in Procore")


def test_nothing_is_told_where_notifications_are_off(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], desktop: FakeDesktop
) -> None:
    mounted = mount(sandbox, "write_back=1h", "notifications=off")
    (mounted.path / "late.txt").write_text("x")
    assert mounted.home.procorefs("umount", "--now", mounted.path).returncode == 1
    mounted.await_end()
    assert desktop.shown == []
