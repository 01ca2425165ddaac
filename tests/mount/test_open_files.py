"""As many files as somebody likes are open at once, whatever limit the mount was started with."""

import subprocess
import sys
from pathlib import Path

from tests.mounting import Home, Mounted
from tests.sandbox import SandboxHandle

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
        timeout=60,
    )
    assert started.returncode == 0, started.stderr
    mounted = Mounted(home, place, sandbox.env())
    try:
        done = subprocess.run(
            [sys.executable, "-c", OPEN_THEM, place], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        mounted.unmount()
    finally:
        mounted.end()
    assert not any("files" in route for route in sandbox.calls()["by_route"])
