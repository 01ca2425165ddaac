"""Mounts to measure: ours by its command, with XDG directories of its own, and rclone's beside it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.bench.embedded import BenchFailed, Sandbox, clean_environment, end

COMMAND_S = 120.0
END_S = 15.0


class Mount:
    """Our mount at one place; may be made and taken away several times, its state stays."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self.path = folder / "mnt"
        self.path.mkdir(parents=True)
        self._folder = folder
        (folder / "run").mkdir(mode=0o700)
        self._environment = clean_environment() | sandbox.environment
        for name in ("CONFIG", "CACHE", "STATE"):
            self._environment[f"XDG_{name}_HOME"] = str(folder / name.lower())
        self._environment["XDG_RUNTIME_DIR"] = str(folder / "run")
        self.pid = 0

    @property
    def tree_file(self) -> Path:
        """The tree's database; there after the first mount."""
        return next((self._folder / "state").rglob("tree.sqlite"))

    def mount(self, *options: str) -> None:
        """Mount it; returns when it answers. Raises BenchFailed."""
        self._command("mount", *(["-o", ",".join(options)] if options else []), str(self.path))
        self.pid = int(self.status()["pid"])

    def timed_mount(self) -> float:
        """Seconds from the start of the command to the end of the first `ls`."""
        began = time.perf_counter()
        self._command("mount", str(self.path))
        subprocess.run(["ls", self.path], stdout=subprocess.DEVNULL, check=True)
        took_s = time.perf_counter() - began
        self.pid = int(self.status()["pid"])
        return took_s

    def unmount(self) -> None:
        """Take it away and wait until its daemon is gone."""
        self._command("umount", str(self.path))
        if not _has_ended(self.pid, END_S):
            raise BenchFailed(f"the daemon {self.pid} did not end")
        self.pid = 0

    def forget_content(self) -> None:
        """Delete the chunk cache, while it is not mounted."""
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._command("status", "--json", str(self.path)))
        return found

    def wait_until_listed(self) -> None:
        """Return when the whole project was listed."""
        deadline = time.monotonic() + COMMAND_S
        while self.status()["tree"]["state"] == "listing":
            if time.monotonic() > deadline:
                raise BenchFailed("the project was not listed in time")
            time.sleep(0.2)

    def resident_bytes(self) -> int:
        """VmRSS of the daemon."""
        return self._memory("VmRSS")

    def most_resident_bytes(self) -> int:
        """The most that it ever had, VmHWM."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise BenchFailed(f"the daemon {self.pid} has no {name}")

    def sync(self) -> None:
        """Return when all that was written is in Procore."""
        self._command("sync", str(self.path))

    def stop(self) -> None:
        """End the daemon, whatever waits."""
        _signal(self.pid, signal.SIGTERM)
        if not _has_ended(self.pid, END_S):
            raise BenchFailed(f"the daemon {self.pid} did not end")
        self.pid = 0

    def cpu_s(self) -> float:
        """What the daemon has used of the processors."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def take_down(self) -> None:
        """The end in any case: whatever is left of the mount and its daemon goes."""
        if self.pid:
            _signal(self.pid, signal.SIGTERM)
            if not _has_ended(self.pid, END_S):
                _signal(self.pid, signal.SIGKILL)
        detach(self.path)

    def _command(self, *words: str) -> str:
        done = subprocess.run(
            [_procorefs(), *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(f"procorefs {words[0]}: {done.stderr.strip()}")
        return done.stdout


def _procorefs() -> str:
    """The command as users run it: what pip put beside this Python."""
    return str(Path(sys.executable).with_name("procorefs"))


@contextlib.contextmanager
def our_mount(folder: Path, sandbox: Sandbox) -> Iterator[Mount]:
    """A mount that is gone after the context; `mount` makes it."""
    mount = Mount(folder, sandbox)
    try:
        yield mount
    finally:
        mount.take_down()


def rclone_command() -> str:
    """The rclone that `make bench` put into the virtual environment, else the system's, which may be years old."""
    own = Path(sys.prefix) / "rclone" / "bin" / "rclone"
    return str(own) if own.exists() else "rclone"


@contextlib.contextmanager
def rclone_mount(folder: Path, source: Path, *options: str) -> Iterator[Path]:
    """`rclone mount --vfs-cache-mode full` of a directory, but for `options` with rclone's own settings.

    Raises BenchFailed.

    rclone has no Procore backend. It reads the files by its local backend: no server is between, and none shares the
    cores with it, so nothing could be faster for it.
    """
    path = folder / "mnt"
    path.mkdir(parents=True)
    config = folder / "rclone.conf"
    config.touch(mode=0o600)
    command = [rclone_command(), "mount", "--vfs-cache-mode", "full", "--cache-dir", str(folder / "cache")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [*command, *options, str(source), str(path)],
            env=clean_environment() | {"RCLONE_CONFIG": str(config)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + END_S
        while not path.is_mount():
            if child.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"rclone did not mount: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield path
    finally:
        end(child)
        detach(path)


def detach(path: Path) -> None:
    """Unmount, whoever is inside; nothing happens where nothing is mounted."""
    with open("/proc/self/mounts") as mounts:  # noqa: PTH123 - Path.open reads the same
        mounted = any(line.split()[1] == str(path) for line in mounts)
    if mounted:
        command = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
        subprocess.run([*command, path], capture_output=True, check=False)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _has_ended(pid: int, timeout_s: float) -> bool:
    """Wait for the end of a process that is not our child."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False
