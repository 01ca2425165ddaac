"""A Redis of Debian on a Unix socket, for one test: nothing is saved, nothing listens on the network."""

import signal
import subprocess
import time
from pathlib import Path
from shutil import which

import pytest

START_S = 60.0
"""For one that hangs; one that ends is noticed at once."""


class RedisServer:
    """Can be stopped and started again; it forgets everything when stopped."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        log = self._folder / "redis.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["redis-server", *options, "--dir", self._folder], stdout=output, stderr=output
            )
        deadline = time.monotonic() + START_S
        while not self.socket.exists():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"redis-server did not start in {START_S:.0f} s"
            time.sleep(0.01)

    def pause(self) -> None:
        """It takes connections and commands, and says nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self.socket.unlink(missing_ok=True)


def started_redis(folder: Path) -> RedisServer:
    """A running one; skips the test where Debian's redis-server is not installed."""
    if which("redis-server") is None:
        pytest.skip("Debian's redis-server is not installed")
    server = RedisServer(folder)
    server.start()
    return server
