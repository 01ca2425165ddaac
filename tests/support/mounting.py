"""Real mounts for tests: made by the command in a child process with XDG directories of its own, and always taken away.

A test that leaves a warning in the daemon's log fails unless it announced it, and so does one after which a process of
the mount is left, or a tree that does not pass the product's own check.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast

import pytest

from procorefs.tree.tree_store import TreeStore
from tests.support.forked import forks
from tests.support.sandbox import ROOT, SandboxHandle

T = TypeVar("T")

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
"""How much slower everything is than usual, as with AddressSanitizer (scripts/asan): multiplies bounds of waits."""

COMMAND_TIMEOUT_S = 60.0 * PATIENCE
END_TIMEOUT_S = 15.0 * PATIENCE


class Home:
    """XDG directories for one user of the tests; several mounts may share one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PROCOREFS_")
        }
        self.environment["PYTHONPATH"] = str(ROOT)
        for name in ("CONFIG", "CACHE", "STATE"):
            self.environment[f"XDG_{name}_HOME"] = str(directory / name.lower())
        runtime = directory / "run"
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.environment["XDG_RUNTIME_DIR"] = str(runtime)

    @property
    def state(self) -> Path:
        return Path(self.environment["XDG_STATE_HOME"]) / "procorefs"

    def procorefs(
        self, *arguments: str | Path, env: dict[str, str] | None = None, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person would."""
        return forks().run(*arguments, env=self.environment | (env or {}), timeout_s=timeout_s)


class Mounted:
    """One mount that answers."""

    def __init__(self, home: Home, path: Path, env: dict[str, str]) -> None:
        self.home = home
        self.path = path
        self.env = env
        self.expected: list[str] = []
        self._log_read = 0
        self.pid: int = self.status()["pid"]

    def status(self) -> dict[str, Any]:
        answer = self.home.procorefs("status", "--json", self.path)
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def cpu_s(self) -> float:
        """What the daemon has reckoned so far."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def expect_warning(self, pattern: str) -> None:
        """Announce a warning or error that the daemon may log."""
        self.expected.append(pattern)

    def expect_warnings_of(self, other: "Mounted") -> None:
        """Those that another mount of the same home announced."""
        self.expected += other.expected

    @property
    def log(self) -> str:
        return "".join(file.read_text() for file in sorted((self.home.state / "logs").glob("*.log")))

    def unmount(self, *, leaves: bool = False) -> str:
        """Take it away by the command, and see that nothing of it is left; returns what it told.

        `leaves`: something stays in the journal.
        """
        answer = self.home.procorefs("umount", self.path)
        assert answer.returncode == int(leaves), answer.stderr
        self.await_end()
        return answer.stderr

    def kill(self) -> None:
        """kill -9 of the daemon."""
        os.kill(self.pid, signal.SIGKILL)
        self.await_end()

    def await_end(self) -> None:
        wait_until(lambda: not is_running(self.pid), f"the daemon {self.pid} to end")

    def end(self) -> None:
        """The last word of every test: take away what is left and look for what must not be there."""
        if is_running(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.await_end()
            finally:
                if is_running(self.pid):
                    os.kill(self.pid, signal.SIGKILL)
        subprocess.run(["umount", "--lazy", self.path], capture_output=True, check=False)
        for file in self.home.state.rglob("tree.sqlite"):
            TreeStore.open(file).close()
        unannounced = [
            line
            for line in self.log.splitlines()
            if re.search(r" (WARNING|ERROR|CRITICAL) |^Traceback", line)
            and not any(re.search(pattern, line) for pattern in self.expected)
        ]
        assert not unannounced, "\n".join(unannounced)


UNLISTED = ("walked 1", "walked 2")


def make_unlisted(sandbox: SandboxHandle) -> None:
    """Folders for `list_all`."""
    for name in UNLISTED:
        sandbox.act("create_folder", path=f"/{name}")


def list_all(place: Path) -> None:
    """Let a mount, made after `make_unlisted`, list the whole project at once: a program that walks makes it."""
    for name in UNLISTED:
        assert not list((place / name).iterdir())


def mount_followed(sandbox: SandboxHandle, mount: Callable[..., Mounted], *options: str) -> Mounted:
    """A mount that has listed the whole project: from now on looks happen."""
    make_unlisted(sandbox)
    mounted = mount(sandbox, *options)
    list_all(mounted.path)
    return mounted


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = END_TIMEOUT_S) -> None:
    """For what gives no event to wait for, as the end of somebody else's process."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.02)


class ThreadOf(Generic[T]):
    """A call that may have to wait, made on a thread of its own for as long as the `with` lasts.

    Leaving it joins the thread: whatever the call waits for must have been released by then.
    """

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:
            self._error = error

    def result(self, timeout_s: float = END_TIMEOUT_S) -> T:
        """What the call returned or raised."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"the call did not end in {timeout_s:.0f} s"
        if self._error is not None:
            raise self._error
        return cast(T, self._answer)

    def is_waiting(self) -> bool:
        return self._thread.is_alive()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(END_TIMEOUT_S)


class Program(subprocess.Popen[bytes]):
    """A program in a session of its own."""

    def __init__(self, command: list[str], within: Path | None) -> None:
        nowhere = subprocess.DEVNULL
        super().__init__(command, stdout=nowhere, stderr=nowhere, start_new_session=True, cwd=within)
        self.catches = command[0] in {"dd", sys.executable}

    def has_open(self, place: Path) -> bool:
        handles = Path(f"/proc/{self.pid}/fd")
        return any(os.readlink(handle).startswith(f"{place}/") for handle in handles.iterdir())


class Programs:
    """Programs that are inside of the mount; whoever is left at the end is killed, and must die of it."""

    def __init__(self) -> None:
        self.running: list[Program] = []

    def start(self, *command: str | Path, within: Path | None = None) -> Program:
        started = Program([os.fspath(word) for word in command], within)
        self.running.append(started)
        return started

    def await_inside(self, place: Path) -> None:
        """Return when each has something open below `place`."""
        wait_until(lambda: all(p.has_open(place) for p in self.running), "the programs to open their files")

    def await_end(self, timeout_s: float = 10.0) -> None:
        wait_until(
            lambda: all(program.poll() is not None for program in self.running),
            "these to end: " + ", ".join(f"{p.args!r} ({state_of(p.pid)})" for p in self.running),
            timeout_s,
        )

    def clear(self) -> None:
        for program in self.running:
            program.kill()
        for program in self.running:
            program.wait(10)


def state_of(pid: int) -> str:
    """R, S, D … of a process; '-' when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "-"


def is_in_request(pid: int) -> bool:
    """Whether a process waits for a FUSE daemon's answer."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False
    return "fuse" in place or "request_wait" in place


def guard_of(mounted: Mounted) -> int:
    """The process that stands by for the daemon's death."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue
            if name == "procorefs-guard" and int(rest.split()[1]) == mounted.pid:
                return int(entry.name)
    raise AssertionError("the mount has no guard")


@pytest.fixture
def programs() -> Iterator[Programs]:
    started = Programs()
    yield started
    started.clear()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """XDG directories of this test alone."""
    return Home(tmp_path / "home")


@pytest.fixture
def mount(home: Home, tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """`mount(sandbox, "freshness=0", home=…)`: a mount that answers; ended, and looked over, with the test."""
    with ExitStack() as mounts:

        def make(
            sandbox: SandboxHandle,
            *options: str,
            home: Home = home,
            at: Path | None = None,
            second_user: bool = False,
        ) -> Mounted:
            path = at or tmp_path / f"mnt{len(list(tmp_path.glob('mnt*')))}"
            with suppress(FileExistsError):  # and no look at it: it may be a dead mount's
                os.mkdir(path)
            env = sandbox.env(second_user=second_user)
            words = ["-o", ",".join(options)] if options else []
            answer = home.procorefs("mount", *words, path, env=env)
            assert answer.returncode == 0, answer.stderr
            mounted = Mounted(home, path, env)
            mounts.callback(mounted.end)
            return mounted

        yield make
