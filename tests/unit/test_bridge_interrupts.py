"""Which pending signals end a request, and that a waiting one is checked again."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from procorefs.kernel.bridge.callers import caller_is_told_to_stop, is_told_to_stop
from procorefs.kernel.bridge.interrupts import CHECK_INTERVAL_S, interruptible
from procorefs.kernel.bridge.native import Bridge, BridgeMissing, Request


def status(thread: int = 0, process: int = 0, blocked: int = 0) -> bytes:
    return (
        f"Name:\tcat\nPid:\t17\nSigQ:\t1/31000\nSigPnd:\t{thread:016x}\nShdPnd:\t{process:016x}\n"
        f"SigBlk:\t{blocked:016x}\nSigIgn:\t{0xFFFF:016x}\nSigCgt:\t0000000000000002\n"
    ).encode()


def bit(number: int) -> int:
    return 1 << (number - 1)


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL]
)
def test_signals_that_end_programs_count_wherever_they_are_pending(number: int) -> None:
    assert is_told_to_stop(status(thread=bit(number)))
    assert is_told_to_stop(status(process=bit(number) | bit(signal.SIGALRM)))


@pytest.mark.parametrize(
    "number", [signal.SIGALRM, signal.SIGCHLD, signal.SIGWINCH, signal.SIGUSR1, signal.SIGTSTP, 34, 64]
)
def test_other_signals_do_not_count(number: int) -> None:
    assert not is_told_to_stop(status(thread=bit(number), process=bit(number)))


def test_a_blocked_signal_does_not_count() -> None:
    assert not is_told_to_stop(status(process=bit(signal.SIGINT), blocked=bit(signal.SIGINT)))
    assert is_told_to_stop(
        status(process=bit(signal.SIGINT) | bit(signal.SIGTERM), blocked=bit(signal.SIGINT))
    )


def test_a_status_without_masks_is_harmless() -> None:
    assert not is_told_to_stop(b"Name:\tcat\n\nPid:\t1\n")


def test_a_real_thread_is_looked_at_and_a_missing_one_counts() -> None:
    assert not caller_is_told_to_stop(os.getpid())
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert caller_is_told_to_stop(gone.pid)


class FakeRequest:
    """Stands in for the bridge's Request: a real one needs a kernel that interrupts it."""

    def __init__(self, tid: int = 4711) -> None:
        self.tid = tid
        self.finished = False
        self.callback: Callable[[], object] | None = None

    def on_interrupt(self, callback: Callable[[], object]) -> None:
        self.callback = callback

    def finish(self) -> None:
        self.finished = True
        self.callback = None

    def interrupt(self) -> None:
        assert self.callback is not None
        self.callback()

    def as_request(self) -> Request:
        return cast(Request, self)


async def answer(
    request: FakeRequest, work: Callable[[], Awaitable[None]], told_to_stop: Callable[[int], bool]
) -> str:
    with interruptible(request.as_request(), told_to_stop=told_to_stop):
        await work()
        return "answered"
    return "EINTR"


async def test_an_interrupt_with_an_ending_signal_ends_the_block() -> None:
    request = FakeRequest()

    async def work() -> None:
        request.interrupt()
        await trio.sleep_forever()

    assert await answer(request, work, lambda tid: tid == 4711) == "EINTR"
    assert request.finished


async def test_without_an_interrupt_values_and_errors_pass() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    assert await answer(FakeRequest(), trio.lowlevel.checkpoint, lambda _: True) == "answered"
    with pytest.raises(ZeroDivisionError):
        await answer(FakeRequest(), fail, lambda _: True)
    with interruptible(None):
        await trio.lowlevel.checkpoint()


async def test_a_cancellation_from_outside_is_not_an_interrupt() -> None:
    with trio.CancelScope() as outside:
        outside.cancel()
        await answer(FakeRequest(), trio.sleep_forever, lambda _: True)
        pytest.fail("the cancellation ended inside")
    assert outside.cancelled_caught


async def test_a_block_whose_work_is_done_is_not_undone_by_its_interrupt() -> None:
    request = FakeRequest()

    async def work() -> None:
        request.interrupt()  # cancelled, but no await follows

    assert await answer(request, work, lambda _: True) == "answered"


async def test_ctrl_c_after_an_alarm_ends_the_block(autojump_clock: MockClock) -> None:
    request = FakeRequest()
    began_s = trio.current_time()

    async def work() -> None:
        request.interrupt()  # the alarm
        await trio.sleep(60)

    assert await answer(request, work, lambda _: trio.current_time() >= began_s + 5) == "EINTR"
    assert 5 <= trio.current_time() - began_s <= 5 + 2 * CHECK_INTERVAL_S


async def test_what_has_ended_or_is_beyond_recall_is_not_looked_at_again(autojump_clock: MockClock) -> None:
    looks: list[int] = []

    def look(tid: int) -> bool:
        looks.append(tid)
        return len(looks) > 1

    async def work() -> None:
        request.interrupt()
        request.finish()  # journaled
        await trio.sleep(5)

    request = FakeRequest()
    assert await answer(request, work, look) == "answered"
    assert looks == [4711]


def test_no_request_is_current_outside_of_a_handler() -> None:
    assert Bridge().take_request() is None


def test_check_says_that_no_session_came_through() -> None:
    with pytest.raises(BridgeMissing, match="without the native bridge"):
        Bridge().check()


def run_python(source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=30
    )


def test_importing_pyfuse3_first_is_one_clear_sentence() -> None:
    done = run_python("import pyfuse3\nimport procorefs.kernel.bridge.native")
    assert done.returncode == 1
    assert "BridgeMissing: pyfuse3 was imported before" in done.stderr


def test_a_libfuse_in_front_of_us_is_one_clear_sentence() -> None:
    libfuse = run_python(
        """
        import procorefs.kernel.bridge.native
        print(next(line.split()[-1] for line in open("/proc/self/maps") if "/libfuse3.so" in line))
        """
    ).stdout.strip()
    done = run_python(
        f"""
        import ctypes, os
        ctypes.CDLL({libfuse!r}, mode=os.RTLD_GLOBAL)
        import procorefs.kernel.bridge.native
        """
    )
    assert done.returncode == 1
    assert "BridgeMissing: The native bridge cannot get between" in done.stderr
    assert "libfuse3" in done.stderr


def test_an_extension_of_other_sources_is_one_clear_sentence() -> None:
    done = run_python(
        """
        import procorefs.kernel.bridge._bridge as bridge
        bridge.INTERFACE -= 1
        import procorefs.kernel.bridge.native
        """
    )
    assert done.returncode == 1
    assert "BridgeMissing: The native bridge was built from other sources" in done.stderr


def test_the_loader_flags_are_given_back() -> None:
    done = run_python(
        "import sys\nbefore = sys.getdlopenflags()\nimport procorefs.kernel.bridge.native\n"
        "assert sys.getdlopenflags() == before"
    )
    assert done.returncode == 0, done.stderr
