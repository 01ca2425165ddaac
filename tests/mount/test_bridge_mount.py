"""The bridge under a real kernel: what it adds, what interrupts do, and that nothing is ever stuck in D."""

import contextlib
import errno
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from procorefs.kernel.bridge.connection import NotMounted, find_connection
from tests.support.mounting import wait_until

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

FILESYSTEM = Path(__file__).parents[1] / "support" / "bridge_filesystem.py"
SOON_S = 10.0
"""Bound of every wait for what takes milliseconds on an idle machine."""


class Mounted:
    """The child with its mount; events are its lines on stdout."""

    def __init__(self, mountpoint: Path, guard_timeout_s: float, *words: str) -> None:
        self.path = mountpoint
        self.process = subprocess.Popen(
            [sys.executable, str(FILESYSTEM), str(mountpoint), str(guard_timeout_s), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._pump = threading.Thread(target=self._read_lines)
        self._pump.start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def wait_for(self, prefix: str, timeout_s: float = SOON_S) -> str:
        """Return the next event that starts so; fails when it does not come or the child ends."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no event {prefix!r} within {timeout_s} s; seen: {self.seen[-10:]}")
            if line is None:
                pytest.fail(f"the filesystem ended before {prefix!r}; seen: {self.seen[-10:]}")
            self.seen.append(line)
            if line.startswith(prefix):
                return line

    def ask(self, line: str, prefix: str) -> str:
        self.tell(line)
        return self.wait_for(prefix)

    def count(self, prefix: str) -> int:
        """How often such an event was seen up to now."""
        self.ask("ping", "pong")
        return sum(line.startswith(prefix) for line in self.seen)

    def interrupts(self) -> int:
        return int(self.ask("ping", "pong").split()[1])

    def clean_up(self) -> None:
        with contextlib.suppress(NotMounted):
            find_connection(self.path).abort()
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True, timeout=SOON_S)
        self.process.kill()
        self.process.wait(SOON_S)
        self._pump.join(SOON_S)
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                assert stream is not None
                stream.close()


@pytest.fixture
def guard_timeout_s() -> float:
    return 60.0


@pytest.fixture
def mounted(tmp_path: Path, guard_timeout_s: float) -> Iterator[Mounted]:
    mountpoint = tmp_path.resolve() / "mount point"
    mountpoint.mkdir()
    mounted = Mounted(mountpoint, guard_timeout_s)
    try:
        mounted.wait_for("ready", 30)
        yield mounted
        assert not [line for line in mounted.seen if "wrong" in line or "twice" in line]
    finally:
        mounted.clean_up()


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=SOON_S)


def python(source: str) -> tuple[str, str, str]:
    return sys.executable, "-c", source


def errno_of(call: Callable[[], object]) -> int:
    """The errno that the call fails with; 0 when it does not."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


def guard_pid(mounted: Mounted) -> int:
    ready = next(line for line in mounted.seen if line.startswith("ready"))
    return int(ready.split()[1])


def wait_until_gone(pid: int, timeout_s: float = SOON_S) -> None:
    """A process that is not our child: no event tells of its end but its pidfd."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], timeout_s)[0], f"process {pid} is still there"
    finally:
        os.close(fd)


# ---- what the bridge adds


def test_a_listing_is_asked_for_once_until_it_is_invalidated(mounted: Mounted) -> None:
    for _ in range(3):
        assert os.listdir(mounted.path) == ["plain"]
    assert mounted.count("readdir 0") == 1
    mounted.ask("listing", "listing forgotten")
    assert os.listdir(mounted.path) == ["plain"]
    assert mounted.count("readdir 0") == 2


def test_a_listing_is_not_kept_when_the_policy_says_no(mounted: Mounted) -> None:
    os.listdir(mounted.path)
    mounted.ask("keep no", "kept")
    os.listdir(mounted.path)
    assert mounted.count("readdir 0") == 2


def test_a_policy_that_raises_is_reported_and_the_kernel_lists_anew(mounted: Mounted) -> None:
    os.listdir(mounted.path)
    mounted.ask("keep broken", "kept")
    assert os.listdir(mounted.path) == ["plain"]
    assert mounted.count("unraisable no policy for inode 1") == 1
    assert mounted.count("readdir 0") == 2


def test_slow_reads_leave_room_for_other_background_requests(mounted: Mounted) -> None:
    limits = Path(f"/sys/fs/fuse/connections/{find_connection(mounted.path).number}")
    if not limits.exists():
        pytest.skip("needs fusectl")
    os.stat(mounted.path)  # answered, so FUSE_INIT was too
    assert int((limits / "max_background").read_text()) >= 1024
    assert int((limits / "congestion_threshold").read_text()) >= 768


def test_an_entry_is_looked_up_anew_after_its_invalidation(mounted: Mounted) -> None:
    for _ in range(3):
        os.stat(mounted.path / "n1")
    assert mounted.count("lookup n1") == 1
    mounted.ask("entry n1", "entry forgotten")
    os.stat(mounted.path / "n1")
    assert mounted.count("lookup n1") == 2


def test_ten_thousand_entries_are_forgotten_at_once(mounted: Mounted) -> None:
    for number in range(10_000):
        os.stat(mounted.path / f"n{number}")
    asked_s, done_s = (float(word) for word in mounted.ask("many 10000", "many").split()[1:])
    print(f"10,000 entries: asked in {asked_s} s, forgotten in {done_s} s")
    assert done_s < 5
    os.stat(mounted.path / "n9999")
    assert mounted.count("lookup n9999") == 2


def test_who_cannot_write_does_not_flush(mounted: Mounted) -> None:
    os.close(os.open(mounted.path / "plain", os.O_RDONLY))
    mounted.wait_for("release")
    assert mounted.count("flush") == 0
    os.close(os.open(mounted.path / "plain", os.O_RDWR))
    mounted.wait_for("release")
    assert mounted.count("flush") == 1


def test_writes_are_not_kept_back(mounted: Mounted) -> None:
    with open(mounted.path / "plain", "r+b", buffering=0) as file:
        file.write(b"now")
        mounted.wait_for("write 0")


@pytest.mark.parametrize(
    "name", ["security.capability", "security.selinux", "trusted.x", "system.posix_acl_access"]
)
def test_the_kernels_own_attributes_never_reach_python(mounted: Mounted, name: str) -> None:
    path = mounted.path / "plain"
    assert errno_of(lambda: os.getxattr(path, name)) == errno.EOPNOTSUPP
    assert mounted.count("getxattr") == 0
    assert errno_of(lambda: os.getxattr(path, "user.x")) == errno.ENODATA
    assert mounted.count("getxattr user.x") == mounted.count("getxattr") == 1


# ---- interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_waiting_lookup_ends_when_its_caller_is_told_to_stop(mounted: Mounted, number: int) -> None:
    with running("cat", str(mounted.path / "slow")) as cat:
        mounted.wait_for("lookup slow")
        cat.send_signal(number)
        assert cat.wait(SOON_S) == -number
    mounted.wait_for("EINTR slow")


ALARMED = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    os.stat(sys.argv[1])
except OSError as error:
    print(error.errno)
"""


def wait_for_interrupt(mounted: Mounted) -> None:
    wait_until(lambda: mounted.interrupts() > 0, "an interrupt from the kernel", SOON_S)


def test_an_alarm_does_not_end_a_waiting_lookup(mounted: Mounted) -> None:
    with running(*python(ALARMED), str(mounted.path / "slow")) as alarmed:
        mounted.wait_for("lookup slow")
        wait_for_interrupt(mounted)
        time.sleep(0.5)  # two more checks of its pending signals, which give no event when they find none
        mounted.ask("release", "answered slow")
        output, errors = alarmed.communicate(timeout=SOON_S)
    assert (output, errors) == (f"{errno.ENOENT}\n", "")
    assert mounted.count("EINTR") == 0
    assert mounted.count("lookup slow") == 1


def test_ctrl_c_after_an_alarm_ends_a_waiting_lookup(mounted: Mounted) -> None:
    with running(*python(ALARMED), str(mounted.path / "slow")) as alarmed:
        mounted.wait_for("lookup slow")
        wait_for_interrupt(mounted)
        alarmed.send_signal(signal.SIGINT)
        alarmed.wait(SOON_S)
    mounted.wait_for("EINTR slow")
    assert mounted.interrupts() == 1  # the kernel told of the alarm only


def test_many_waiting_lookups_are_interrupted_each_for_itself(mounted: Mounted) -> None:
    count = 20
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(running("cat", str(mounted.path / f"slow{n}"))) for n in range(count)]
        for _ in range(count):
            mounted.wait_for("lookup slow")
        for cat in waiting[::2]:
            cat.send_signal(signal.SIGINT)
        for cat in waiting[::2]:
            assert cat.wait(SOON_S) == -signal.SIGINT
        mounted.tell("release")
        for cat in waiting[1::2]:
            assert cat.wait(SOON_S) == 1
    assert mounted.count("EINTR slow") == mounted.count("answered slow") == count // 2


# ---- notifications, shutdown, guard


@contextlib.contextmanager
def stuck_reader(mounted: Mounted) -> Iterator[subprocess.Popen[str]]:
    """A reader whose READ waits, and a notification that waits for the reader."""
    with running("cat", str(mounted.path / "stuck")) as cat:
        mounted.wait_for("read stuck")
        mounted.tell("inode 4")
        yield cat


def threads_in_d(pid: int) -> list[str]:
    states = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            states.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return [state for state in states if state == "D"]


def wait_for_stuck_thread(mounted: Mounted) -> None:
    wait_until(lambda: bool(threads_in_d(mounted.process.pid)), "a thread to get stuck", SOON_S)


def test_a_notification_that_waits_delays_nothing_else(mounted: Mounted) -> None:
    os.stat(mounted.path / "n1")
    with stuck_reader(mounted) as cat:
        wait_for_stuck_thread(mounted)
        began_s = time.monotonic()
        mounted.ask("inode 2", "settled 2")
        mounted.ask("entry n1", "entry forgotten")
        mounted.ask("listing", "listing forgotten")
        assert os.stat(mounted.path / "n1").st_ino == 101
        assert time.monotonic() - began_s < 2
        assert mounted.count("settled 4") == 0
        mounted.ask("release", "settled 4")
        assert cat.wait(SOON_S) == 0


def test_what_stands_behind_a_stuck_one_in_its_batch_is_taken_over(mounted: Mounted) -> None:
    for number in range(100):
        os.stat(mounted.path / f"n{number}")
    with running("cat", str(mounted.path / "stuck")) as cat:
        mounted.wait_for("read stuck")
        mounted.ask("behind 4 2", "behind 2")
        assert threads_in_d(mounted.process.pid)  # one thread is stuck, another did the rest
        os.stat(mounted.path / "n99")
        assert mounted.count("lookup n99") == 2
        mounted.tell("release")
        assert cat.wait(SOON_S) == 0


def test_more_stuck_notifications_than_threads_wait_and_then_are_carried_out(mounted: Mounted) -> None:
    with stuck_reader(mounted) as cat:
        wait_for_stuck_thread(mounted)
        for _ in range(100):  # each a batch of its own: the answer comes before the next is asked for
            mounted.tell("inode 4")
            mounted.ask("ping", "pong")
        assert len(threads_in_d(mounted.process.pid)) <= 64
        assert os.listdir(mounted.path) == ["plain"]
        mounted.ask("release", "settled 4")
        for _ in range(100):
            mounted.wait_for("settled 4")
        assert cat.wait(SOON_S) == 0
    assert mounted.ask("inode 2", "settled 2")


def test_shutting_down_frees_everybody(mounted: Mounted) -> None:
    with stuck_reader(mounted) as cat:
        wait_for_stuck_thread(mounted)
        mounted.ask("stop", "ended")
        assert mounted.process.wait(SOON_S) == 0
        assert cat.wait(SOON_S) == 1
    wait_until_gone(guard_pid(mounted))


def assert_mount_is_dead(path: Path) -> None:
    """ENOTCONN, or already taken away (umount2 does that where fusectl is not mounted)."""
    if os.path.ismount(path) or errno_of(lambda: os.stat(path)):
        assert errno_of(lambda: os.listdir(path)) == errno.ENOTCONN


def test_a_daemon_that_is_killed_while_a_thread_is_stuck_leaves_nothing_in_d(mounted: Mounted) -> None:
    with stuck_reader(mounted) as cat:
        wait_for_stuck_thread(mounted)
        mounted.process.kill()
        assert mounted.process.wait(SOON_S) == -signal.SIGKILL
        assert cat.wait(SOON_S) == 1
    wait_until_gone(guard_pid(mounted))
    assert_mount_is_dead(mounted.path)


class TestHang:
    @pytest.fixture
    def guard_timeout_s(self) -> float:
        return 1.2

    def test_a_loop_that_hangs_loses_its_mount(self, mounted: Mounted) -> None:
        with running("cat", str(mounted.path / "stuck")) as cat:
            mounted.wait_for("read stuck")
            mounted.ask("hang", "hanging")
            assert cat.wait(SOON_S) == 1
        assert_mount_is_dead(mounted.path)

    def test_a_loop_that_turns_keeps_its_mount(self, mounted: Mounted) -> None:
        time.sleep(3)  # two timeouts of the guard, whose clock is real: nothing may happen in them
        assert os.listdir(mounted.path) == ["plain"]

    def test_a_stopped_daemon_keeps_its_mount(self, mounted: Mounted) -> None:
        mounted.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(3)  # two timeouts of the guard, whose clock is real: nothing may happen in them
        finally:
            mounted.process.send_signal(signal.SIGCONT)
        assert os.listdir(mounted.path) == ["plain"]


def test_the_guard_holds_nothing_and_is_not_easily_killed(mounted: Mounted) -> None:
    pid = guard_pid(mounted)
    process = Path(f"/proc/{pid}")
    assert (process / "comm").read_text() == "procorefs-guard\n"
    assert (process / "cmdline").read_bytes().rstrip(b"\0") == b"procorefs-guard"
    wait_until(lambda: os.readlink(process / "cwd") == "/", "the guard to leave our folder")
    held = sorted(os.readlink(fd).split(":")[0] for fd in (process / "fd").iterdir())
    assert held == ["anon_inode", "pipe"]  # signalfd and heartbeats
    assert os.getsid(pid) == pid
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(pid, number)
    mounted.ask("ping", "pong")
    assert (process / "comm").exists()
    assert os.listdir(mounted.path) == ["plain"]
    subprocess.run(["umount", str(mounted.path)], check=True, timeout=SOON_S)
    mounted.wait_for("unmounted")
    mounted.ask("stop", "ended")
    assert mounted.process.wait(SOON_S) == 0
    wait_until_gone(pid)


def test_a_guard_that_was_killed_is_buried(mounted: Mounted) -> None:
    os.kill(guard_pid(mounted), signal.SIGKILL)
    assert os.listdir(mounted.path) == ["plain"]
    mounted.ask("stop", "ended")
    assert mounted.process.wait(SOON_S) == 0
