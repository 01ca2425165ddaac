"""Another user of this machine, who sends bytes over loopback; only root can become one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

OTHER_UID = 65_534

PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin")
"""The interpreter of the tests may be in a home directory, where no other user may go."""

needs_other_user = pytest.mark.skipif(
    os.geteuid() != 0 or PYTHON is None, reason="needs to become another user"
)

_SEND = """\
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection:
    connection.sendall(bytes.fromhex(sys.argv[3]))
    while piece := connection.recv(65536):
        sys.stdout.buffer.write(piece)
"""


def answer_to_other(host: str, port: int, request: bytes) -> bytes:
    """Send the request as another user; returns what comes back until the end of the connection."""
    done = subprocess.run(
        [str(PYTHON), "-I", "-c", _SEND, host, str(port), request.hex()],
        user=OTHER_UID, group=OTHER_UID, extra_groups=[], cwd="/", capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


_CONNECT = """\
import os, socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(f"/proc/self/fd/{sys.argv[1]}/{sys.argv[2]}")
except OSError as error:
    print(os.strerror(error.errno))
"""


def connect_as_other(file: Path) -> str:
    """Connect to a socket file as another user, who may pass its folder; returns what the system says against it."""
    folder = os.open(file.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        file.parent.chmod(0o755)
        done = subprocess.run(
            [str(PYTHON), "-I", "-c", _CONNECT, str(folder), file.name], pass_fds=(folder,),
            user=OTHER_UID, group=OTHER_UID, extra_groups=[], cwd="/", capture_output=True, timeout=60, check=True,
        )  # fmt: skip
    finally:
        os.close(folder)
    return done.stdout.decode().strip()
