"""What Procore's own tools have made: a user whose name is a blank, and the read-only files of the Schedule tool."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name

SYSTEM_USER = 2


def _with_schedules(sandbox: SandboxHandle) -> None:
    sandbox.act("create_folder", path="/Schedules", user=SYSTEM_USER)
    for name in ("baseline.mpp", "current.mpp"):
        sandbox.act("put", path=f"/Schedules/{name}", text="of the Schedule tool", user=SYSTEM_USER)
        sandbox.act("read_only", path=f"/Schedules/{name}", user=SYSTEM_USER)


def test_files_of_the_schedule_tool_cannot_be_changed_or_removed(
    mount_project: Callable[..., MountedProject], tmp_path: Path
) -> None:
    project = mount_project("freshness=3600", prepare=_with_schedules)
    project.await_listed()
    folder = project.path / "Schedules"
    plan = folder / "current.mpp"
    (project.path / "mine.mpp").write_text("mine")
    project.sync()
    before = project.files()
    assert plan.stat().st_mode & 0o222 == 0
    with project.counted() as calls:
        assert errno_name(lambda: plan.write_text("x")) == "EACCES"
        assert errno_name(lambda: os.truncate(plan, 0)) == "EACCES"
        assert errno_name(plan.unlink) == "EACCES"
        assert errno_name(lambda: plan.rename(tmp_path.parent / "x")) in ("EXDEV", "EACCES")
        assert errno_name(lambda: plan.rename(project.path / "x.mpp")) == "EACCES"
        assert errno_name(lambda: (project.path / "mine.mpp").rename(plan)) == "EACCES"
        assert errno_name(lambda: os.setxattr(plan, "user.procore.description", b"x")) == "EACCES"
        assert errno_name(folder.rmdir) == "ENOTEMPTY"
        removed = subprocess.run(["rm", "-rf", folder], capture_output=True, text=True, check=False)
        assert removed.returncode != 0
        assert "Permission denied" in removed.stderr
        project.sync()
    assert calls.writes == 0, calls.by_route
    assert sorted(os.listdir(folder)) == ["baseline.mpp", "current.mpp"]
    assert project.files() == before
    assert plan.read_text() == "of the Schedule tool"


def test_a_user_without_a_name(sandbox: SandboxHandle, mount_project: Callable[..., MountedProject]) -> None:
    project = mount_project("freshness=0", prepare=_with_schedules)
    project.await_listed()
    plan = project.path / "Schedules" / "current.mpp"
    assert os.getxattr(plan, "user.procore.created_by") == str(SYSTEM_USER).encode()
    sandbox.act("put", path="/plan.txt", text="x")
    sandbox.act("check_out", path="/plan.txt", user=SYSTEM_USER)
    path = project.path / "plan.txt"
    assert errno_name(lambda: path.write_text("y")) == "EBUSY"
    said = project.mounted.status()["refusals"][0]["reason"]
    assert "another user has it checked out" in said
    assert os.getxattr(path, "user.procore.checked_out_by") == str(SYSTEM_USER).encode()
