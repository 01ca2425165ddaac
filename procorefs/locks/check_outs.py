"""Keeps documents checked out at Procore for as long as somebody on this mount wants them so.

    hold ─▶ look ─▶ PATCH until + 15 min ─▶ renewed when 5 min are left ─▶ drop ─▶ 1 s ─▶ PATCH null
              └─ somebody else has it: look again every 15 s, and at its end, while it is wanted

One keeper task a file compares what is wanted with what we have and sends the difference, one call after the other; who
waits only waits for its word. So a waiter may be cancelled at any moment: its wish is gone, and a check-out that was
under way is taken back when its answer comes.

Ours is a check-out whose end we remember having asked for (check_out_ends.py).
When its answer was lost it is in doubt, and
before a check-out in doubt is taken back we look whether it is one that we asked for: an administrator's check-in would
take back anybody's. One of our own user's that we do not remember belongs to another host.

A check-in waits a second, so that a program that locks and unlocks ten times in a row costs one check-out; nobody at
Procore sees the difference, who looks for it every 15 s. It also waits while bytes written under the lock are on their
way, but not longer than the check-out lasts anyway: whoever locks next is to find them.
"""

import logging
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial

import cachetools
import trio

from procorefs.locks.check_out_ends import AskedEnds
from procorefs.locks.held import CheckOutCalls, Documents, HeldByAnother, Holder, LockJournal
from procorefs.procore.errors import LATE_S, ProcoreError, Unanswered
from procorefs.procore.wire.models import DocumentId, UserId
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.shared_task import SharedTask

log = logging.getLogger(__name__)

LASTS_S = 15 * 60
RENEWED_BEFORE_S = 5 * 60
LOOK_EVERY_S = 15.0
FRESH_S = 2.0
"""A look serves all who ask within this time: `flock -n` in a loop must not cost a call each time."""

END_MARGIN_S = 0.5
"""Looked again so long after an end: the clocks are not the same."""

FOLD_S = 1.0
ADOPTED_S = 10.0
"""What an earlier daemon left checked out is kept so long for who wants it again, then taken back."""

STATE_LOOK_S = 1.0
"""How often it is looked whether bytes are sent, or a new file has become a document, if nobody says so first."""

FIRST_RETRY_S, LAST_RETRY_S = 2.0, 60.0
CLOSING_S = 5.0
LOOKS_REMEMBERED = 4096

NEVER = float("inf")


@dataclass(slots=True, eq=False)
class _Asker:
    """Somebody who waits for the keeper's word."""

    patient: bool
    """It was refused before, and waits for the next look that is due."""
    answered: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class _Claim:
    """One file: who wants it checked out, and what we have of it."""

    inode: Inode
    holds: set[Hashable] = field(default_factory=set)
    idle_until_s: float = 0.0
    """Loop time: with no holds, taken back from then on."""
    document: DocumentId | None = None
    """What we have checked out, or may have; None: nothing."""
    until_s: int = 0
    in_doubt: bool = False
    """Asked for, but whether Procore did it is not known."""
    try_at_s: float = 0.0
    """Loop time: not tried before, unless somebody newly asks."""
    failures: int = 0
    askers: list[_Asker] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def may_have(self, document: DocumentId, until_s: int) -> None:
        """We are about to ask for it, or did; what became of that is not known."""
        self.document, self.until_s, self.in_doubt = document, until_s, True

    def share(self, other: "_Claim") -> None:
        """Another file is the same document, and we have it."""
        self.document, self.until_s, self.in_doubt = other.document, other.until_s, False

    def clear(self) -> None:
        """We have nothing of it."""
        self.document, self.until_s, self.in_doubt = None, 0, False
        self.failures = 0

    def answer(self, error: Exception | None) -> None:
        askers, self.askers = self.askers, []
        for asker in askers:
            asker.error = error
            asker.answered.set()

    def failed(self) -> float:
        """Count a failure; returns how long to wait after it."""
        self.failures += 1
        return float(min(FIRST_RETRY_S * 2 ** (self.failures - 1), LAST_RETRY_S))


