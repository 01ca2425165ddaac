"""The command line in child processes that need no interpreter's start: one process imports everything once and forks.

    client ── one message: words, environment, directory; its standard files beside it ──▶ server ── fork ── command
       ◀── on a socket of each command's own: its process id, and once it has ended its status ───────┘

From `main()` on a command is the same as a person's. What comes before, and that each command imports what it needs,
is for the tests of the command line, which start an interpreter.
"""

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

import trio

ROOT = Path(__file__).resolve().parents[2]
_LARGEST_REQUEST = 1 << 20
_END_TIMEOUT_S = 10.0


class Forked:
    """A command that runs: as much of subprocess.Popen as tests need."""

    def __init__(self, words: Sequence[str], news: socket.socket) -> None:
        self.args = words
        self.returncode: int | None = None
        self._news = news
        self.pid = int(self._line())

    def _line(self) -> str:
        line = self._news.recv(64).decode()
        assert line, f"the server of forks ended under {self.args}"
        return line

    def poll(self) -> int | None:
        self._news.setblocking(False)
        try:
            return self.wait()
        except BlockingIOError:
            return None
        finally:
            self._news.setblocking(True)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, or the negative number of the signal that ended it."""
        if self.returncode is None:
            if timeout is not None:
                self._news.settimeout(timeout)
            try:
                self.returncode = int(self._line())
            except TimeoutError:
                raise subprocess.TimeoutExpired(list(self.args), timeout or 0) from None
            finally:
                self._news.setblocking(True)
        return self.returncode

    def kill(self) -> None:
        """Nothing happens when it has ended: its number stays its own until its status was read."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()
        self._news.close()


class Forks:
    """The process that forks, seen from the tests; one serves a whole run."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: text for name, text in os.environ.items() if not name.startswith("PROCOREFS_")}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._requests = ours
        self._one_at_a_time = threading.Lock()

    def start(
        self,
        *words: str | Path,
        env: dict[str, str],
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
    ) -> Forked:
        """`procorefs WORDS` with exactly this environment; what is not said stays the tests' own, stdin is empty."""
        command = [os.fspath(word) for word in words]
        news, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = json.dumps({"words": command, "env": env, "cwd": os.getcwd()}).encode()
        with open(os.devnull, "rb") as nothing, theirs:
            files = [nothing, stdout or sys.__stdout__, stderr or sys.__stderr__, theirs]
            descriptors = array.array("i", [file.fileno() for file in files if file is not None])
            with self._one_at_a_time:
                self._requests.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        return Forked(command, news)

    def run(
        self, *words: str | Path, env: dict[str, str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """The same to its end, with what it printed. Raises subprocess.TimeoutExpired; then it was killed."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self.start(*words, env=env, stdout=out, stderr=err) as running:
                status = running.wait(timeout_s)
            printed = [_text(file) for file in (out, err)]
        return subprocess.CompletedProcess(list(running.args), status, *printed)

    def close(self) -> None:
        """End the server; commands that still run go on."""
        self._requests.close()
        self._process.wait(_END_TIMEOUT_S)


@cache
def forks() -> Forks:
    """Those of this run; the first who asks starts them."""
    started = Forks()
    atexit.register(started.close)
    return started


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Server:
    """The process that forks."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._looks = selectors.DefaultSelector()
        self._looks.register(requests, selectors.EVENT_READ)

    def serve(self) -> None:
        """Fork for each request, and tell of each end, until nobody can ask any more."""
        while True:
            for key, _ in self._looks.select():
                if key.fileobj is not self._requests:
                    self._tell_end(key.fd, *key.data)
                elif not self._take():
                    return

    def _take(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._requests, _LARGEST_REQUEST, 4)
        if not message:
            return False
        pid = os.fork()
        if pid == 0:
            _become(descriptors, **json.loads(message))
        news = socket.socket(fileno=descriptors.pop())
        for descriptor in descriptors:
            os.close(descriptor)
        news.send(b"%d" % pid)
        self._looks.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, news))
        return True

    def _tell_end(self, pidfd: int, pid: int, news: socket.socket) -> None:
        self._looks.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        with news:
            try:
                news.send(b"%d" % os.waitstatus_to_exitcode(status))
            except BrokenPipeError:
                return  # nobody waits for it


def _become(descriptors: list[int], words: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """The child: what an interpreter would have given the command, then the command, then what an interpreter does."""
    status = 1
    try:
        for target, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # its own order of tasks: of this generator alone a fork would get the server's state
        trio._core._run._r.seed()
        sys.argv = ["procorefs", *words]
        status = _main()
    finally:
        os._exit(status)


def _main() -> int:
    from procorefs.cli.main import main

    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*_raised())
        status = 1
    else:
        status = 0
    threading._shutdown()  # type: ignore[attr-defined]  # joins its threads, as an interpreter does at its end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _raised() -> tuple[type[BaseException], BaseException, TracebackType | None]:
    kind, error, trace = sys.exc_info()
    assert kind is not None
    assert error is not None
    return kind, error, trace


def _import_all() -> None:
    """Everything that a command may import, and the daemon."""
    import procorefs.cli

    for module in pkgutil.walk_packages(procorefs.cli.__path__, "procorefs.cli."):
        if module.name != "procorefs.cli.__main__":
            importlib.import_module(module.name)
    importlib.import_module("procorefs.daemon")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_all()
    gc.collect()
    gc.freeze()
    _Server(socket.socket(fileno=int(sys.argv[1]))).serve()
