"""kill -9 at any moment of a read-only mount: nobody hangs, the next mount cleans up by itself and knows the truth."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounting import Home, Mounted, Programs, guard_of, is_running, wait_until
from tests.support.sandbox import SandboxHandle

ROUNDS = 5


def tree_of(place: Path) -> dict[str, tuple[int, int]]:
    """Every path with its inode number and size."""
    found = {}
    for folder, folders, files in os.walk(place, onerror=raise_it):
        for name in (*folders, *files):
            path = Path(folder, name)
            told = path.stat()
            found[str(path.relative_to(place))] = (told.st_ino, told.st_size)
    return found


def raise_it(error: OSError) -> None:
    raise error


def test_killed_at_any_moment(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs, tmp_path: Path
) -> None:
    """While it lists, looks and reads, over and over; the tree and every inode number are the same in the end."""
    sandbox.reset(600)
    moments = random.Random(4711)
    place = tmp_path / "mnt"
    for turn in range(ROUNDS):
        mounted = mount(sandbox, "freshness=0", at=place)
        programs.start("find", place, "-type", "f", "-size", "-200k", "-exec", "md5sum", "{}", "+")
        programs.start("ls", "-laR", place)
        time.sleep(moments.random() * 0.4)  # the drawn moment is the test's input; nothing is waited for
        sandbox.act("put", path=f"/crash {turn}.txt", text=f"round {turn}")
        time.sleep(moments.random() * 0.1)  # the moment of the kill, drawn as well
        mounted.kill()
        programs.await_end(5)
    last = mount(sandbox, "freshness=0", at=place)
    for turn in range(ROUNDS):
        assert (place / f"crash {turn}.txt").read_text() == f"round {turn}"
    known = tree_of(place)
    assert len(known) == 600 + ROUNDS
    assert len({inode for inode, _ in known.values()}) == len(known)
    last.kill()
    again = mount(sandbox, "freshness=0", at=place)
    assert tree_of(place) == known
    again.unmount()


def test_killed_in_the_first_listing(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs, tmp_path: Path
) -> None:
    """Pages came, others did not: what is half listed is never taken for all."""
    sandbox.reset(600)
    sandbox.faults(
        settings={"per_page_cap": 50},
        rules=[{"kind": "silence", "route": "GET /rest/v*documents", "skip": 3}],
    )
    mounted = mount(sandbox)
    programs.start("find", mounted.path)
    sandbox.wait_for_silent_calls()
    mounted.kill()
    programs.await_end(5)
    sandbox.release()
    again = mount(sandbox, at=mounted.path)
    assert len(tree_of(again.path)) == 600


def test_daemon_and_guard_killed_together(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    mounted = mount(sandbox)
    file = next(path for path in mounted.path.rglob("*") if path.is_file() and path.stat().st_size)
    sandbox.faults(rules=[{"kind": "silence", "route": "storage GET"}])
    programs.start("cat", file)
    sandbox.wait_for_silent_calls()
    guard = guard_of(mounted)
    os.kill(guard, signal.SIGKILL)
    mounted.expect_warning("guard process")
    mounted.kill()
    programs.await_end(5)
    sandbox.release()
    again = mount(sandbox, at=mounted.path)
    assert file.read_bytes()
    again.unmount()


def test_the_guard_alone_is_killed(sandbox: SandboxHandle, mount: Callable[..., Mounted]) -> None:
    mounted = mount(sandbox)
    mounted.expect_warning("guard process")
    os.kill(guard_of(mounted), signal.SIGKILL)
    assert os.listdir(mounted.path)
    mounted.unmount()


def test_a_stopped_daemon_goes_on(
    sandbox: SandboxHandle, mount: Callable[..., Mounted], programs: Programs
) -> None:
    mounted = mount(sandbox)
    names = os.listdir(mounted.path)
    os.kill(mounted.pid, signal.SIGSTOP)
    waiting = programs.start("ls", mounted.path / names[0])
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.3)
    os.kill(mounted.pid, signal.SIGCONT)
    assert waiting.wait(5) == 0
    mounted.unmount()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("route", ["POST /oauth/token", "GET /rest/v1.0/folders"])
def test_a_mount_command_that_is_stopped(
    sandbox: SandboxHandle, home: Home, tmp_path: Path, route: str, number: signal.Signals
) -> None:
    """While the server is silent. Ctrl-C leaves nothing behind; a killed command leaves a daemon that can be ended."""
    place = tmp_path / "mnt"
    place.mkdir()
    sandbox.faults(rules=[{"kind": "silence", "route": route}])
    command = [sys.executable, "-c", "from procorefs.cli.main import main; main()", "mount", str(place)]
    with subprocess.Popen(
        command,
        env=home.environment | sandbox.env(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as mounting:
        sandbox.wait_for_silent_calls()
        began_s = time.monotonic()
        mounting.send_signal(number)
        _, said = mounting.communicate(timeout=5)
        assert time.monotonic() - began_s < 2
    assert mounting.returncode != 0
    assert "Traceback" not in said
    daemons = children_with(str(place))
    if number == signal.SIGINT:
        wait_until(lambda: not children_with(str(place)), "the daemon to end", 5)
    for pid in daemons:
        if is_running(pid):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not children_with(str(place)), "the daemon to end", 5)
    assert not os.path.ismount(place)
    sandbox.release()


def children_with(word: str) -> list[int]:
    """Processes of this test's mount: their command line names its mount point."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if word.encode() in words and is_running(int(entry.name)):
                found.append(int(entry.name))
    return found
