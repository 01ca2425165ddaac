"""The mount point is taken away from outside while changes wait: the daemon goes on sending without it."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.mounting import Home, Mounted, is_running, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import Desk

SILENT_STORAGE = {"kind": "silence", "route": "storage POST"}
LEFT = "journal keeps"


def take_away(place: Path) -> None:
    """As a file manager or a person does it, and not by our command."""
    subprocess.run(["umount", place], check=True, timeout=30)


def told(home: Home) -> list[dict[str, Any]]:
    """What `procorefs status` says of all daemons."""
    found: list[dict[str, Any]] = json.loads(home.procorefs("status", "--json").stdout)
    return found


def detach(desk: Desk) -> None:
    """A file is on its way to a silent storage when the mount point is taken away."""
    desk.sandbox.faults(rules=[SILENT_STORAGE])
    (desk.path / "plan.dwg").write_bytes(b"the plan")
    take_away(desk.path)
    desk.sandbox.wait_for_silent_calls(1)
    wait_until(lambda: [one["state"] for one in told(desk.mounted.home)] == ["detached"], "it to be told")


def let_go_on(desk: Desk) -> None:
    desk.sandbox.faults(clear=True)
    desk.sandbox.release()


def test_what_waits_is_sent_without_a_mount_point(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=600")
    detach(desk)
    home = desk.mounted.home
    [status] = told(home)
    assert (status["mountpoint"], status["pid"]) == (str(desk.path), desk.mounted.pid)
    assert status["outbox"]["pending"] + status["outbox"]["uploading"] == 1
    assert json.loads(home.procorefs("status", "--json", desk.path).stdout)["state"] == "detached"
    assert "not mounted, still uploading" in home.procorefs("status", desk.path).stdout
    assert not list(desk.path.iterdir())
    let_go_on(desk)
    desk.mounted.await_end()
    assert desk.file("plan.dwg").sizes == [8]
    assert told(home) == []
    assert not list(Path(home.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))


def test_many_files_closed_a_moment_before(write_desk: Callable[..., Desk]) -> None:
    """The kernel may not have sent all releases when the mount point goes."""
    desk = write_desk("write_back=600")
    for number in range(50):
        (desk.path / f"{number}.txt").write_bytes(b"%d" % number)
    take_away(desk.path)
    wait_until(lambda: not is_running(desk.mounted.pid), "the daemon to end", 60)
    assert desk.files().keys() == {f"{number}.txt" for number in range(50)}


def test_nothing_to_send_is_the_end(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    (desk.path / "plan.dwg").write_bytes(b"the plan")
    desk.sync()
    take_away(desk.path)
    desk.mounted.await_end()


def test_a_mount_takes_over(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    before = desk.mounted
    desk.mount_again("write_back=0")
    before.await_end()
    assert (desk.path / "plan.dwg").read_bytes() == b"the plan"
    let_go_on(desk)
    desk.sync()
    desk.assert_saved("plan.dwg", None, b"the plan")


def test_a_mount_elsewhere_takes_over(write_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    before = desk.mounted
    desk.mounted = desk._mount("write_back=0", at=tmp_path / "elsewhere")
    before.await_end()
    let_go_on(desk)
    desk.sync()
    desk.assert_saved("plan.dwg", None, b"the plan")


def test_the_mount_point_is_free_for_others(
    write_desk: Callable[..., Desk], mount: Callable[..., Mounted]
) -> None:
    """Another user of Procore's has another journal: both daemons go on, each with its own."""
    desk = write_desk("write_back=0")
    detach(desk)
    other = mount(desk.sandbox, at=desk.path, second_user=True)
    states = {one["pid"]: one["state"] for one in told(desk.mounted.home)}
    assert states == {desk.mounted.pid: "detached", other.pid: "mounted"}
    assert json.loads(desk.mounted.home.procorefs("status", "--json", desk.path).stdout)["pid"] == other.pid
    let_go_on(desk)
    desk.mounted.await_end()
    assert desk.file("plan.dwg").sizes == [8]
    other.unmount()


@pytest.mark.parametrize("by_project", [False, True])
def test_umount_now_leaves_it_to_the_next_mount(write_desk: Callable[..., Desk], by_project: bool) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    project = f"{desk.sandbox.company_id}/{desk.sandbox.project_id}"
    answer = desk.mounted.home.procorefs("umount", "--now", project if by_project else desk.path)
    assert answer.returncode == 1
    assert "1 change stays in its journal" in answer.stderr
    assert not is_running(desk.mounted.pid)
    assert desk.files() == {}
    desk.mount_again("write_back=0")
    let_go_on(desk)
    desk.sync()
    desk.assert_saved("plan.dwg", None, b"the plan")


def test_umount_now_of_a_mount_waits_for_nothing(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=600")
    (desk.path / "plan.dwg").write_bytes(b"the plan")
    answer = desk.mounted.home.procorefs("umount", "--now", desk.path)
    assert (answer.returncode, "1 change stays in its journal" in answer.stderr) == (1, True)
    desk.mounted.await_end()
    assert desk.files() == {}


def test_umount_waits_for_what_is_being_sent(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    let_go_on(desk)
    answer = desk.mounted.home.procorefs("umount", desk.path)
    assert "stay" not in answer.stderr
    desk.mounted.await_end()
    assert desk.file("plan.dwg").sizes == [8]


def test_what_fails_keeps_nobody(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=600")
    desk.mounted.expect_warning(f"{LEFT} 1 changes that failed|was refused")
    desk.sandbox.faults(rules=[{"kind": "error", "route": "POST */uploads", "status": 403, "count": 1}])
    (desk.path / "refused.dwg").write_bytes(b"refused")
    assert desk.settle("refused.dwg")[0].state == "failed"
    (desk.path / ".held.dwg.x4Kp2Q").write_bytes(b"held")
    (desk.path / "plan.dwg").write_bytes(b"the plan")
    take_away(desk.path)
    desk.mounted.await_end()
    assert desk.files().keys() == {"plan.dwg"}
    assert f"{LEFT} 1 changes that failed or are incomplete, 1 that are held" in desk.mounted.log


def test_sigterm_ends_it(write_desk: Callable[..., Desk]) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    os.kill(desk.mounted.pid, signal.SIGTERM)
    wait_until(lambda: not is_running(desk.mounted.pid), "the daemon to end", 10)
    let_go_on(desk)
    desk.mount_again("write_back=0")
    desk.sync()
    desk.assert_saved("plan.dwg", None, b"the plan")


def test_sync_of_everything_waits_for_it_too(write_desk: Callable[..., Desk], sandbox: SandboxHandle) -> None:
    desk = write_desk("write_back=0")
    detach(desk)
    let_go_on(desk)
    assert desk.mounted.home.procorefs("sync").returncode == 0
    assert sandbox.inventory()["files"].keys() == {"/plan.dwg"}
    desk.mounted.await_end()
