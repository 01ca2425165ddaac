"""One budget for real processes: never overshot, fair, and none is held up by one that was killed or stopped."""

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from procorefs.limiter import Priority, open_limiter, policy
from procorefs.limiter.budget_state import State
from procorefs.limiter.budget_store import StoreAway
from procorefs.limiter.file_store import HEADER, MAGIC, PLACE_BYTES, FileStore
from procorefs.limiter.gate import Gate
from procorefs.limiter.opening import known_hourly_limit
from procorefs.limiter.tuning import TUNING
from tests.support.sandbox import ROOT

# A process that takes calls and says when; `answers` says whether it reports them.
TAKER = """
import json, sys, time, trio
from pathlib import Path
from procorefs.limiter import Priority, open_limiter
async def main(folder, count, priority, answers):
    async with open_limiter(Path(folder), "key") as limiter:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(int(count)):
            asked = time.time()
            await limiter.acquire(Priority[priority])
            print(json.dumps({"at": time.time(), "waited": time.time() - asked}), flush=True)
            if answers == "yes":
                await trio.sleep(0.01)
                limiter.observe(200, {})
        print("done", flush=True)
        sys.stdin.readline()
trio.run(main, *sys.argv[1:])
"""


class Taker:
    """A child process with a gate to the budget in a folder."""

    def __init__(self, folder: Path, count: int, priority: Priority, *, answers: bool) -> None:
        arguments = [str(folder), str(count), priority.name, "yes" if answers else "no"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.line() == "ready"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def took(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.line())
        return found

    def all_taken(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in iter(self.line, "done")]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def takers(
    folder: Path, processes: int, count: int, priority: Priority = Priority.WRITING, *, answers: bool = True
) -> Iterator[list[Taker]]:
    with ExitStack() as stack:
        running = []
        for _ in range(processes):
            running.append(Taker(folder, count, priority, answers=answers))
            stack.callback(running[-1].end)
        yield running


def learn(folder: Path, limit: int, remaining: int, reset_in_s: float, spike_s: float = 10.0) -> None:
    """Tell the budget a window, as an answer would; spike windows may be shorter than Procore's."""

    def shorten(state: State, _now_s: float) -> None:
        state.spike_s = spike_s

    async def scenario() -> None:
        store = FileStore(folder / "key.budget")
        store.change_now(shorten)
        store.close()
        async with open_limiter(folder, "key") as limiter:
            await limiter.acquire(Priority.INTERACTIVE)
            reset = str(time.time() + reset_in_s)
            names = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset")
            limiter.observe(200, dict(zip(names, (str(limit), str(remaining), reset), strict=True)))

    trio.run(scenario)


def test_processes_together_never_take_more_than_the_limit(tmp_path: Path) -> None:
    learn(tmp_path, 12, 11, 2, spike_s=3)
    with takers(tmp_path, 4, 5, Priority.INTERACTIVE) as running:
        for taker in running:
            taker.go()
        taken = sorted(call["at"] for taker in running for call in taker.all_taken())
    assert len(taken) == 20
    for index, at in enumerate(taken):
        assert sum(at <= other < at + 3 for other in taken[index:]) <= 12
    assert taken[-1] - taken[0] < 10


def test_those_who_wait_go_in_turn(tmp_path: Path) -> None:
    """Three processes that migrate get as much, and a person's call goes before theirs."""
    learn(tmp_path, 25, 3, 1.0, spike_s=5)
    with takers(tmp_path, 3, 6) as running, takers(tmp_path, 1, 1, Priority.INTERACTIVE) as people:
        for taker in running:
            taker.go()
        for taker in running:
            taker.took()
        people[0].go()
        assert people[0].took()["waited"] < 2
        rest = [[call["at"] for call in taker.all_taken()] for taker in running]
    ended_at = min(calls[-1] for calls in rest)
    for calls in rest:
        assert sum(at > ended_at for at in calls) <= 2, "one of them is behind the others"


def test_a_killed_process_leaves_no_permit_behind(tmp_path: Path) -> None:
    learn(tmp_path, 5, 4, 2, spike_s=3)
    with takers(tmp_path, 1, 4, Priority.INTERACTIVE, answers=False) as running:
        running[0].go()
        assert len(running[0].all_taken()) == 4
        running[0].process.send_signal(signal.SIGKILL)
        running[0].process.wait()
        began = time.monotonic()
        with takers(tmp_path, 1, 1, Priority.INTERACTIVE) as others:
            others[0].go()
            others[0].took()
        assert time.monotonic() - began < TUNING.lease_s / 2


def test_processes_killed_at_any_moment_leave_a_budget_that_can_be_read(tmp_path: Path) -> None:
    learn(tmp_path, 100_000, 99_999, 3000)
    for moment in range(3):
        with takers(tmp_path, 2, 100_000, Priority.INTERACTIVE) as running:
            for taker in running:
                taker.go()
                taker.took()
            time.sleep(0.007 * moment)
            running[0].process.send_signal(signal.SIGKILL)
            running[1].process.send_signal(signal.SIGKILL)
        store = FileStore(tmp_path / "key.budget")
        state, _ = store.peek()
        store.close()
        assert state.limit == 100_000


def test_a_process_that_stopped_in_the_queue_holds_nobody_up(tmp_path: Path) -> None:
    learn(tmp_path, 25, 0, 1.0)
    with takers(tmp_path, 2, 1) as running:
        running[0].go()
        time.sleep(0.2)  # it waits now, before the other
        running[0].process.send_signal(signal.SIGSTOP)
        running[1].go()
        assert running[1].took()["waited"] < 4
        running[0].process.send_signal(signal.SIGCONT)
        running[0].took()


def test_a_damaged_record_is_replaced_by_the_one_before(tmp_path: Path) -> None:
    learn(tmp_path, 77, 70, 9)
    path = tmp_path / "key.budget"
    data = bytearray(path.read_bytes())
    numbers = [struct.unpack_from("<Q", data, place + 8)[0] for place in (0, PLACE_BYTES)]
    newest = numbers.index(max(numbers)) * PLACE_BYTES
    data[newest + 100] ^= 0xFF
    path.write_bytes(data)
    store = FileStore(path)
    state, _ = store.peek()
    assert len(state.permits) == 1  # as it was before the last answer
    path.write_bytes(os.urandom(len(data)))
    assert store.peek()[0].limit == 600
    store.change_now(lambda state, now_s: policy.settle(state, now_s))
    store.close()


async def test_a_holder_that_is_stopped_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_limiter(tmp_path, "key") as limiter:
        blocker = FileStore(tmp_path / "key.budget")

        def hold(_state: object, _now_s: float) -> None:
            other = FileStore(tmp_path / "key.budget")
            with pytest.raises(StoreAway):
                other.change_now(lambda state, now_s: policy.settle(state, now_s))
            other.close()

        blocker.change_now(hold)
        blocker.close()
        with (tmp_path / "key.budget").open("rb+") as locked:
            fcntl.flock(locked, fcntl.LOCK_EX)
            with trio.fail_after(5):
                await limiter.acquire(Priority.INTERACTIVE)
            limiter.observe(200, {})
            assert limiter.snapshot().shared_by == "process (user is away)"
            assert "continuing with" in caplog.text
        with trio.fail_after(5):
            while limiter.snapshot().shared_by != "user":  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.05)


