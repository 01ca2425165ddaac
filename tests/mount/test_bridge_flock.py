"""flock(2) through the bridge under a real kernel: owners, conversions, waiters and those who die."""

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procorefs.kernel.bridge.connection import find_connection
from tests.mount.test_bridge_mount import SOON_S, Mounted, errno_of, running

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB


@pytest.fixture
def words() -> list[str]:
    return ["flock"]


@pytest.fixture
def mounted(tmp_path: Path, words: list[str]) -> Iterator[Mounted]:
    mountpoint = tmp_path.resolve() / "mount point"
    mountpoint.mkdir()
    mounted = Mounted(mountpoint, 60.0, *words)
    try:
        mounted.wait_for("ready", 30)
        yield mounted
        assert not [line for line in mounted.seen if line.startswith(("unraisable", "failed", "wrong"))]
    finally:
        mounted.clean_up()


@pytest.fixture
def open_file(mounted: Mounted) -> Iterator[Callable[[], int]]:
    """Opens the file; what the test leaves open is closed at its end."""
    opened: list[int] = []

    def open_file() -> int:
        opened.append(os.open(mounted.path / "plain", os.O_RDONLY))
        return opened[-1]

    yield open_file
    for descriptor in opened:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def flock(descriptor: int, operation: int) -> int:
    """The errno, or 0."""
    return errno_of(lambda: fcntl.flock(descriptor, operation))


def program(mounted: Mounted, source: str) -> tuple[str, ...]:
    head = "import errno, fcntl, os, signal, sys, threading\n"
    head += f"f = os.open({str(mounted.path / 'plain')!r}, os.O_RDWR)\n"
    return sys.executable, "-uc", head + textwrap.dedent(source)


def nothing_is_locked(mounted: Mounted) -> None:
    assert mounted.ask("locked", "locked") == "locked 0"


def test_it_excludes_and_shares(mounted: Mounted, open_file: Callable[[], int]) -> None:
    one, two, three = open_file(), open_file(), open_file()
    assert flock(one, EX) == 0
    mounted.wait_for("has a exclusive")
    assert flock(two, EX | NB) == errno.EWOULDBLOCK
    assert flock(two, SH | NB) == errno.EWOULDBLOCK
    assert flock(one, UN) == 0
    assert flock(two, SH | NB) == 0
    assert flock(three, SH | NB) == 0
    assert flock(one, EX | NB) == errno.EWOULDBLOCK


def test_conversions_lose_the_old_lock_when_refused(mounted: Mounted, open_file: Callable[[], int]) -> None:
    one, two = open_file(), open_file()
    assert flock(one, SH) == flock(two, SH) == 0
    assert flock(one, EX | NB) == errno.EWOULDBLOCK
    assert flock(two, EX | NB) == 0
    assert flock(two, SH | NB) == 0
    assert flock(one, SH | NB) == 0


def test_duplicates_are_one_owner_until_the_last_close(
    mounted: Mounted, open_file: Callable[[], int]
) -> None:
    one, other = open_file(), open_file()
    twin = os.dup(one)
    assert flock(one, EX) == 0
    assert flock(twin, EX | NB) == 0
    os.close(one)
    assert flock(other, EX | NB) == errno.EWOULDBLOCK
    os.close(twin)
    assert flock(other, EX | NB) == 0, "the close was not seen before the next lock"
    mounted.wait_for("unlocks a held")


def test_unlocking_a_duplicate_unlocks_all(mounted: Mounted, open_file: Callable[[], int]) -> None:
    one, other = open_file(), open_file()
    twin = os.dup(one)
    assert flock(one, EX) == flock(twin, UN) == 0
    assert flock(other, EX | NB) == 0


def test_who_was_refused_takes_nothing_away_at_its_close(
    mounted: Mounted, open_file: Callable[[], int]
) -> None:
    holder, refused, third = open_file(), open_file(), open_file()
    assert flock(holder, EX) == 0
    assert flock(refused, EX | NB) == errno.EWOULDBLOCK
    os.close(refused)
    mounted.wait_for("unlocks b nothing")
    assert flock(third, EX | NB) == errno.EWOULDBLOCK


def test_descriptors_that_never_locked_are_not_asked_about(
    mounted: Mounted, open_file: Callable[[], int]
) -> None:
    os.close(open_file())
    mounted.wait_for("release")
    assert mounted.count("unlocks") == 0


def test_children_share_their_parents_lock(mounted: Mounted, open_file: Callable[[], int]) -> None:
    other = open_file()
    source = """
        fcntl.flock(f, fcntl.LOCK_EX)
        if os.fork() == 0:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sys.stdin.read()
            os._exit(0)
        os._exit(0)
    """
    parent = subprocess.Popen(program(mounted, source), stdin=subprocess.PIPE)
    assert parent.wait(SOON_S) == 0
    assert flock(other, EX | NB) == errno.EWOULDBLOCK, "the child has it still"
    assert parent.stdin is not None
    parent.stdin.close()  # ends the child, too
    assert flock(other, EX) == 0


def test_a_killed_holder_lets_the_waiter_in(mounted: Mounted, open_file: Callable[[], int]) -> None:
    waiter = open_file()
    with running(*program(mounted, "fcntl.flock(f, fcntl.LOCK_EX); signal.pause()")) as holder:
        mounted.wait_for("has")
        assert flock(waiter, EX | NB) == errno.EWOULDBLOCK
        holder.kill()
        holder.wait(SOON_S)
        assert flock(waiter, EX) == 0
        mounted.wait_for("has")


