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
from tests.support.writing import MountedProject

SILENT_STORAGE = {"kind": "silence", "route": "storage POST"}
LEFT = "journal keeps"


def take_away(place: Path) -> None:
    """As a file manager or a person does it, and not by our command."""
    subprocess.run(["umount", place], check=True, timeout=30)


def told(home: Home) -> list[dict[str, Any]]:
    """What `procorefs status` says of all daemons."""
    found: list[dict[str, Any]] = json.loads(home.procorefs("status", "--json").stdout)
    return found


def detach(project: MountedProject) -> None:
    """A file is on its way to a silent storage when the mount point is taken away."""
    project.sandbox.faults(rules=[SILENT_STORAGE])
    (project.path / "plan.dwg").write_bytes(b"the plan")
    take_away(project.path)
    project.sandbox.wait_for_silent_calls(1)
    wait_until(lambda: [one["state"] for one in told(project.mounted.home)] == ["detached"], "it to be told")


def let_go_on(project: MountedProject) -> None:
    project.sandbox.faults(clear=True)
    project.sandbox.release()


def test_what_waits_is_sent_without_a_mount_point(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=600")
    detach(project)
    home = project.mounted.home
    [status] = told(home)
    assert (status["mountpoint"], status["pid"]) == (str(project.path), project.mounted.pid)
    assert status["outbox"]["pending"] + status["outbox"]["uploading"] == 1
    assert json.loads(home.procorefs("status", "--json", project.path).stdout)["state"] == "detached"
    assert "not mounted, still uploading" in home.procorefs("status", project.path).stdout
    assert not list(project.path.iterdir())
    let_go_on(project)
    project.mounted.await_end()
    assert project.file("plan.dwg").sizes == [8]
    assert told(home) == []
    assert not list(Path(home.environment["XDG_RUNTIME_DIR"]).rglob("*.sock"))


def test_many_files_closed_a_moment_before(mount_project: Callable[..., MountedProject]) -> None:
    """The kernel may not have sent all releases when the mount point goes."""
    project = mount_project("write_back=600")
    for number in range(50):
        (project.path / f"{number}.txt").write_bytes(b"%d" % number)
    take_away(project.path)
    wait_until(lambda: not is_running(project.mounted.pid), "the daemon to end", 60)
    assert project.files().keys() == {f"{number}.txt" for number in range(50)}


def test_nothing_to_send_is_the_end(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    (project.path / "plan.dwg").write_bytes(b"the plan")
    project.sync()
    take_away(project.path)
    project.mounted.await_end()


def test_a_mount_takes_over(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    detach(project)
    before = project.mounted
    project.mount_again("write_back=0")
    before.await_end()
    assert (project.path / "plan.dwg").read_bytes() == b"the plan"
    let_go_on(project)
    project.sync()
    project.assert_saved("plan.dwg", None, b"the plan")


def test_a_mount_elsewhere_takes_over(mount_project: Callable[..., MountedProject], tmp_path: Path) -> None:
    project = mount_project("write_back=0")
    detach(project)
    before = project.mounted
    project.mount_after_end("write_back=0", at=tmp_path / "elsewhere")
    before.await_end()
    let_go_on(project)
    project.sync()
    project.assert_saved("plan.dwg", None, b"the plan")


def test_the_mount_point_is_free_for_others(
    mount_project: Callable[..., MountedProject], mount: Callable[..., Mounted]
) -> None:
    """Another user of Procore's has another journal: both daemons go on, each with its own."""
    project = mount_project("write_back=0")
    detach(project)
    other = mount(project.sandbox, at=project.path, second_user=True)
    states = {one["pid"]: one["state"] for one in told(project.mounted.home)}
    assert states == {project.mounted.pid: "detached", other.pid: "mounted"}
    assert (
        json.loads(project.mounted.home.procorefs("status", "--json", project.path).stdout)["pid"]
        == other.pid
    )
    let_go_on(project)
    project.mounted.await_end()
    assert project.file("plan.dwg").sizes == [8]
    other.unmount()


@pytest.mark.parametrize("by_project", [False, True])
def test_umount_now_leaves_it_to_the_next_mount(
    mount_project: Callable[..., MountedProject], by_project: bool
) -> None:
    project = mount_project("write_back=0")
    detach(project)
    spec = f"{project.sandbox.company_id}/{project.sandbox.project_id}"
    answer = project.mounted.home.procorefs("umount", "--now", spec if by_project else project.path)
    assert answer.returncode == 1
    assert "1 change stays in its journal" in answer.stderr
    assert not is_running(project.mounted.pid)
    assert project.files() == {}
    project.mount_again("write_back=0")
    let_go_on(project)
    project.sync()
    project.assert_saved("plan.dwg", None, b"the plan")


def test_umount_now_of_a_mount_waits_for_nothing(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=600")
    (project.path / "plan.dwg").write_bytes(b"the plan")
    answer = project.mounted.home.procorefs("umount", "--now", project.path)
    assert (answer.returncode, "1 change stays in its journal" in answer.stderr) == (1, True)
    project.mounted.await_end()
    assert project.files() == {}


def test_umount_waits_for_what_is_being_sent(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    detach(project)
    let_go_on(project)
    answer = project.mounted.home.procorefs("umount", project.path)
    assert "stay" not in answer.stderr
    project.mounted.await_end()
    assert project.file("plan.dwg").sizes == [8]


def test_what_fails_keeps_nobody(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=600")
    project.mounted.expect_warning(f"{LEFT} 1 changes that failed|was refused")
    project.sandbox.faults(rules=[{"kind": "error", "route": "POST */uploads", "status": 403, "count": 1}])
    (project.path / "refused.dwg").write_bytes(b"refused")
    assert project.settle("refused.dwg")[0].state == "failed"
    (project.path / ".held.dwg.x4Kp2Q").write_bytes(b"held")
    (project.path / "plan.dwg").write_bytes(b"the plan")
    take_away(project.path)
    project.mounted.await_end()
    assert project.files().keys() == {"plan.dwg"}
    assert f"{LEFT} 1 changes that failed or are incomplete, 1 that are held" in project.mounted.log


def test_sigterm_ends_it(mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("write_back=0")
    detach(project)
    os.kill(project.mounted.pid, signal.SIGTERM)
    wait_until(lambda: not is_running(project.mounted.pid), "the daemon to end", 10)
    let_go_on(project)
    project.mount_again("write_back=0")
    project.sync()
    project.assert_saved("plan.dwg", None, b"the plan")


def test_sync_of_everything_waits_for_it_too(
    mount_project: Callable[..., MountedProject], sandbox: SandboxHandle
) -> None:
    project = mount_project("write_back=0")
    detach(project)
    let_go_on(project)
    assert project.mounted.home.procorefs("sync").returncode == 0
    assert sandbox.inventory()["files"].keys() == {"/plan.dwg"}
    project.mounted.await_end()
