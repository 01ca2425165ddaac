"""Ctrl-C ends programs that wait for a silent server, at once; an alarm does not."""

import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.mounting import Mounted, Programs, is_in_request, wait_until
from tests.support.patterns import pattern
from tests.support.sandbox import SandboxHandle

AT_ONCE_S = 1.0

SCENES = {
    "cat": ("storage GET", ["cat", "big.bin"]),
    "cp": ("storage GET", ["cp", "big.bin", "/dev/null"]),
    "ls": ("GET /rest/v1.0/folders/{id}", ["ls", "-la", "sub"]),
    "stat": ("GET /rest/v1.0/folders/{id}", ["stat", "sub/file.txt"]),
    "find": ("GET /rest/v*", ["find", "."]),
    "open": ("GET /rest/v*", ["cat", "sub/file.txt"]),
}


@pytest.fixture
def project(sandbox: SandboxHandle) -> SandboxHandle:
    sandbox.reset(0)
    sandbox.act("create_folder", path="/sub")
    sandbox.act("put", path="/sub/file.txt", text="hello")
    sandbox.act("put", path="/big.bin", base64=base64.b64encode(pattern(1, 3_000_000)).decode())
    return sandbox


@pytest.mark.parametrize("scene", SCENES)
def test_ctrl_c_ends_who_waits(
    project: SandboxHandle, mount: Callable[..., Mounted], programs: Programs, scene: str
) -> None:
    route, command = SCENES[scene]
    mounted = mount(project)
    project.faults(rules=[{"kind": "silence", "route": route}])
    program = programs.start(*command, within=mounted.path)
    project.wait_for_silent_calls(1)
    program.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    assert program.wait(10) == -signal.SIGINT
    assert time.monotonic() - began_s < AT_ONCE_S
    project.release()
    assert (mounted.path / "sub" / "file.txt").read_text() == "hello"


PATIENT = """
import os, signal, sys
seen = []
signal.signal(signal.SIGALRM, lambda *_: seen.append("alarm"))
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
try:
    answer = {"stat": lambda: os.stat("sub/file.txt").st_size,
              "list": lambda: len(os.listdir("sub")),
              "read": lambda: len(open("big.bin", "rb").read())}[sys.argv[1]]()
except OSError as error:
    answer = error.strerror
signal.setitimer(signal.ITIMER_REAL, 0)
print(answer, len(seen) > 0)
"""


@pytest.mark.parametrize(("what", "answer"), [("stat", 5), ("list", 1), ("read", 3_000_000)])
def test_an_alarm_ends_nobody(
    project: SandboxHandle, mount: Callable[..., Mounted], what: str, answer: int
) -> None:
    mounted = mount(project)
    route = "storage GET" if what == "read" else "GET /rest/v1.0/folders/{id}"
    project.faults(rules=[{"kind": "silence", "route": route}])
    with subprocess.Popen(
        [sys.executable, "-c", PATIENT, what], cwd=mounted.path, stdout=subprocess.PIPE, text=True
    ) as program:
        project.wait_for_silent_calls(1)
        time.sleep(0.8)  # alarms come meanwhile
        project.release()
        told, _ = program.communicate(timeout=10)
    assert told.split() == [str(answer), "True"]


def test_ctrl_c_after_an_alarm(
    project: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    """The kernel interrupts a request once; we go on looking whether its caller is told to stop."""
    mounted = mount(project)
    project.faults(rules=[{"kind": "silence", "route": "GET /rest/v1.0/folders/{id}"}])
    code = (
        "import os, signal; signal.signal(signal.SIGALRM, lambda *_: None); "
        "signal.signal(signal.SIGINT, signal.SIG_DFL); signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2); "
        "os.listdir('sub')"
    )
    program = programs.start(sys.executable, "-c", code, within=mounted.path)
    project.wait_for_silent_calls(1)
    time.sleep(0.5)  # alarms come meanwhile
    program.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    assert program.wait(10) == -signal.SIGINT
    assert time.monotonic() - began_s < AT_ONCE_S
    project.release()


def test_who_gives_up_leaves_the_others_served(
    project: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    mounted = mount(project)
    # the whole listing, which the second one asks for, would serve the first as well
    project.faults(rules=[{"kind": "silence", "route": "GET /rest/v*"}])
    first = programs.start("ls", "sub", within=mounted.path)
    project.wait_for_silent_calls(1)
    others = [programs.start("ls", "sub", within=mounted.path) for _ in range(2)]
    wait_until(lambda: all(is_in_request(other.pid) for other in others), "the others to ask, too")
    first.send_signal(signal.SIGINT)
    assert first.wait(10) == -signal.SIGINT
    project.release()
    assert [other.wait(10) for other in others] == [0, 0]
