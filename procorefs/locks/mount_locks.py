"""The door of the locks: flock between the processes of this mount, and towards everybody else at Procore.

    flock ─▶ table: free among our own? ─▶ exclusive: check it out · shared: does nobody else have it?

The lock on this mount is held while Procore is asked, so of our processes only one asks, and the next one in line takes
over the check-out without a call. Whatever ends the asking other than a yes gives the lock back.
"""

import trio

from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.flock_table import LockOwner, LockTable, Mode, WouldBlock
from procorefs.locks.held import HeldByAnother, Holder
from procorefs.tree.nodes import Inode

_FLOCK = "flock"
"""Who holds the check-out for whichever owner has the exclusive lock."""


class Locks:
    """flock(2) for files of the mount. `check_outs` runs for as long as this is used."""

    def __init__(self, check_outs: CheckOuts) -> None:
        self.check_outs = check_outs
        self._table = LockTable()

    async def lock(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool) -> None:
        """Take or convert a lock.

        Raises WouldBlock when it is not free (unless `wait`), and what the calls to Procore raise. Cancelled or refused
        it leaves this owner without a lock, and nothing checked out on its behalf.
        """
        while self._table.mode(inode, owner) is not mode or not self._is_settled(inode, mode):
            try:
                await self._lock_here(inode, owner, mode, wait=wait)
                await self._lock_there(inode, mode, wait=wait)
            except HeldByAnother as held:
                self.unlock(inode, owner)
                raise WouldBlock from held
            except WouldBlock:
                raise
            except BaseException:
                self.unlock(inode, owner)
                raise
            if self._table.mode(inode, owner) is mode:
                return
            # Another thread with the same descriptor gave up meanwhile, and with it the lock of both.
            await trio.lowlevel.checkpoint()

    def _is_settled(self, inode: Inode, mode: Mode) -> bool:
        """Whether this owner's lock, which it has already, is known to Procore."""
        return mode is Mode.SHARED or self.check_outs.is_kept(inode)

    async def _lock_here(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool) -> None:
        try:
            if wait:
                await self._table.lock(inode, owner, mode)
            else:
                self._table.lock_now(inode, owner, mode)
        finally:
            self._follow(inode)

    async def _lock_there(self, inode: Inode, mode: Mode, *, wait: bool) -> None:
        if mode is Mode.EXCLUSIVE:
            await self.check_outs.taken(inode, wait=wait)
        else:
            await self.check_outs.nobody_else(inode, wait=wait)

    def unlock(self, inode: Inode, owner: LockOwner) -> None:
        """Give up what this owner holds, which may be nothing. Never waits and never fails."""
        if self._table.unlock(inode, owner):
            self._follow(inode)

    def _follow(self, inode: Inode) -> None:
        """The check-out is wanted as long as somebody holds the file exclusively."""
        if self._table.is_exclusive(inode):
            self.check_outs.hold(inode, _FLOCK)
        else:
            self.check_outs.drop(inode, _FLOCK)

    def held_by_other(self, inode: Inode) -> Holder | None:
        """Who else has the file checked out, as far as is known: what would change it is refused."""
        return self.check_outs.holder(inode)

    def holder_name(self, inode: Inode) -> str | None:
        """The same for a sentence."""
        holder = self.held_by_other(inode)
        return None if holder is None else holder.name or "another user"

    def document_arrived(self, inode: Inode) -> None:
        """A file that Procore did not have got its document, or another one: a lock on it reaches Procore now."""
        self.check_outs.wake(inode)

    def bytes_sent(self, inode: Inode) -> None:
        """What was on its way has arrived, or never will: a check-in need not wait for it any longer."""
        self.check_outs.wake(inode)
