"""Settings that change while a mount runs: `procorefs set`, and `mount -o remount,…` through the helper of mount(8)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procorefs.service.control_socket import AccessRequest, ask
from procorefs.service.status import Settings
from procorefs.storage.mountinfo import mount_at, read_mounts
from tests.support.mounting import Mounted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, control_socket, errno_name, make_tree

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

MIB = 1 << 20
HELPER = [sys.executable, "-c", "from procorefs.cli.mount_helper import main; main()"]

MountProject = Callable[..., MountedProject]


def set_(mounted: Mounted, *words: str) -> "subprocess.CompletedProcess[str]":
    return mounted.home.procorefs("set", mounted.path, *words)


def remount(mounted: Mounted, options: str) -> "subprocess.CompletedProcess[str]":
    """As mount(8) calls its helper for `mount -o remount,OPTIONS`, with what it read in the kernel's list."""
    words = f"{options},remount,nosuid,user_id=0,group_id=0,default_permissions"
    return subprocess.run(
        [*HELPER, "8801/1", str(mounted.path), "-o", words, "-t", "fuse.procorefs"],
        env=mounted.home.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def settings(mounted: Mounted) -> dict[str, Any]:
    found: dict[str, Any] = mounted.status()["settings"]
    return found


def remounted(mounted: Mounted, options: str) -> None:
    done = remount(mounted, options)
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_change_together_or_not_at_all(mount_project: MountProject) -> None:
    mounted = mount_project("freshness=3600").mounted
    before = settings(mounted)
    refused = set_(mounted, "cache_size=1M", "write_back=5")
    assert refused.returncode == 1
    assert "option 'write_back' cannot change while the mount runs" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    for wrong in ("freshness=soon", "colour=red", "ro", "delete_guard=0", "freshness=5,ro"):
        assert set_(mounted, "cache_size=1M", wrong).returncode == 1
    assert settings(mounted) == before
    done = set_(mounted, "freshness=0.5", "cache_size=1M", "log_level=error", "delete_guard=off")
    assert done.stdout.split() == [
        "freshness=0.5",
        f"cache_size={MIB}",
        "log_level=error",
        "delete_guard=off",
    ]
    assert settings(mounted) == {
        "freshness": 0.5,
        "cache_size": MIB,
        "delete_guard": None,
        "log_level": "error",
        "read_only": False,
    }
    assert set_(mounted).stdout == done.stdout


def test_freshness_counts_at_the_next_open(mount_project: MountProject, sandbox: SandboxHandle) -> None:
    project = mount_project("freshness=3600")
    (project.path / "plan.txt").write_text("first")
    project.sync()
    project.await_listed()
    sandbox.act("put", path="/plan.txt", text="second")
    assert (project.path / "plan.txt").read_text() == "first"
    assert set_(project.mounted, "freshness=0").returncode == 0
    assert (project.path / "plan.txt").read_text() == "second"


def test_a_smaller_cache_deletes_what_is_too_much(mount_project: MountProject, tmp_path: Path) -> None:
    project = mount_project("freshness=3600")
    source = make_tree(tmp_path / "tree", files=6, folders=1)
    subprocess.run(["cp", "-r", f"{source}/.", project.path], check=True)
    project.sync()
    for file in project.path.rglob("*.*"):
        if file.is_file():
            file.read_bytes()
    cached = project.mounted.status()["cache"]["bytes"]
    assert cached > 32 << 10
    assert set_(project.mounted, "cache_size=32K").returncode == 0
    cache = project.mounted.status()["cache"]
    assert cache["limit"] == 32 << 10
    assert cache["bytes"] <= cache["limit"]
    chunks = Path(project.mounted.home.environment["XDG_CACHE_HOME"])
    wait_until(
        lambda: sum(file.stat().st_size for file in chunks.rglob("??/*")) <= 32 << 10,
        "the chunks to go from the disk",
    )


def test_a_smaller_delete_guard_holds_the_next_deletions(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600")
    names = [f"plan {number}.txt" for number in range(4)]
    for name in names:
        (project.path / name).write_text(name)
    project.sync()
    project.mounted.expect_warning("delete guard holds them")
    assert set_(project.mounted, "delete_guard=3").returncode == 0
    for name in names:
        (project.path / name).unlink()
    assert len(project.settle()) == 4
    assert sorted(project.files()) == names


def test_a_read_only_remount_refuses_changes_and_sends_what_waits(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600", "write_back=1h")
    (project.path / "plan.txt").write_text("waits")
    remounted(project.mounted, "ro")
    assert settings(project.mounted)["read_only"]
    assert [mount.mountpoint for mount in read_mounts()].count(project.path) == 1
    for attempt in (
        lambda: (project.path / "new.txt").touch(),
        lambda: (project.path / "plan.txt").write_text("changed"),
        lambda: (project.path / "plan.txt").unlink(),
        lambda: (project.path / "folder").mkdir(),
    ):
        assert errno_name(attempt) == "EROFS"
    project.sync()
    assert project.files().keys() == {"plan.txt"}
    remounted(project.mounted, "rw")
    (project.path / "new.txt").touch()
    project.sync()
    assert project.files().keys() == {"plan.txt", "new.txt"}


def test_a_mount_that_is_open_for_writing_stays_writable(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600")
    with (project.path / "plan.txt").open("w") as file:
        before = settings(project.mounted)
        refused = remount(project.mounted, "ro,freshness=7")
        assert refused.returncode == 32
        assert "open for writing" in refused.stderr
        file.write("written")
    assert settings(project.mounted) == before
    assert not before["read_only"]
    project.sync()
    assert project.files().keys() == {"plan.txt"}


def test_a_mount_that_began_read_only_sends_once_it_is_writable(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600", "write_back=1h")
    (project.path / "plan.txt").write_text("waits")
    project.mounted.home.procorefs("umount", "--now", project.path)
    project.mounted.await_end()
    project.mount_again("ro", "freshness=3600")
    assert project.mounted.status()["outbox"]["held"] == 1
    remounted(project.mounted, "rw")
    project.sync()
    assert project.files().keys() == {"plan.txt"}
    (project.path / "plan.txt").write_text("changed")
    project.sync()
    assert project.file("plan.txt").version == 2


def test_the_daemon_refuses_changes_by_itself(mount_project: MountProject) -> None:
    project = mount_project("freshness=3600")
    with (project.path / "open.txt").open("w") as file:
        ask(control_socket(project.mounted), AccessRequest(read_only=True), Settings)
        assert errno_name(lambda: (project.path / "new.txt").touch()) == "EROFS"
        assert errno_name(lambda: os.truncate(project.path / "open.txt", 0)) == "EROFS"
        file.write("taken")  # it was open before
    project.sync()
    assert (project.path / "open.txt").read_text() == "taken"
    assert project.files().keys() == {"open.txt"}


def test_settings_of_fstab_come_with_a_remount(mount_project: MountProject) -> None:
    mounted = mount_project("freshness=3600").mounted
    remounted(mounted, "rw,freshness=7,nodev")
    assert settings(mounted)["freshness"] == 7
    line = next(
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(mounted.path) in line
    )
    assert {"nosuid", "nodev"} <= set(line.split()[5].split(","))


def test_what_is_no_mount_is_not_remounted(mount_project: MountProject, tmp_path: Path) -> None:
    mounted = mount_project("freshness=3600").mounted
    nowhere = Mounted.__new__(Mounted)
    nowhere.home, nowhere.path = mounted.home, tmp_path
    refused = remount(nowhere, "ro")
    assert refused.returncode == 32
    assert "is not a ProcoreFS mount" in refused.stderr
    assert mount_at(tmp_path, read_mounts()) is None
