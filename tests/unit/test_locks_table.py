"""The lock table beside a model of flock(2), and beside the kernel's own flock on a local file."""

import fcntl
import os
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from procorefs.locks.flock_table import LockOwner, LockTable, Mode, WouldBlock
from procorefs.tree.nodes import Inode

FILE = Inode(7)
A, B, C, D = map(LockOwner, (1, 2, 3, 4))
SHARED, EXCLUSIVE = Mode.SHARED, Mode.EXCLUSIVE


@pytest.fixture
def table() -> LockTable:
    return LockTable()


def refused(table: LockTable, owner: LockOwner, mode: Mode) -> bool:
    try:
        table.lock_now(FILE, owner, mode)
    except WouldBlock:
        return True
    return False


class Waiting:
    """Tasks that wait for locks; `got` in the order in which they were given."""

    def __init__(self, table: LockTable, nursery: trio.Nursery) -> None:
        self.table = table
        self.nursery = nursery
        self.got: list[LockOwner] = []
        self.scopes: dict[LockOwner, trio.CancelScope] = {}

    async def begin(self, owner: LockOwner, mode: Mode) -> None:
        self.scopes[owner] = trio.CancelScope()
        self.nursery.start_soon(self._wait, owner, mode)
        await wait_all_tasks_blocked()

    async def _wait(self, owner: LockOwner, mode: Mode) -> None:
        with self.scopes[owner]:
            await self.table.lock(FILE, owner, mode)
            self.got.append(owner)


def test_shared_locks_share_and_exclusive_ones_do_not(table: LockTable) -> None:
    assert not refused(table, A, SHARED)
    assert not refused(table, B, SHARED)
    assert refused(table, C, EXCLUSIVE)
    assert table.unlock(FILE, A)
    assert table.unlock(FILE, B)
    assert not refused(table, C, EXCLUSIVE)
    assert table.exclusive_owner(FILE) is not None
    assert refused(table, A, SHARED)