async def test_a_folder_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    async with open_limiter(tmp_path / "file" / "budgets", "key") as limiter:
        await limiter.acquire(Priority.INTERACTIVE)
        limiter.observe(200, {})
    assert caplog.text.count("cannot be shared") == 1


async def test_an_acquire_costs_a_fifth_of_a_millisecond_at_most(tmp_path: Path) -> None:
    """The median of many, so that a busy machine does not decide."""
    store = FileStore(tmp_path / "key.budget")
    gate = Gate(store)
    took_s = []
    for _ in range(500):
        began = time.perf_counter()
        await gate.acquire(Priority.INTERACTIVE)
        took_s.append(time.perf_counter() - began)
        gate.observe(200, {})
    store.close()
    assert sorted(took_s)[250] < 0.0002


def test_a_file_of_another_version_is_begun_again_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "key.budget"
    store = FileStore(path)
    store.change_now(lambda _state, _now_s: None)
    record = b"\x92\x02\x01"  # tag 2
    head = HEADER.pack(MAGIC, 7, 1.0, bytes(16), len(record), zlib.crc32(record, 7))
    path.write_bytes((head + record).ljust(PLACE_BYTES, b"\0") * 2)
    for _ in range(3):
        store.change_now(lambda state, now_s: policy.settle(state, now_s))
    assert store.peek()[0].limit == 600
    assert caplog.text.count("another version") == 1
    store.close()


def test_a_limit_that_was_told_is_known_after_a_restart(tmp_path: Path) -> None:
    learn(tmp_path, 5000, 4000, 3000)
    assert known_hourly_limit(tmp_path, "key") == 5000
