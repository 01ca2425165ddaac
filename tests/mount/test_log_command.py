"""`procorefs log` on a real mount: its last lines, lines as they come, and debug detail while somebody reads."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.mounting import Mounted, wait_until
from tests.support.writing import MountedProject

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

MountProject = Callable[..., MountedProject]


@contextmanager
def following(mounted: Mounted, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """`procorefs log` in a process of its own, ended by Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-m", "procorefs.cli", "log", *words, str(mounted.path)],
        env=mounted.home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def details(mounted: Mounted) -> int:
    return len(re.findall(r" DEBUG .*GET documents", mounted.log))


def poll(project: MountedProject) -> None:
    """Make a call: with freshness=0 each open polls."""
    (project.path / "plan.txt").read_text()


def ready(project: MountedProject) -> MountedProject:
    (project.path / "plan.txt").write_text("plan")
    project.sync()
    project.await_listed()
    return project


def test_the_last_lines_by_level(mount_project: MountProject) -> None:
    mounted = mount_project("freshness=3600").mounted
    whole = mounted.home.procorefs("log", mounted.path)
    assert f"is mounted at {mounted.path}." in whole.stdout
    assert (
        mounted.home.procorefs("log", "-n", "1", mounted.path).stdout == whole.stdout.splitlines()[-1] + "\n"
    )
    assert mounted.home.procorefs("log", "--level", "warning", mounted.path).stdout == ""
    mounted.unmount()
    ended = mounted.home.procorefs("log", mounted.path)
    assert "is not mounted any more" in ended.stdout
    refused = mounted.home.procorefs("log", mounted.path.parent)
    assert refused.returncode == 1
    assert "there is no log" in refused.stderr


def test_new_lines_are_followed_until_the_daemon_ends(mount_project: MountProject) -> None:
    mounted = mount_project("freshness=3600").mounted
    with following(mounted, "--follow", "-n", "0") as process:
        assert process.stdout is not None
        wait_until(lambda: has_open(process.pid, mounted), "the command to open the log")
        mounted.unmount()
        assert "is not mounted any more" in process.stdout.read()
        assert process.wait(30) == 0


def has_open(pid: int, mounted: Mounted) -> bool:
    log = mounted.status()["log"]
    descriptors = f"/proc/{pid}/fd"
    try:
        return any(os.readlink(f"{descriptors}/{number}") == log for number in os.listdir(descriptors))
    except FileNotFoundError:
        return False


def test_detail_is_logged_while_somebody_reads(mount_project: MountProject) -> None:
    project = ready(mount_project("freshness=0"))
    assert details(project.mounted) == 0

    def is_detailed() -> bool:
        before = details(project.mounted)
        poll(project)
        return details(project.mounted) > before

    with following(project.mounted, "--level", "debug") as process:
        wait_until(is_detailed, "debug detail in the log")
        assert process.stdout is not None
        assert any(" DEBUG " in line for line in process.stdout)
    wait_until(lambda: not is_detailed(), "debug detail to end with its reader")


def test_a_signal_switches_detail_on_and_off(mount_project: MountProject) -> None:
    project = ready(mount_project("freshness=0", "log_level=info"))
    os.kill(project.mounted.pid, signal.SIGUSR1)
    wait_until(lambda: "Debug detail is on" in project.mounted.log, "the signal to be handled")
    poll(project)
    assert details(project.mounted)
    os.kill(project.mounted.pid, signal.SIGUSR1)
    wait_until(lambda: "Debug detail is off" in project.mounted.log, "the signal to be handled")
    before = details(project.mounted)
    poll(project)
    assert details(project.mounted) == before


def test_log_level_leaves_messages_out(mount_project: MountProject) -> None:
    mounted = mount_project("log_level=error").mounted
    assert "is mounted at" not in mounted.log