def test_another_file_is_another_lock(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    table.lock_now(Inode(8), B, EXCLUSIVE)
    assert len(table) == 2


def test_a_refused_conversion_loses_the_lock(table: LockTable) -> None:
    table.lock_now(FILE, A, SHARED)
    table.lock_now(FILE, B, SHARED)
    assert refused(table, A, EXCLUSIVE)
    assert table.mode(FILE, A) is None
    assert not table.unlock(FILE, A)
    assert not refused(table, B, EXCLUSIVE)


def test_nothing_is_kept_of_a_file_that_nobody_wants(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    assert refused(table, B, SHARED)
    table.unlock(FILE, A)
    assert not table.unlock(FILE, B)
    assert len(table) == 0


async def test_waiters_get_it_in_their_order(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(table, nursery)
        await waiting.begin(B, SHARED)
        await waiting.begin(C, EXCLUSIVE)
        await waiting.begin(D, SHARED)
        table.unlock(FILE, A)
        await wait_all_tasks_blocked()
        assert sorted(waiting.got) == [B, D]
        table.unlock(FILE, B)
        table.unlock(FILE, D)
        await wait_all_tasks_blocked()
        assert waiting.got[2:] == [C]


async def test_of_two_converters_the_later_one_wins(table: LockTable) -> None:
    table.lock_now(FILE, A, SHARED)
    table.lock_now(FILE, B, SHARED)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(table, nursery)
        await waiting.begin(A, EXCLUSIVE)
        await waiting.begin(B, EXCLUSIVE)  # A gave up its own when it began to wait
        assert waiting.got == [B]
        table.unlock(FILE, B)
        await wait_all_tasks_blocked()
        assert waiting.got == [B, A]


async def test_going_down_to_shared_lets_readers_in(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(table, nursery)
        await waiting.begin(B, SHARED)
        table.lock_now(FILE, A, SHARED)
        await wait_all_tasks_blocked()
        assert waiting.got == [B]


async def test_a_cancelled_waiter_leaves_nothing(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(table, nursery)
        await waiting.begin(B, EXCLUSIVE)
        waiting.scopes[B].cancel()
        await wait_all_tasks_blocked()
        assert table.waiters(FILE) == 0
        table.unlock(FILE, A)
        assert len(table) == 0


async def test_a_waiter_cancelled_and_then_served_leaves_nothing(table: LockTable) -> None:
    table.lock_now(FILE, A, EXCLUSIVE)
    async with trio.open_nursery() as nursery:
        waiting = Waiting(table, nursery)
        await waiting.begin(B, EXCLUSIVE)
        waiting.scopes[B].cancel()
        table.unlock(FILE, A)  # gives it to B, who has not run since
        assert table.mode(FILE, B) is EXCLUSIVE
        await wait_all_tasks_blocked()
        assert waiting.got == []
        assert len(table) == 0


# Beside a model: the state said again as plainly as possible, and looked through after each step.

OWNERS = st.integers(1, 4).map(LockOwner)
STEPS = st.lists(
    st.tuples(st.sampled_from(["now", "wait", "unlock", "cancel"]), OWNERS, st.sampled_from(Mode)),
    max_size=40,
)


class Model:
    def __init__(self) -> None:
        self.held: dict[LockOwner, Mode] = {}
        self.waiting: list[tuple[LockOwner, Mode]] = []

    def conflicts(self, owner: LockOwner, mode: Mode) -> bool:
        others = [theirs for other, theirs in self.held.items() if other != owner]
        return EXCLUSIVE in others or (mode is EXCLUSIVE and bool(others))

    def take(self, owner: LockOwner, mode: Mode) -> bool:
        if self.held.get(owner) != mode:
            self.held.pop(owner, None)
            if self.conflicts(owner, mode):
                return False
            self.held[owner] = mode
        return True

    def serve(self) -> None:
        for owner, mode in list(self.waiting):
            if self.take(owner, mode):
                self.waiting.remove((owner, mode))


@given(STEPS)
@settings(deadline=None)
def test_it_does_what_the_model_does(steps: list[tuple[str, LockOwner, Mode]]) -> None:
    async def play() -> None:
        table, model = LockTable(), Model()
        async with trio.open_nursery() as nursery:
            waiting = Waiting(table, nursery)
            for what, owner, mode in steps:
                waits = any(owner == waiter for waiter, _ in model.waiting)
                if what == "cancel" and waits:
                    waiting.scopes[owner].cancel()
                    model.waiting = [waiter for waiter in model.waiting if waiter[0] != owner]
                elif what == "unlock" and not waits:
                    assert table.unlock(FILE, owner) == (owner in model.held)
                    model.held.pop(owner, None)
                elif what == "now" and not waits:
                    assert refused(table, owner, mode) != model.take(owner, mode)
                elif what == "wait" and not waits:
                    await waiting.begin(owner, mode)
                    if not model.take(owner, mode):
                        model.waiting.append((owner, mode))
                model.serve()
                await wait_all_tasks_blocked()
                assert {o: m for o in (A, B, C, D) if (m := table.mode(FILE, o))} == model.held
                assert table.waiters(FILE) == len(model.waiting)
                assert len(table) == bool(model.held or model.waiting)
            nursery.cancel_scope.cancel()

    trio.run(play)


# Beside the kernel: three descriptions, one of them with two descriptors.

CALLS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, -1])),
    max_size=60,
)
MODES = {fcntl.LOCK_SH: SHARED, fcntl.LOCK_EX: EXCLUSIVE}


@pytest.fixture
def local_file(tmp_path: Path) -> Path:
    path = tmp_path / "local"
    path.touch()
    return path


def kernel_refuses(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@given(CALLS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_refuses_what_the_kernel_refuses(local_file: Path, calls: list[tuple[int, int]]) -> None:
    """-1 closes a description and opens another: its owner is new, and the old one's lock is gone."""
    table = LockTable()
    descriptors = [os.open(local_file, os.O_RDWR) for _ in range(3)]
    descriptors.append(os.dup(descriptors[0]))
    owners = [A, B, C, A]
    newest = C
    try:
        for which, operation in calls:
            if operation == -1 and which in (1, 2):
                os.close(descriptors[which])
                table.unlock(FILE, owners[which])
                descriptors[which] = os.open(local_file, os.O_RDWR)
                newest = LockOwner(newest + 1)
                owners[which] = newest
            elif operation == fcntl.LOCK_UN:
                assert not kernel_refuses(descriptors[which], operation)
                table.unlock(FILE, owners[which])
            elif operation != -1:
                ours = refused(table, owners[which], MODES[operation])
                assert ours == kernel_refuses(descriptors[which], operation)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
