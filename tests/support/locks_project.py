"""A Procore of few documents for the locks' tests: two users, a wall clock, calls that are counted or broken."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from procorefs.locks.check_out_ends import AskedEnds
from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.locks.check_outs import CheckOuts
from procorefs.locks.claims import CheckOutTimes, Claims
from procorefs.locks.flock_table import LockOwner, Mode
from procorefs.locks.holder_polls import HolderPolls
from procorefs.locks.tree_documents import Held, HeldByAnother, Holder, TreeDocuments
from procorefs.procore.errors import Unanswered, Unreachable
from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage.events import EventSource
from procorefs.tree.nodes import Inode
from procorefs.wiring.locks import open_locks

BEGAN_S = 1_700_000_000
ME, OTHER = UserId(1), UserId(2)
NAMES = {ME: "Me Myself", OTHER: "Jane Doe"}
FILE, LOCAL = Inode(2000), Inode(2001)
DOCUMENT = DocumentId(77)
A, B, C = LockOwner(11), LockOwner(12), LockOwner(13)


def wall_s() -> float:
    return BEGAN_S + trio.current_time()


class Project:
    """Procore itself."""

    def __init__(self) -> None:
        self.holders: dict[DocumentId, Holder] = {}
        self.looks = 0
        self.sent: list[tuple[UserId, int | None]] = []
        self.looked_at_s: list[float] = []

    def holder(self, document: DocumentId) -> Holder | None:
        holder = self.holders.get(document)
        return None if holder is None or (holder.until_s or 0) <= wall_s() else holder

    def check_out(self, user: UserId, document: DocumentId, until_s: int | None) -> None:
        """As the other user does it, or ours through `Mount`."""
        holder = self.holder(document)
        if holder is not None and holder.user != user:
            raise HeldByAnother(holder)
        self.sent.append((user, until_s))
        self.holders.pop(document, None)
        if until_s is not None:
            self.holders[document] = Holder(user, NAMES[user], until_s)

    def other_checks_out(self, for_s: float) -> None:
        self.holders[DOCUMENT] = Holder(OTHER, NAMES[OTHER], int(wall_s() + for_s))


class Journal(CheckOutJournal):
    """In memory."""

    def __init__(self) -> None:
        self.kept: dict[DocumentId, list[int]] = {}

    def remember(self, document: DocumentId, until_s: int) -> None:
        self.kept.setdefault(document, []).append(until_s)

    def forget(self, document: DocumentId, until_s: int) -> None:
        ends = self.kept.get(document, [])
        if until_s in ends:
            ends.remove(until_s)
        if not ends:
            self.kept.pop(document, None)

    def known(self) -> list[tuple[DocumentId, int]]:
        return [(document, until_s) for document, ends in self.kept.items() for until_s in ends]


@dataclass
class Mount(TreeDocuments):
    """One mount's tree, and its calls to Procore."""

    project: Project
    user: UserId = ME
    documents: dict[Inode, DocumentId] = field(default_factory=lambda: {FILE: DOCUMENT})
    known: dict[DocumentId, Holder | None] = field(default_factory=dict)
    unsent: set[Inode] = field(default_factory=set)
    call_s: float = 0.1
    before: Exception | None = None
    """Raised instead of carrying out a check-out or check-in."""
    after: Exception | None = None
    """Raised after having carried it out: the answer is lost."""
    look_error: Exception | None = None

    def held(self, inode: Inode) -> Held | None:
        document = self.documents.get(inode)
        return Held(document, self.known.get(document)) if document is not None else None

    def inode_of(self, document: DocumentId) -> Inode | None:
        return next((inode for inode, its in self.documents.items() if its == document), None)

    def is_unsent(self, inode: Inode) -> bool:
        return inode in self.unsent

    def holder_of(self, document: DocumentId) -> Holder | None:
        return self.known.get(document)

    async def refresh(self, document: DocumentId) -> None:
        await trio.sleep(self.call_s)
        self.project.looks += 1
        self.project.looked_at_s.append(trio.current_time())
        if self.look_error is not None:
            raise self.look_error
        self.learn(document)

    def learn(self, document: DocumentId) -> None:
        self.known[document] = self.project.holder(document)

    async def check_out(self, document: DocumentId, until_s: int | None) -> None:
        await trio.sleep(self.call_s)
        if self.before is not None:
            raise self.before
        try:
            self.project.check_out(self.user, document, until_s)
        except HeldByAnother as error:
            raise HeldByAnother(None) from error  # an answer that does not say who
        if self.after is not None:
            raise self.after
        await trio.sleep(self.call_s)
        self.learn(document)


class MountLocks:
    """The locks of a mount, wired as in the product."""

    def __init__(self, mount: Mount, journal: Journal, *, sends: bool) -> None:
        self.changed: EventSource[Inode] = EventSource()
        self.documents_changed: EventSource[Collection[DocumentId]] = EventSource()
        self.claims = Claims(mount.user, mount, AskedEnds(journal, wall_s), wall_s=wall_s)
        self.may_check_out = sends
        parts = open_locks(
            self.claims,
            self.changed,
            self.documents_changed,
            may_check_out=lambda: self.may_check_out,
            sends=lambda: sends,
            is_unsent=mount.is_unsent,
        )
        self.check_outs: CheckOuts = parts.check_outs
        self.polls: HolderPolls = parts.polls
        self._locks = parts.locks

    async def lock(self, inode: Inode, owner: LockOwner, mode: Mode, *, wait: bool) -> None:
        await self._locks.lock(inode, owner, mode, wait=wait)

    def unlock(self, inode: Inode, owner: LockOwner) -> None:
        self._locks.unlock(inode, owner)


@asynccontextmanager
async def locking(
    mount: Mount, journal: Journal | None = None, *, kill: bool = False, sends: bool = True
) -> AsyncIterator[MountLocks]:
    """The locks of a mount, until its end; with `kill` nothing is checked in then."""
    async with trio.open_nursery() as nursery:
        locks = MountLocks(mount, journal or Journal(), sends=sends)
        await nursery.start(locks.check_outs.run)
        yield locks
        if kill:
            mount.before = mount.look_error = Unreachable("Nothing leaves a process that is dead.")
        nursery.cancel_scope.cancel()


async def ends(condition: Callable[[], bool], within_s: float = 60.0) -> float:
    """Wait on the mock clock until it holds; returns after how long."""
    began_s = trio.current_time()
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.05)
    return trio.current_time() - began_s


TIMES = CheckOutTimes()
SHARED, EXCLUSIVE = Mode.SHARED, Mode.EXCLUSIVE
LOST = Unanswered("Could not check it out: the connection broke")
DOWN = Unreachable("Could not check it out: no route")


async def lock(locks: MountLocks, owner: LockOwner, mode: Mode = EXCLUSIVE, *, wait: bool = False) -> None:
    await locks.lock(FILE, owner, mode, wait=wait)


class Waiter:
    """A task that waits for a lock, and can be told to stop."""

    def __init__(
        self, locks: MountLocks, nursery: trio.Nursery, owner: LockOwner, mode: Mode = EXCLUSIVE
    ) -> None:
        self.scope = trio.CancelScope()
        self.got_at_s: float | None = None
        nursery.start_soon(self._wait, locks, owner, mode)

    async def _wait(self, locks: MountLocks, owner: LockOwner, mode: Mode) -> None:
        with self.scope:
            await lock(locks, owner, mode, wait=True)
            self.got_at_s = trio.current_time()
