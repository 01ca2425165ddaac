"""Handles flock(2): takes requests from the bridge, locks through the project's locks, and answers exactly once.

bridge ─▶ Flocks.asked ─▶ a task: locks.lock ─▶ reply(errno)      interrupted by any signal: EINTR
last close ─▶ Flocks.closed ─▶ unlock, before the kernel's next request is read
"""

import errno
import fcntl
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from procorefs.kernel.bridge.interrupts import interruptible
from procorefs.kernel.bridge.native import Flock
from procorefs.locks.flock_table import LockOwner, Mode
from procorefs.locks.mount_locks import Locks
from procorefs.tree.nodes import Inode

_MODES = {fcntl.LOCK_SH: Mode.SHARED, fcntl.LOCK_EX: Mode.EXCLUSIVE}


def _any_signal(_tid: int) -> bool:
    """Programs expect flock to end with EINTR at any signal; the kernel restarts it where SA_RESTART is set."""
    return True


class Flocks:
    """The bridge's handler for flock."""

    def __init__(
        self,
        locks_of: Callable[[Inode], Locks],
        errno_of: Callable[[Inode, Exception], int],
        mounter: int,
    ) -> None:
        """`locks_of` finds the locks of an inode's project; `errno_of` turns an error into an errno, and logs it.

        `mounter` is the user of the mount. With `allow_other` the locks of others hold on this mount alone: Procore
        would see a check-out in the mounter's name, and each costs calls.
        """
        self._locks_of = locks_of
        self._mounter = mounter
        self._errno_of = errno_of
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Handle requests until cancelled; waiting requests then get ENOTCONN."""
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def asked(self, flock: Flock) -> None:
        """The bridge calls this for each request; it must not block. An unlock is answered immediately."""
        mode = _MODES.get(flock.operation & ~fcntl.LOCK_NB)
        if mode is None:
            self._unlock(flock.inode, flock.owner)
            flock.reply(0)
        elif self._nursery is None:
            flock.reply(errno.ENOTCONN)
        else:
            wait = not flock.operation & fcntl.LOCK_NB
            inode = Inode(flock.inode)
            is_local = flock.request.uid not in (0, self._mounter)
            lock = partial(
                self._locks_of(inode).lock, inode, LockOwner(flock.owner), mode, wait=wait, is_local=is_local
            )
            self._nursery.start_soon(self._answer, flock, lock)

    def closed(self, inode: int, _handle: int, owner: int) -> None:
        """The bridge calls this at the last close of an open file that tried to lock; it may hold no lock."""
        self._unlock(inode, owner)

    def _unlock(self, inode: int, owner: int) -> None:
        self._locks_of(Inode(inode)).unlock(Inode(inode), LockOwner(owner))

    async def _answer(self, flock: Flock, lock: Callable[[], Awaitable[None]]) -> None:
        """Lock and answer, without an await in between, so that an interrupted request holds no lock."""
        number = errno.EINTR
        try:
            with interruptible(flock.request, told_to_stop=_any_signal):
                await lock()
                number = 0
        except trio.Cancelled:
            if not flock.answered:  # at its end the session answers all requests
                flock.reply(errno.ENOTCONN)
            raise
        except Exception as error:
            number = self._errno_of(Inode(flock.inode), error)
        if not flock.answered and flock.reply(number) and number == 0:
            self._unlock(flock.inode, flock.owner)  # no program uses it any more