def test_waiters_are_served_when_it_is_free(mounted: Mounted, open_file: Callable[[], int]) -> None:
    holder = open_file()
    assert flock(holder, EX) == 0
    path = str(mounted.path / "plain")
    with running("flock", path, "echo", "first") as first:
        mounted.wait_for("wants b")
        assert first.poll() is None
        assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 1
        assert flock(holder, UN) == 0
        assert first.communicate(timeout=SOON_S)[0] == "first\n"
    assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 0
    nothing_is_locked(mounted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_waiter_that_is_told_to_stop_leaves_nothing(
    mounted: Mounted, open_file: Callable[[], int], number: signal.Signals
) -> None:
    holder, other = open_file(), open_file()
    assert flock(holder, EX) == 0
    with running("flock", str(mounted.path / "plain"), "true") as waiter:
        mounted.wait_for("wants b")
        waiter.send_signal(number)
        assert waiter.wait(SOON_S) == -number
    assert flock(holder, UN) == 0
    assert flock(other, EX | NB) == 0
    assert flock(other, UN) == 0
    nothing_is_locked(mounted)


def test_any_signal_ends_the_wait(mounted: Mounted, open_file: Callable[[], int]) -> None:
    """`flock --timeout` counts on SIGALRM; without SA_RESTART the call ends with EINTR."""
    holder = open_file()
    assert flock(holder, EX) == 0
    began_s = time.monotonic()
    timed = subprocess.run(
        ["flock", "--timeout", "0.3", str(mounted.path / "plain"), "true"], check=False, timeout=SOON_S
    )
    assert timed.returncode == 1
    assert 0.2 <= time.monotonic() - began_s < SOON_S / 2


def test_where_it_is_asked_for_the_kernel_waits_on_after_a_signal(
    mounted: Mounted, open_file: Callable[[], int]
) -> None:
    holder = open_file()
    assert flock(holder, EX) == 0
    source = """
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.siginterrupt(signal.SIGUSR1, False)
        fcntl.flock(f, fcntl.LOCK_EX)
        print("locked")
    """
    with running(*program(mounted, source)) as waiter:
        mounted.wait_for("wants b")
        waiter.send_signal(signal.SIGUSR1)
        mounted.wait_for("wants b")
        assert flock(holder, UN) == 0
        assert waiter.communicate(timeout=SOON_S)[0] == "locked\n"


def test_many_waiters_do_not_freeze_the_mount(mounted: Mounted, open_file: Callable[[], int]) -> None:
    holder = open_file()
    assert flock(holder, EX) == 0
    source = """
        def wait():
            try:
                fcntl.flock(os.open(path, os.O_RDWR), fcntl.LOCK_EX)
            except OSError:
                pass
        path = os.readlink(f"/proc/self/fd/{f}")
        threading.stack_size(65536)
        for _ in range(300):
            threading.Thread(target=wait, daemon=True).start()
        signal.pause()
    """
    with running(*program(mounted, source)) as waiters:
        for _ in range(300):
            mounted.wait_for("wants")
        assert (mounted.path / "plain").stat().st_size
        assert os.listdir(mounted.path) == ["plain"]
        waiters.kill()
        waiters.wait(SOON_S)
    assert flock(holder, UN) == 0
    nothing_is_locked(mounted)


def test_locks_of_byte_ranges_stay_in_the_kernel(mounted: Mounted, open_file: Callable[[], int]) -> None:
    with running(*program(mounted, "fcntl.lockf(f, fcntl.LOCK_EX); print(1); signal.pause()")) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        descriptor = os.open(mounted.path / "plain", os.O_RDWR)
        try:
            assert errno_of(lambda: fcntl.lockf(descriptor, EX | NB)) == errno.EAGAIN
            assert flock(descriptor, EX | NB) == 0
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("end", ["stop", "abort", "kill"])
def test_waiters_end_with_the_mount(mounted: Mounted, open_file: Callable[[], int], end: str) -> None:
    holder = open_file()
    assert flock(holder, EX) == 0
    source = """
        try:
            fcntl.flock(f, fcntl.LOCK_EX)
        except OSError as error:
            print(errno.errorcode[error.errno])
    """
    with running(*program(mounted, source)) as waiter:
        mounted.wait_for("wants b")
        if end == "stop":
            mounted.tell("stop")
            mounted.wait_for("ended")
        elif end == "abort":
            find_connection(mounted.path).abort()
        else:
            mounted.process.kill()
        assert waiter.communicate(timeout=SOON_S)[0] in ("ENOTCONN\n", "ECONNABORTED\n", "EIO\n")
    if end == "stop":
        assert mounted.process.wait(SOON_S) == 0


@pytest.mark.parametrize("words", [["drop"]])
def test_a_flock_that_nobody_keeps_is_answered(mounted: Mounted, open_file: Callable[[], int]) -> None:
    assert flock(open_file(), EX) == errno.EIO
    mounted.wait_for("dropped")


@pytest.mark.parametrize("words", [["twice"]])
def test_only_the_first_answer_counts(mounted: Mounted, open_file: Callable[[], int]) -> None:
    assert flock(open_file(), EX) == errno.ENOLCK
    assert mounted.wait_for("refused -1") == "refused -1 -1 is no errno"
    mounted.wait_for("refused 4096")
    assert mounted.wait_for("refused") == "refused 0 this flock was answered already"
    mounted.wait_for("answered True")


@pytest.mark.parametrize("words", [[]])
def test_without_a_handler_the_kernel_locks(mounted: Mounted, open_file: Callable[[], int]) -> None:
    one, two = open_file(), open_file()
    assert flock(one, EX) == 0
    assert flock(two, EX | NB) == errno.EWOULDBLOCK
    os.close(one)
    assert flock(two, EX | NB) == 0
    assert mounted.count("wants") == mounted.count("unlocks") == 0