class CheckOuts:
    """The check-outs of one mount. `calls` None: a mount that changes nothing, and only looks."""

    def __init__(
        self,
        me: UserId,
        documents: Documents,
        calls: CheckOutCalls | None,
        journal: LockJournal,
        *,
        wall_s: Callable[[], float] = clocks.wall_s,
    ) -> None:
        self._me = me
        self._documents = documents
        self._calls = calls
        self._ends = AskedEnds(journal, wall_s)
        self._wall_s = wall_s
        self._claims: dict[Inode, _Claim] = {}
        self._nursery: trio.Nursery | None = None
        self._looks = SharedTask()
        self._given_up: set[Inode] = set()
        """Whose look somebody has stopped to wait for, unless it has ended since."""
        self._looked_at_s: cachetools.LRUCache[Inode, float] = cachetools.LRUCache(LOOKS_REMEMBERED)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep until cancelled; then take back what is ours, as far as that takes a few seconds only."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._ends.begin_run()
                lost = self._adopt(self._ends.documents())
                task_status.started()
                while lost:
                    await trio.sleep(STATE_LOOK_S)
                    lost = self._adopt(document for document in lost if self._ends.of(document))
                await trio.sleep_forever()
        finally:
            self._nursery = None
            # No keeper is left; what one of them was sending was cut off, and is in doubt.
            with trio.move_on_after(CLOSING_S, shield=True):
                await self._close()

    async def _close(self) -> None:
        async with trio.open_nursery() as nursery:
            for claim in self._claims.values():
                claim.holds.clear()
                if claim.document is not None:
                    nursery.start_soon(self._check_in, claim)

    def _adopt(self, documents: Iterable[DocumentId]) -> list[DocumentId]:
        """Keep what an earlier daemon has asked for; returns the documents that the tree does not have yet."""
        lost: list[DocumentId] = []
        for document in documents:
            inode = self._documents.inode_of(document)
            if inode is None:
                lost.append(document)
                continue
            claim = self._claim(inode)
            if claim.document is None:  # else this daemon has checked it out meanwhile
                claim.may_have(document, max(self._ends.of(document)))
            claim.idle_until_s = max(claim.idle_until_s, trio.current_time() + ADOPTED_S)
        return lost

    # Wishes

    def hold(self, inode: Inode, who: Hashable) -> None:
        """Somebody wants it checked out, for as long as they do not drop it."""
        claim = self._claim(inode)
        claim.holds.add(who)
        claim.changed.set()

    def drop(self, inode: Inode, who: Hashable) -> None:
        """They do not any more, if they ever did."""
        claim = self._claims.get(inode)
        if claim is None or who not in claim.holds:
            return
        claim.holds.remove(who)
        if not claim.holds:
            claim.idle_until_s = trio.current_time() + FOLD_S
        claim.changed.set()

    def drop_all(self) -> None:
        """Nobody is left on this mount who could want any."""
        for claim in self._claims.values():
            claim.holds.clear()
            claim.idle_until_s = trio.current_time()
            claim.changed.set()

    def wake(self, inode: Inode) -> None:
        """Something about the file has changed: it got its document, or its bytes were sent."""
        claim = self._claims.get(inode)
        if claim is not None:
            claim.changed.set()

    def _claim(self, inode: Inode) -> _Claim:
        claim = self._claims.get(inode)
        if claim is None:
            claim = self._claims[inode] = _Claim(inode)
            assert self._nursery is not None, "run() comes first"
            self._nursery.start_soon(self._keep, claim)
        return claim

    # Answers

    def holder(self, inode: Inode) -> Holder | None:
        """Who else has it checked out, as far as is known."""
        held = self._documents.held(inode)
        if held is None or held.holder is None:
            return None
        holder = held.holder
        if holder.until_s is not None and holder.until_s <= self._wall_s():
            return None
        return None if self._is_ours(held.document, holder) else holder

    def _is_ours(self, document: DocumentId, holder: Holder) -> bool:
        """One in doubt must be one that we asked for, and not one that another host made as the same user."""
        return holder.user == self._me and (
            holder.until_s in self._ends.of(document)
            or any(not claim.in_doubt for claim in self._claims_of(document))
        )

    def _claims_of(self, document: DocumentId) -> list[_Claim]:
        """Nearly always one, or none.

        A file that is renamed onto another is its document from then on, and who had the other one open keeps its lock.
        """
        return [claim for claim in self._claims.values() if claim.document == document]

    def is_kept(self, inode: Inode) -> bool:
        """Whether we are sure to have it checked out."""
        claim = self._claims.get(inode)
        return claim is not None and self._has(claim)

    def _has(self, claim: _Claim) -> bool:
        return claim.document is not None and not claim.in_doubt and claim.until_s > self._wall_s()

    async def taken(self, inode: Inode, *, wait: bool) -> None:
        """Wait until the file that the caller holds is checked out, or needs not be (it has no document yet).

        Raises HeldByAnother (unless `wait`), and what the calls raise. Can be cancelled at any time.
        """
        patient = False
        while True:
            claim = self._claims.get(inode)
            if claim is None or self._has(claim):
                return
            try:
                await self._word(claim, patient=patient)
            except HeldByAnother:
                if not wait:
                    raise
                patient = True
            else:
                return

    async def _word(self, claim: _Claim, *, patient: bool) -> None:
        asker = _Asker(patient)
        claim.askers.append(asker)
        claim.changed.set()
        try:
            await asker.answered.wait()
        finally:
            if asker in claim.askers:
                claim.askers.remove(asker)
        if asker.error is not None:
            raise asker.error

    async def nobody_else(self, inode: Inode, *, wait: bool) -> None:
        """Wait until nobody else has it checked out. Costs a look and no more.

        Raises HeldByAnother (unless `wait`), and what a look raises that could not tell whether a known holder is gone.
        Can be cancelled at any time.
        """
        while not self.is_kept(inode) and self._documents.held(inode) is not None:
            try:
                await self._look(inode)
            except ProcoreError as error:
                if self.holder(inode) is not None:
                    raise
                log.info("Nobody is known to hold inode %d, and asking failed: %s", inode, error)
            holder = self.holder(inode)
            if holder is None:
                return
            if not wait:
                raise HeldByAnother(holder)
            await trio.sleep(self._next_look_s(holder))

    async def look(self, inode: Inode) -> None:
        """Learn who has it checked out, for somebody who is about to open it. Raises ProcoreError.

        A look that somebody has given up to wait for is not waited for again.
        """
        if self.is_kept(inode) or self._documents.held(inode) is None:
            return
        if self._looks.running(inode) and inode in self._given_up:
            return
        self._given_up.discard(inode)
        try:
            await self._look(inode)
        except trio.Cancelled:
            if self._looks.running(inode):
                self._given_up.add(inode)
            raise

    async def _look(self, inode: Inode) -> None:
        """Ask Procore, unless somebody just did; who comes while somebody asks gets the same answer."""
        looked_at_s = self._looked_at_s.get(inode)
        if looked_at_s is None or trio.current_time() - looked_at_s >= FRESH_S:
            assert self._nursery is not None
            await self._looks.join(self._nursery, inode, partial(self._refresh, inode))

    async def _refresh(self, inode: Inode) -> None:
        held = self._documents.held(inode)
        if held is None:
            return
        begun_at_s = trio.current_time()
        await self._documents.refresh(held.document)
        self._looked_at_s[inode] = begun_at_s

    def _next_look_s(self, holder: Holder | None) -> float:
        """How long until a waiter looks again."""
        if holder is None or holder.until_s is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(holder.until_s + END_MARGIN_S - self._wall_s(), FRESH_S))

    # The keeper

    async def _keep(self, claim: _Claim) -> None:
        """Send what is different until nothing is wanted and nothing is left of it."""
        while True:
            claim.changed = trio.Event()  # what happens from here on is looked at once more
            try:
                due_s = await self._step(claim)
            except Exception as error:  # the tree or the journal can't be read; who waits is told
                log.exception("The check-out of inode %d could not be kept.", claim.inode)
                claim.answer(error)
                due_s = trio.current_time() + LOOK_EVERY_S
            if due_s is None:
                del self._claims[claim.inode]
                return
            with trio.move_on_at(due_s):
                await claim.changed.wait()

    async def _step(self, claim: _Claim) -> float | None:
        """At most one change at Procore. Returns when to look again (loop time); None: nothing is left to keep."""
        held = self._documents.held(claim.inode)
        document = held.document if held else None
        now_s = trio.current_time()
        if document is None and claim.holds:
            document = (
                claim.document
            )  # another file was renamed over it: it stays locked until its holder lets go
        if claim.document is not None and (not claim.holds or claim.document != document):
            return await self._give_up(claim)
        if not claim.holds:
            claim.answer(None)  # their own wish is gone
            return None
        if document is None:
            claim.answer(None)
            return now_s + STATE_LOOK_S
        if self._has(claim):
            claim.answer(None)
            renew_in_s = claim.until_s - RENEWED_BEFORE_S - self._wall_s()
            if renew_in_s > 0 or claim.try_at_s > now_s:
                return max(now_s + renew_in_s, claim.try_at_s)
            return await self._renew(claim, document)
        if claim.try_at_s > now_s and all(asker.patient for asker in claim.askers):
            return claim.try_at_s
        for other in self._claims_of(document):
            if self._has(other):
                claim.share(other)
                return now_s
        return await self._take(claim, document)

    async def _take(self, claim: _Claim, document: DocumentId) -> float:
        error: Exception | None = None
        try:
            await self._look(claim.inode)
            holder = self.holder(claim.inode)
            if holder is not None:
                raise HeldByAnother(holder)
            due_s = NEVER
            if self._calls is not None and claim.holds:  # whoever asked may be gone by now
                await self._send(claim, self._calls, document)
                due_s = trio.current_time()
            claim.failures = 0
        except HeldByAnother as refused:
            error = HeldByAnother(await self._holder_after(claim, refused))
            due_s = trio.current_time() + self._next_look_s(error.holder)
        except Exception as failure:
            error = failure
            is_final = isinstance(failure, ProcoreError) and not failure.passing
            due_s = NEVER if is_final else trio.current_time() + max(claim.failed(), LOOK_EVERY_S)
        claim.try_at_s = due_s
        claim.answer(error)
        return due_s

    async def _holder_after(self, claim: _Claim, refused: HeldByAnother) -> Holder | None:
        """Who it was that Procore refused us for, for their name and end; None when nobody says."""
        if refused.holder is None:
            try:
                await self._refresh(claim.inode)
            except Exception as failure:
                log.debug("Procore does not say who holds inode %d: %s", claim.inode, failure)
        return refused.holder or self.holder(claim.inode)

    async def _renew(self, claim: _Claim, document: DocumentId) -> float:
        assert self._calls is not None, "nothing is checked out without calls"
        had_until_s = claim.until_s
        try:
            await self._send(claim, self._calls, document)
            claim.failures = 0
        except HeldByAnother as refused:
            log.warning(
                "A lock was lost: the check-out of document %d was taken away, and %s.", document, refused
            )
            claim.try_at_s = trio.current_time() + LOOK_EVERY_S
        except Exception as failure:
            log.warning("The check-out of document %d could not be renewed yet: %s", document, failure)
            # Whatever became of the call, what we had lasts to its own end.
            claim.may_have(document, had_until_s)
            claim.in_doubt = False
            claim.try_at_s = trio.current_time() + max(claim.failed(), LOOK_EVERY_S)
        return trio.current_time()

    async def _send(self, claim: _Claim, calls: CheckOutCalls, document: DocumentId) -> None:
        """The check-out itself; cut off or unanswered it leaves the claim in doubt."""
        had_until_s = claim.until_s
        until_s = self._ends.unused(document, int(self._wall_s()) + LASTS_S)
        self._ends.asked(document, until_s)
        claim.may_have(document, until_s)
        try:
            await calls.check_out(document, until_s)
        except HeldByAnother:
            self._let_go(claim)
            raise
        except BaseException as error:
            if isinstance(error, ProcoreError) and not isinstance(error, Unanswered):
                self._ends.refused(document, until_s)
                claim.until_s = had_until_s
                if not self._ends.of(document):
                    claim.clear()
            else:
                self._ends.given_up(document, until_s)
            raise
        self._ends.holds(document, until_s)
        claim.in_doubt = False
        claim.try_at_s = 0.0
        self._looked_at_s[claim.inode] = trio.current_time()

    async def _give_up(self, claim: _Claim) -> float:
        """Take it back when the time has come; nobody wants it, or the file is another document now."""
        now_s, wall_s = trio.current_time(), self._wall_s()
        if not claim.holds:
            claim.answer(None)
        if not claim.holds and claim.idle_until_s > now_s:
            return claim.idle_until_s
        assert claim.document is not None
        if len(self._claims_of(claim.document)) > 1:
            claim.clear()  # the last one checks it in
            return now_s
        if claim.until_s > wall_s and self._documents.is_unsent(claim.inode):
            return now_s + STATE_LOOK_S
        retry_in_s = await self._check_in(claim)
        claim.idle_until_s = trio.current_time() + retry_in_s
        return claim.idle_until_s

    async def _check_in(self, claim: _Claim) -> float:
        """Take back what is ours, if it still is. Returns 0 when that is over, else when to try again."""
        assert claim.document is not None
        try:
            if claim.until_s > self._wall_s() and await self._still_ours(claim) and self._calls is not None:
                claim.in_doubt = True  # until it is answered
                await self._calls.check_out(claim.document, None)
                self._looked_at_s[claim.inode] = trio.current_time()
        except HeldByAnother as refused:
            log.info("Document %d is not checked in by us: %s.", claim.document, refused)
        except ProcoreError as failure:
            log.info("Document %d could not be checked in: %s", claim.document, failure)
            if isinstance(failure, Unanswered):
                self._doubt(claim.document, trio.current_time() + LATE_S)
            if failure.passing:
                return claim.failed()
        self._let_go(claim)
        return 0.0

    async def _still_ours(self, claim: _Claim) -> bool:
        """Whether what Procore has is what we asked for; in doubt we ask.

        About the document that was checked out: the file may be another by now, or none.
        """
        document = claim.document
        assert document is not None
        if claim.in_doubt:
            await self._documents.refresh(document)
        holder = self._documents.holder_of(document)
        if holder is None:
            return not claim.in_doubt
        is_ours = self._is_ours(document, holder)
        if is_ours and holder.until_s is not None:
            self._ends.holds(document, holder.until_s)
        return is_ours

    def _let_go(self, claim: _Claim) -> None:
        assert claim.document is not None
        self._ends.checked_in(claim.document)
        late_s = self._ends.late_s(claim.document)
        if late_s:
            self._doubt(claim.document, late_s)
        claim.clear()

    def _doubt(self, document: DocumentId, until_s: float) -> None:
        """A call without an answer may be carried out until then (loop time): look once more after that."""
        if self._nursery is not None:  # else the next daemon does
            self._nursery.start_soon(self._look_after, document, until_s)

    async def _look_after(self, document: DocumentId, until_s: float) -> None:
        """Take back what was checked out late, or check out again what may have been checked in late."""
        await trio.sleep_until(until_s)
        for claim in self._claims_of(document):
            claim.in_doubt = True
            claim.changed.set()
        if self._ends.of(document):
            self._adopt([document])
