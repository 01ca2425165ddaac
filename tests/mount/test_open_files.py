"""As many files as somebody likes are open at once, whatever limit the mount was started with."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.mounting import COMMAND_TIMEOUT_S, Home, Mounted, wait_until
from tests.support.sandbox import SandboxHandle
from tests.support.writing import MountedProject, errno_name

SOFT_LIMIT = 256
FILES = 400
OPEN_THEM = f"""
import os, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
names = [os.path.join(sys.argv[1], f"{{number}}.txt") for number in range({FILES})]
files = [os.open(name, os.O_CREAT | os.O_RDWR) for name in names]
for file in files:
    os.write(file, b"bytes")
for name in names:
    os.unlink(name)
assert all(os.pread(file, 9, 0) == b"bytes" for file in files)
"""


def test_more_files_open_for_writing_than_the_soft_limit(
    sandbox: SandboxHandle, home: Home, tmp_path: Path
) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    command = [sys.executable, "-m", "procorefs.cli", "mount", str(place)]
    started = subprocess.run(
        ["sh", "-c", f'ulimit -Sn {SOFT_LIMIT}; exec "$@"', "sh", *command],
        env=home.environment | sandbox.env(),
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert started.returncode == 0, started.stderr
    mounted = Mounted(home, place, sandbox.env())
    try:
        done = subprocess.run(
            [sys.executable, "-c", OPEN_THEM, place],
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        mounted.unmount()
    finally:
        mounted.end()
    assert not any("files" in route for route in sandbox.calls()["by_route"])


def test_files_that_nobody_could_open_for_want_of_descriptors_are_sent(
    mount_project: Callable[..., MountedProject],
) -> None:
    project = mount_project("write_back=2")
    project.mounted.expect_warning("Too many open files")
    files = [project.path / f"{number}.txt" for number in range(5)]
    for file in files:
        file.write_bytes(b"bytes")
    daemon = project.mounted.pid
    usual = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (3, usual[1]))
    try:
        refused = [errno_name(lambda file=file: file.open("r+b")) for file in files]  # type: ignore[misc]
        refused.append(errno_name((project.path / "new.txt").touch))
    finally:
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, usual)
    assert set(refused) == {"EMFILE"}
    wait_until(lambda: len(project.files()) == len(files), "the files to arrive by themselves")
    assert project.waiting() == []
    assert sorted(project.path.iterdir()) == files
