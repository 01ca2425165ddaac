"""Decides which process of this mount gets a flock(2) lock, by Linux's own rules, so that it works as on a local disk.

- An owner is an open file description: dup'ed and inherited descriptors are one owner, two opens are two.
- A lock is compared with those that are held, not with those that wait. When a lock is released, waiters are checked in
  the order in which they came.
- Converting is not atomic: the old lock is released first, and stays released when the new one is refused.

Everything but waiting is synchronous: between two awaits of its callers the table does not change.
"""

import enum
from dataclasses import dataclass, field
from typing import NewType

import trio

from procorefs.tree.nodes import Inode

LockOwner = NewType("LockOwner", int)


class Mode(enum.Enum):
    """How a file is locked."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


class WouldBlock(Exception):
    """The lock is not free, and the caller does not want to wait."""


@dataclass(slots=True, eq=False)
class _Waiter:
    owner: LockOwner
    mode: Mode
    granted: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class _File:
    """One file's locks; it exists only while there are locks or waiters.

    Either one owner holds it exclusively or any number share it; no waiter waits for what is free.
    """

    held: dict[LockOwner, Mode] = field(default_factory=dict)
    waiting: list[_Waiter] = field(default_factory=list)

    def is_free(self, owner: LockOwner, mode: Mode) -> bool:
        return all(
            mode is Mode.SHARED and theirs is Mode.SHARED
            for other, theirs in self.held.items()
            if other != owner
        )


class LockTable:
    """All locks of the mount, by inode and owner."""

    def __init__(self) -> None:
        self._files: dict[Inode, _File] = {}

    def __len__(self) -> int:
        """Files that are locked or waited for."""
        return len(self._files)

    def mode(self, inode: Inode, owner: LockOwner) -> Mode | None:
        """How this owner holds the file."""
        file = self._files.get(inode)
        return file.held.get(owner) if file else None

    def exclusive_owner(self, inode: Inode) -> LockOwner | None:
        """The owner that holds the file exclusively."""
        file = self._files.get(inode)
        held = file.held.items() if file is not None else ()
        return next((owner for owner, mode in held if mode is Mode.EXCLUSIVE), None)

    def waiters(self, inode: Inode) -> int:
        file = self._files.get(inode)
        return len(file.waiting) if file else 0

    def lock_now(self, inode: Inode, owner: LockOwner, mode: Mode) -> None:
        """Take or convert the lock. Raises WouldBlock; a lock that was to be converted is lost then."""
        if not self._take(inode, owner, mode):
            raise WouldBlock
        self._grant(inode)

    async def lock(self, inode: Inode, owner: LockOwner, mode: Mode) -> None:
        """The same, waiting until it is free. Cancelled, it leaves nothing held or waiting."""
        if self._take(inode, owner, mode):
            self._grant(inode)
            return
        file = self._files[inode]  # it is held
        waiter = _Waiter(owner, mode)
        file.waiting.append(waiter)
        try:
            await waiter.granted.wait()
        except trio.Cancelled:
            if waiter.granted.is_set():  # between the cancellation and here
                self.unlock(inode, owner)
            else:
                file.waiting.remove(waiter)
                self._grant(inode)
            raise

    def unlock(self, inode: Inode, owner: LockOwner) -> bool:
        """Release what this owner holds, which may be nothing. Returns whether it held the file."""
        file = self._files.get(inode)
        if file is None or file.held.pop(owner, None) is None:
            return False
        self._grant(inode)
        return True

    def _take(self, inode: Inode, owner: LockOwner, mode: Mode) -> bool:
        """What the kernel does under one lock: drop another mode of the same owner, then look for conflicts."""
        file = self._files.setdefault(inode, _File())
        if file.held.get(owner) is mode:
            return True
        file.held.pop(owner, None)
        if file.is_free(owner, mode):
            file.held[owner] = mode
            return True
        self._grant(inode)
        return False

    def _grant(self, inode: Inode) -> None:
        """Grant what is free now, oldest waiter first; then remove a file without locks and waiters."""
        file = self._files[inode]
        for waiter in list(file.waiting):
            if file.is_free(waiter.owner, waiter.mode):
                file.waiting.remove(waiter)
                file.held[waiter.owner] = waiter.mode
                waiter.granted.set()
        if not file.held and not file.waiting:
            del self._files[inode]
