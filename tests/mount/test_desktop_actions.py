"""What the menus of file managers start: check-outs that last, and old versions."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.mounting import Home, Mounted, mount_followed, wait_until
from tests.support.sandbox import SandboxHandle


def check_out(home: Home, file: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "procorefs.cli", "desktop", "check-out", "--", str(file)],
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_check_out_lasts_until_the_check_in(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, tmp_path: Path
) -> None:
    sandbox.act("put", path="/plan.txt", text="x")
    mounted = mount_followed(sandbox, mount)
    file = mounted.path / "plan.txt"

    def holder() -> bool:
        answer = subprocess.run(
            ["getfattr", "-n", "user.procore.checked_out_by", file], capture_output=True, check=False
        )
        return answer.returncode == 0

    with check_out(home, file) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == f"{file} is checked out.\n"
        assert holder()
        (tmp_path / "link").symlink_to(mounted.path)
        answer = home.procorefs("desktop", "check-in", tmp_path / "link" / "plan.txt")
        assert answer.returncode == 0, answer.stderr
        assert holding.wait(10) == 0
    wait_until(lambda: not holder(), "the check-in")
    again = home.procorefs("desktop", "check-in", file)
    assert again.returncode == 1
    assert "was not checked out here" in again.stderr


def test_a_document_that_somebody_holds_is_refused_with_a_reason(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    sandbox.act("put", path="/plan.txt", text="x")
    sandbox.act("check_out", path="/plan.txt")
    mounted = mount_followed(sandbox, mount)
    with check_out(home, mounted.path / "plan.txt") as holding:
        _, said = holding.communicate(timeout=30)
    assert holding.returncode == 1
    assert "is checked out by another user or locked by a program" in said


def test_a_mount_that_only_reads_checks_nothing_out(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home
) -> None:
    sandbox.act("put", path="/plan.txt", text="x")
    mounted = mount_followed(sandbox, mount, "ro")
    answer = home.procorefs("desktop", "check-out", mounted.path / "plan.txt")
    assert answer.returncode == 1
    assert "is not checked out: the mount or the account only reads" in answer.stderr


def test_a_file_elsewhere_is_not_checked_out(home: Home, tmp_path: Path) -> None:
    (tmp_path / "plan.txt").write_text("x")
    answer = home.procorefs("desktop", "check-out", tmp_path / "plan.txt")
    assert answer.returncode == 1
    assert "is not in a ProcoreFS mount" in answer.stderr


def test_what_opens_an_address_gets_no_secret_and_is_not_waited_for(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], home: Home, tmp_path: Path
) -> None:
    sandbox.act("put", path="/plan.txt", text="x")
    mounted = mount_followed(sandbox, mount)
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(
        f'#!/bin/sh\nenv >{tmp_path}/seen\necho "$1" >>{tmp_path}/seen\nsleep 1000 &\necho $! >{tmp_path}/pid\n'
    )
    opener.chmod(0o700)
    home.environment["PATH"] = f"{opener.parent}:{home.environment['PATH']}"
    home.environment["PROCOREFS_CLIENT_SECRET"] = "of a test"
    try:
        answer = home.procorefs("desktop", "versions", mounted.path / "plan.txt")
        assert answer.returncode == 0, answer.stderr
        seen = (tmp_path / "seen").read_text()
        assert f"{mounted.path}/.procore/versions/plan.txt" in seen
        assert "of a test" not in seen
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
