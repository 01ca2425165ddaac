"""The kernel's side of flock: what is asked of the locks, and which errno comes of it."""

import errno
import fcntl
from collections.abc import Callable
from typing import Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from procorefs.kernel.bridge.native import Flock
from procorefs.kernel.errno_table import answer_of
from procorefs.kernel.flocks import Flocks
from procorefs.locks.flock_table import LockOwner, Mode, WouldBlock
from procorefs.procore.errors import Forbidden, Unreachable
from procorefs.tree.nodes import Inode

SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB


MOUNTER, OTHER = 1000, 1001


class FakeRequest:
    tid = 0
    finished = False

    def __init__(self, uid: int = MOUNTER) -> None:
        self.uid = uid
        self.interrupt: Callable[[], object] = lambda: None

    def on_interrupt(self, callback: Callable[[], object]) -> None:
        self.interrupt = callback

    def finish(self) -> None:
        self.finished = True


class FakeFlock:
    """Stands in for the bridge's Flock, which needs a kernel."""

    def __init__(self, operation: int, reaches: int = 0, uid: int = MOUNTER) -> None:
        self.request = FakeRequest(uid)
        self.inode, self.handle, self.owner = 7, 1, 99
        self.operation = operation
        self.answers: list[int] = []
        self._reaches = reaches

    @property
    def answered(self) -> bool:
        return bool(self.answers)

    def reply(self, number: int) -> int:
        self.answers.append(number)
        return self._reaches

    def as_flock(self) -> Flock:
        return cast(Flock, self)


class FakeLocks:
    def __init__(self) -> None:
        self.asked: list[tuple[Mode, bool]] = []
        self.local: list[bool] = []
        self.unlocked: list[tuple[int, int]] = []
        self.error: Exception | None = None
        self.free = trio.Event()

    async def lock(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool, is_local: bool) -> None:
        assert (inode, owner) == (7, 99)
        self.local.append(is_local)
        self.asked.append((mode, wait))
        if self.error is not None:
            raise self.error
        await self.free.wait()

    def unlock(self, inode: Inode, owner: LockOwner) -> None:
        self.unlocked.append((inode, owner))


class FlocksOverFakes:
    def __init__(self) -> None:
        self.locks = FakeLocks()
        self.errors: list[Exception] = []
        self.flocks = Flocks(lambda _inode: cast(Any, self.locks), self._errno_of, MOUNTER)

    def _errno_of(self, inode: Inode, error: Exception) -> int:
        assert inode == 7
        self.errors.append(error)
        return answer_of(error).errno


@pytest.fixture
def setup() -> FlocksOverFakes:
    return FlocksOverFakes()


async def answer(setup: FlocksOverFakes, flock: FakeFlock) -> int:
    async with trio.open_nursery() as nursery:
        await nursery.start(setup.flocks.run)
        setup.flocks.asked(flock.as_flock())
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (number,) = flock.answers
    return number


@pytest.mark.parametrize(("uid", "is_local"), [(MOUNTER, False), (0, False), (OTHER, True)])
async def test_locks_of_other_users_stay_on_this_mount(
    setup: FlocksOverFakes, uid: int, is_local: bool
) -> None:
    setup.locks.free.set()
    assert await answer(setup, FakeFlock(EX, uid=uid)) == 0
    assert setup.locks.local == [is_local]


@pytest.mark.parametrize(
    ("operation", "mode", "waits"),
    [
        (SH, Mode.SHARED, True),
        (EX, Mode.EXCLUSIVE, True),
        (SH | NB, Mode.SHARED, False),
        (EX | NB, Mode.EXCLUSIVE, False),
    ],
)
async def test_each_operation(setup: FlocksOverFakes, operation: int, mode: Mode, waits: bool) -> None:
    setup.locks.free.set()
    assert await answer(setup, FakeFlock(operation)) == 0
    assert setup.locks.asked == [(mode, waits)]
    assert setup.locks.unlocked == []


def test_unlocking_is_answered_at_once_even_when_the_mount_ends(setup: FlocksOverFakes) -> None:
    flock = FakeFlock(UN)
    setup.flocks.asked(flock.as_flock())
    setup.flocks.closed(7, 1, 99)
    assert flock.answers == [0]
    assert setup.locks.unlocked == [(7, 99), (7, 99)]


def test_without_a_loop_there_is_no_lock(setup: FlocksOverFakes) -> None:
    flock = FakeFlock(EX)
    setup.flocks.asked(flock.as_flock())
    assert flock.answers == [errno.ENOTCONN]


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (WouldBlock(), errno.EWOULDBLOCK),
        (Forbidden("no permission", status=403), errno.EACCES),
        (Unreachable("no route"), errno.EIO),
        (ZeroDivisionError(), errno.EIO),
    ],
)
async def test_errors_become_numbers(setup: FlocksOverFakes, error: Exception, number: int) -> None:
    setup.locks.error = error
    assert await answer(setup, FakeFlock(EX)) == number
    assert setup.errors == [error]


async def test_who_waits_when_the_mount_ends_is_told(setup: FlocksOverFakes) -> None:
    assert await answer(setup, FakeFlock(EX)) == errno.ENOTCONN


async def test_who_was_told_by_the_sessions_end_is_not_told_twice(setup: FlocksOverFakes) -> None:
    flock = FakeFlock(EX)
    async with trio.open_nursery() as nursery:
        await nursery.start(setup.flocks.run)
        setup.flocks.asked(flock.as_flock())
        await wait_all_tasks_blocked()
        flock.reply(errno.EIO)
        nursery.cancel_scope.cancel()
    assert flock.answers == [errno.EIO]


async def test_an_interrupt_ends_the_wait(setup: FlocksOverFakes) -> None:
    flock = FakeFlock(EX)
    async with trio.open_nursery() as nursery:
        await nursery.start(setup.flocks.run)
        setup.flocks.asked(flock.as_flock())
        await wait_all_tasks_blocked()
        flock.request.interrupt()
        await wait_all_tasks_blocked()
        assert flock.answers == [errno.EINTR]
        assert flock.request.finished
        nursery.cancel_scope.cancel()


async def test_a_lock_whose_answer_reaches_nobody_is_given_up(setup: FlocksOverFakes) -> None:
    setup.locks.free.set()
    assert await answer(setup, FakeFlock(EX, reaches=errno.ENOENT)) == 0
    assert setup.locks.unlocked == [(7, 99)]
