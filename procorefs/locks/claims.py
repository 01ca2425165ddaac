"""Records which files this mount has or wants checked out, and decides which check-outs are its own.

Ours is a check-out whose end this mount remembers having asked for (check_out_ends.py). A check-out of the same user
with another end was made by another host.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import trio

from procorefs.locks.check_out_ends import AskedEnds
from procorefs.locks.tree_documents import Holder, TreeDocuments
from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode


@dataclass(frozen=True, slots=True)
class CheckOutTimes:
    """How long check-outs last and how often Procore is asked about them, in seconds."""

    lasts_s: int = 15 * 60
    """A daemon that died blocks other users for this long at most."""
    renewed_before_s: int = 5 * 60
    """Left for renewals that fail: at least five tries."""
    poll_every_s: float = 15.0
    """240 of 3,600 calls an hour for each file that a program waits for."""
    fresh_s: float = 2.0
    """One answer serves all requests of this time: `flock -n` in a loop must not cost a call each time."""
    end_margin_s: float = 0.5
    """Polled this long after an end: the Date of an answer has whole seconds."""
    check_in_delay_s: float = 1.0
    """Locks that follow each other within this time share one check-out."""
    adopted_s: float = 10.0
    """A check-out of an earlier daemon is kept this long for a program that locks the file again."""
    closing_s: float = 5.0
    """For check-ins at the end: a daemon must exit within 10 s."""

    def retry_s(self, failures: int) -> float:
        """The pause after so many calls that failed in a row."""
        return float(min(2.0**failures, 60.0))


@dataclass(slots=True, eq=False)
class Waiter:
    """A lock request that waits for the outcome of the claim's next step."""

    was_refused: bool
    """It waits for the next poll that is due and causes none."""
    answered: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class Claim:
    """One file: for whom it is to be checked out, and which check-out this mount has."""

    inode: Inode
    holds: set[Hashable] = field(default_factory=set)
    idle_until_s: float = 0.0
    """Loop time: without holds it is checked in from then on."""
    document: DocumentId | None = None
    """What this mount has checked out, or may have; None: nothing."""
    until_s: int = 0
    """The end of the check-out, in Unix seconds of Procore's clock."""
    in_doubt: bool = False
    """It was asked for, and whether Procore did it is not known."""
    try_at_s: float = 0.0
    """Loop time of the next try, unless a new waiter comes."""
    failures: int = 0
    """Calls that failed in a row."""
    waiters: list[Waiter] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    """Set when the claim's task must look at it again."""

    def may_have(self, document: DocumentId, until_s: int) -> None:
        """A call asks for it, or did; its outcome is not known."""
        self.document, self.until_s, self.in_doubt = document, until_s, True

    def share(self, other: "Claim") -> None:
        """Another file is the same document, and this mount has it."""
        self.document, self.until_s, self.in_doubt = other.document, other.until_s, False

    def clear(self) -> None:
        """This mount has nothing of it."""
        self.document, self.until_s, self.in_doubt = None, 0, False
        self.failures = 0

    def answer(self, error: Exception | None) -> None:
        """Tell all waiters the outcome."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.error = error
            waiter.answered.set()

    async def outcome(self, *, was_refused: bool) -> None:
        """Wait for the outcome of the next step; raises its error."""
        waiter = Waiter(was_refused)
        self.waiters.append(waiter)
        self.changed.set()
        try:
            await waiter.answered.wait()
        finally:
            if waiter in self.waiters:
                self.waiters.remove(waiter)
        if waiter.error is not None:
            raise waiter.error


class Claims:
    """All claims of one mount. `me` is the mount's user."""

    def __init__(
        self,
        me: UserId,
        documents: TreeDocuments,
        ends: AskedEnds,
        *,
        wall_s: Callable[[], float] = clocks.wall_s,
    ) -> None:
        self._me = me
        self.documents = documents
        self.ends = ends
        self.wall_s = wall_s
        """Procore's clock."""
        self.by_inode: dict[Inode, Claim] = {}

    def of_document(self, document: DocumentId) -> list[Claim]:
        """Nearly always one, or none.

        A file that is renamed onto another becomes its document, and the program that has the other one open keeps its
        lock.
        """
        return [claim for claim in self.by_inode.values() if claim.document == document]

    def has(self, claim: Claim) -> bool:
        """Whether this mount certainly has it checked out."""
        return claim.document is not None and not claim.in_doubt and claim.until_s > self.wall_s()

    def is_kept(self, inode: Inode) -> bool:
        """Whether this mount certainly has the file checked out."""
        claim = self.by_inode.get(inode)
        return claim is not None and self.has(claim)

    def holder(self, inode: Inode) -> Holder | None:
        """Who else has the file checked out, as far as is known."""
        held = self.documents.held(inode)
        if held is None or held.holder is None:
            return None
        holder = held.holder
        if holder.until_s is not None and holder.until_s <= self.wall_s():
            return None
        return None if self.is_ours(held.document, holder) else holder

    def holder_name(self, inode: Inode) -> str | None:
        """The same for a sentence."""
        holder = self.holder(inode)
        return None if holder is None else holder.name or "another user"

    def is_ours(self, document: DocumentId, holder: Holder) -> bool:
        """Whether this mount made the check-out, and not another host as the same user."""
        return holder.user == self._me and (
            holder.until_s in self.ends.of(document)
            or any(not claim.in_doubt for claim in self.of_document(document))
        )
