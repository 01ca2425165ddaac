"""Takes and releases flock locks: first among the processes of this mount, then at Procore.

    flock ─▶ table: free on this mount? ─▶ exclusive: check it out · shared: does nobody else have it?

The lock on this mount is held while Procore is asked. So only one process asks, and the next one that gets the lock
takes over the check-out without a call. When Procore does not agree, the lock on this mount is released.
"""

import trio

from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.claims import Claims
from procorefs.locks.flock_table import LockOwner, LockTable, Mode, WouldBlock
from procorefs.locks.holder_polls import HolderPolls
from procorefs.locks.tree_documents import HeldByAnother
from procorefs.tree.nodes import Inode

_FLOCK = "flock"
"""The holder of the check-out, whichever owner has the exclusive lock."""


class Locks:
    """flock(2) for files of the mount. `check_outs.run` must run."""

    def __init__(self, claims: Claims, check_outs: CheckOuts, polls: HolderPolls) -> None:
        self._claims = claims
        self._check_outs = check_outs
        self._polls = polls
        self._table = LockTable()
        self._local: set[tuple[Inode, LockOwner]] = set()
        """Owners of locks that hold on this mount alone."""

    async def lock(
        self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool, is_local: bool = False
    ) -> None:
        """Take or convert a lock; with `is_local` it holds among the programs of this mount, and costs no call.

        Raises WouldBlock when it is not free (unless `wait`), and what the calls to Procore raise. Cancelled or refused
        it leaves this owner without a lock, and nothing checked out on its behalf.
        """
        (self._local.add if is_local else self._local.discard)((inode, owner))
        try:
            await self._lock(inode, owner, mode, wait=wait, is_local=is_local)
        finally:
            if self._table.mode(inode, owner) is None:
                self._local.discard((inode, owner))

    async def _lock(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool, is_local: bool) -> None:
        while self._table.mode(inode, owner) is not mode or not self._is_confirmed(inode, owner, mode):
            try:
                await self._lock_here(inode, owner, mode, wait=wait)
                if not is_local:
                    await self._lock_at_procore(inode, mode, wait=wait)
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
            # Another thread with the same descriptor was refused meanwhile, which released the lock of both.
            await trio.lowlevel.checkpoint()

    def _is_confirmed(self, inode: Inode, owner: LockOwner, mode: Mode) -> bool:
        """Whether Procore knows of the lock that this owner has."""
        return mode is Mode.SHARED or (inode, owner) in self._local or self._claims.is_kept(inode)

    async def _lock_here(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool) -> None:
        try:
            if wait:
                await self._table.lock(inode, owner, mode)
            else:
                self._table.lock_now(inode, owner, mode)
        finally:
            self._update_hold(inode)

    async def _lock_at_procore(self, inode: Inode, mode: Mode, *, wait: bool) -> None:
        if mode is Mode.EXCLUSIVE:
            await self._check_outs.taken(inode, wait=wait)
        else:
            await self._polls.nobody_else(inode, wait=wait)

    def unlock(self, inode: Inode, owner: LockOwner) -> None:
        """Give up what this owner holds, which may be nothing. Never waits and never fails."""
        self._local.discard((inode, owner))
        if self._table.unlock(inode, owner):
            self._update_hold(inode)

    def _update_hold(self, inode: Inode) -> None:
        """The file is to be checked out as long as an owner holds it exclusively, towards Procore as well."""
        owner = self._table.exclusive_owner(inode)
        if owner is not None and (inode, owner) not in self._local:
            self._check_outs.hold(inode, _FLOCK)
        else:
            self._check_outs.drop(inode, _FLOCK)
