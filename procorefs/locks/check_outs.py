"""Keeps documents checked out at Procore while a program on this mount holds them, renews and ends the check-outs.

    hold ─▶ poll ─▶ PATCH until + 15 min ─▶ renewed when 5 min are left ─▶ drop ─▶ 1 s ─▶ PATCH null
              └─ another user has it: poll again every 15 s, and at its end, while it is held here

One task a file compares what programs hold with what this mount has checked out and sends the difference, one call
after the other. A lock request only waits for its outcome, so it can be cancelled at any moment: its hold is dropped,
and a check-out that was under way is ended when its answer comes.

A check-out whose answer was lost is in doubt. Before it is ended Procore is asked whether it is ours (claims.py):
an administrator's check-in would end anybody's.

A check-in waits a second, so that a program that locks and unlocks ten times in a row costs one check-out; nobody at
Procore notices, as others poll every 15 s. It also waits until bytes written under the lock are sent, but not longer
than the check-out lasts: the next user that locks the file must find them.
"""

import logging
from collections.abc import Callable, Collection, Hashable, Iterable

import trio

from procorefs.locks.claims import CheckOutTimes, Claim, Claims
from procorefs.locks.holder_polls import HolderPolls
from procorefs.locks.tree_documents import HeldByAnother, Holder
from procorefs.procore.errors import LATE_S, ProcoreError, Unanswered
from procorefs.procore.wire.models import DocumentId
from procorefs.tree.nodes import Inode

log = logging.getLogger(__name__)

NEVER = float("inf")


class CheckOuts:
    """The check-outs of one mount. `run` must run.

    While `may_check_out` is False only other users' check-outs count. While `sends` is False nothing is checked in.
    `is_unsent`: whether a file has bytes that are sent without anybody's help; `changed` must be called when that
    changes.
    """

    def __init__(
        self,
        claims: Claims,
        polls: HolderPolls,
        *,
        may_check_out: Callable[[], bool],
        sends: Callable[[], bool],
        is_unsent: Callable[[Inode], bool],
        times: CheckOutTimes = CheckOutTimes(),  # noqa: B008 - frozen
    ) -> None:
        self._claims = claims
        self._polls = polls
        self._documents = claims.documents
        self._ends = claims.ends
        self._wall_s = claims.wall_s
        self._may_check_out = may_check_out
        self._sends = sends
        self._is_unsent = is_unsent
        self._times = times
        self._nursery: trio.Nursery | None = None
        self._not_in_tree: set[DocumentId] = set()
        """Documents that an earlier daemon has checked out and that the tree does not have yet."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep check-outs until cancelled; then end those of this mount, as far as that takes a few seconds only."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._polls.run)
                self._ends.begin_run()
                self._adopt(self._ends.documents())
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            # No task of a claim is left; the call that one of them was sending was cut off, and is in doubt.
            with trio.move_on_after(self._times.closing_s, shield=True):
                await self._close()

    async def _close(self) -> None:
        async with trio.open_nursery() as nursery:
            for claim in self._claims.by_inode.values():
                claim.holds.clear()
                if claim.document is not None:
                    nursery.start_soon(self._check_in, claim)

    def _adopt(self, documents: Iterable[DocumentId]) -> None:
        """Keep what an earlier daemon has asked for, as soon as the tree has the document."""
        for document in documents:
            inode, ends = self._documents.inode_of(document), self._ends.of(document)
            if inode is None:
                self._not_in_tree.add(document)
                continue
            self._not_in_tree.discard(document)
            if not ends:
                continue  # all are over
            claim = self._claim(inode)
            if claim.document is None:  # else this daemon has checked it out meanwhile
                claim.may_have(document, max(ends))
            claim.idle_until_s = max(claim.idle_until_s, trio.current_time() + self._times.adopted_s)

    # What programs hold

    def hold(self, inode: Inode, by: Hashable) -> None:
        """Have the file checked out until `by` drops it."""
        claim = self._claim(inode)
        claim.holds.add(by)
        claim.changed.set()

    def drop(self, inode: Inode, by: Hashable) -> None:
        """End a hold, if there is one."""
        claim = self._claims.by_inode.get(inode)
        if claim is None or by not in claim.holds:
            return
        claim.holds.remove(by)
        if not claim.holds:
            claim.idle_until_s = trio.current_time() + self._times.check_in_delay_s
        claim.changed.set()

    def drop_all(self) -> None:
        """End all holds at once: the mount point is gone, and with it all programs that hold any."""
        for claim in self._claims.by_inode.values():
            claim.holds.clear()
            claim.idle_until_s = trio.current_time()
            claim.changed.set()

    def changed(self, inode: Inode) -> None:
        """Look at the file again: it may have become a document, or its bytes may have been sent."""
        claim = self._claims.by_inode.get(inode)
        if claim is not None:
            claim.changed.set()

    def documents_changed(self, documents: Collection[DocumentId]) -> None:
        """Look at documents again that came into the tree, or are new there."""
        if self._nursery is None or not (self._claims.by_inode or self._not_in_tree):
            return
        self._adopt(self._not_in_tree.intersection(documents))
        for document in documents:
            inode = self._documents.inode_of(document)
            if inode is not None:
                self.changed(inode)

    def _claim(self, inode: Inode) -> Claim:
        claim = self._claims.by_inode.get(inode)
        if claim is None:
            claim = self._claims.by_inode[inode] = Claim(inode)
            assert self._nursery is not None, "run() comes first"
            self._nursery.start_soon(self._keep, claim)
        return claim

    async def taken(self, inode: Inode, *, wait: bool) -> None:
        """Wait until the file that the caller holds is checked out, or need not be (it has no document yet).

        Raises HeldByAnother (unless `wait`), and what the calls raise. Can be cancelled at any time.
        """
        was_refused = False
        while True:
            claim = self._claims.by_inode.get(inode)
            if claim is None or self._claims.has(claim):
                return
            try:
                await claim.outcome(was_refused=was_refused)
            except HeldByAnother:
                if not wait:
                    raise
                was_refused = True
            else:
                return

    # The task of one claim

    async def _keep(self, claim: Claim) -> None:
        """Send what is different until nothing is held and nothing is left of it."""
        while True:
            claim.changed = trio.Event()  # what happens from here on causes another step
            try:
                due_s = await self._step(claim)
            except Exception as error:  # the tree or the journal cannot be read
                log.exception("The check-out of inode %d could not be kept.", claim.inode)
                claim.answer(error)
                due_s = trio.current_time() + self._times.poll_every_s
            if due_s is None:
                del self._claims.by_inode[claim.inode]
                return
            with trio.move_on_at(due_s):
                await claim.changed.wait()

    async def _step(self, claim: Claim) -> float | None:
        """At most one change at Procore. Returns when the next step is due (loop time); None: nothing is left."""
        held = self._documents.held(claim.inode)
        document = held.document if held else None
        now_s = trio.current_time()
        if document is None and claim.holds:
            # Another file was renamed over it: it stays locked until its holder unlocks it.
            document = claim.document
        if claim.document is not None and (not claim.holds or claim.document != document):
            return await self._give_up(claim)
        if not claim.holds:
            claim.answer(None)  # the waiters' own holds are gone
            return None
        if document is None:
            claim.answer(None)
            return NEVER  # until `changed`
        if self._claims.has(claim):
            claim.answer(None)
            renew_in_s = claim.until_s - self._times.renewed_before_s - self._wall_s()
            if renew_in_s > 0 or claim.try_at_s > now_s:
                return max(now_s + renew_in_s, claim.try_at_s)
            return await self._renew(claim, document)
        if claim.try_at_s > now_s and all(waiter.was_refused for waiter in claim.waiters):
            return claim.try_at_s
        for other in self._claims.of_document(document):
            if self._claims.has(other):
                claim.share(other)
                return now_s
        return await self._take(claim, document)

    async def _take(self, claim: Claim, document: DocumentId) -> float:
        error: Exception | None = None
        try:
            await self._polls.poll(claim.inode)
            holder = self._claims.holder(claim.inode)
            if holder is not None:
                raise HeldByAnother(holder)
            due_s = NEVER
            if self._may_check_out() and claim.holds:  # the hold may have ended meanwhile
                await self._check_out(claim, document)
                due_s = trio.current_time()
            claim.failures = 0
        except HeldByAnother as refused:
            error = HeldByAnother(await self._holder_after(claim, refused))
            due_s = trio.current_time() + self._polls.next_s(error.holder)
        except Exception as failure:
            error = failure
            is_final = isinstance(failure, ProcoreError) and not failure.passing
            due_s = NEVER if is_final else self._after_failure_s(claim)
        claim.try_at_s = due_s
        claim.answer(error)
        return due_s

    def _after_failure_s(self, claim: Claim) -> float:
        claim.failures += 1
        return trio.current_time() + max(self._times.retry_s(claim.failures), self._times.poll_every_s)

    async def _holder_after(self, claim: Claim, refused: HeldByAnother) -> Holder | None:
        """For whom Procore refused the check-out; None when it does not say."""
        if refused.holder is None:
            try:
                await self._polls.refresh(claim.inode)
            except Exception as failure:
                log.debug("Procore does not say who holds inode %d: %s", claim.inode, failure)
        return refused.holder or self._claims.holder(claim.inode)

    async def _renew(self, claim: Claim, document: DocumentId) -> float:
        had_until_s = claim.until_s
        try:
            await self._check_out(claim, document)
            claim.failures = 0
        except HeldByAnother as refused:
            log.warning("A lock was lost: the check-out of document %d was ended, and %s.", document, refused)
            claim.try_at_s = trio.current_time() + self._times.poll_every_s
        except Exception as failure:
            log.warning("The check-out of document %d could not be renewed yet: %s", document, failure)
            # Whatever became of the call, the check-out that there was lasts to its own end.
            claim.may_have(document, had_until_s)
            claim.in_doubt = False
            claim.try_at_s = self._after_failure_s(claim)
        return trio.current_time()

    async def _check_out(self, claim: Claim, document: DocumentId) -> None:
        """The call itself; cut off or unanswered it leaves the claim in doubt."""
        had_until_s = claim.until_s
        until_s = self._ends.unused(document, int(self._wall_s()) + self._times.lasts_s)
        self._ends.asked(document, until_s)
        claim.may_have(document, until_s)
        try:
            await self._documents.check_out(document, until_s)
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
        self._polls.note(claim.inode)

    async def _give_up(self, claim: Claim) -> float:
        """Check in when it is time: nobody holds the file, or it is another document. Returns when to step again."""
        now_s, left_s = trio.current_time(), claim.until_s - self._wall_s()
        if not claim.holds:
            claim.answer(None)
        if not claim.holds and claim.idle_until_s > now_s:
            return claim.idle_until_s
        assert claim.document is not None
        if len(self._claims.of_document(claim.document)) > 1:
            claim.clear()  # the last one checks it in
            return now_s
        if left_s > 0 and self._is_unsent(claim.inode):
            return now_s + left_s  # or at `changed`
        retry_in_s = await self._check_in(claim)
        claim.idle_until_s = trio.current_time() + retry_in_s
        return claim.idle_until_s

    async def _check_in(self, claim: Claim) -> float:
        """End this mount's check-out, if it still is one. Returns 0 when that is done, else when to try again."""
        assert claim.document is not None
        shown: Holder | None = None
        try:
            if await self._still_ours(claim) and self._sends():
                claim.in_doubt = True  # until it is answered
                await self._documents.check_out(claim.document, None)
                self._polls.note(claim.inode)
                shown = self._documents.holder_of(claim.document)
        except HeldByAnother as refused:
            log.info("Document %d is not checked in by this mount: %s.", claim.document, refused)
        except ProcoreError as failure:
            log.info("Document %d could not be checked in: %s", claim.document, failure)
            if isinstance(failure, Unanswered):
                self._doubt(claim.document, trio.current_time() + LATE_S)
            if failure.passing:
                claim.failures += 1
                return self._times.retry_s(claim.failures)
        self._let_go(claim, shown)
        return 0.0

    async def _still_ours(self, claim: Claim) -> bool:
        """Whether Procore has the check-out that was asked for; in doubt Procore is asked, which also tells its clock.

        It is about the document that was checked out: the file may be another by now, or none.
        """
        document = claim.document
        assert document is not None
        if claim.in_doubt:
            await self._documents.refresh(document)
        if claim.until_s <= self._wall_s():
            return False
        holder = self._documents.holder_of(document)
        if holder is None:
            return not claim.in_doubt
        is_ours = self._claims.is_ours(document, holder)
        if is_ours and holder.until_s is not None:
            self._ends.holds(document, holder.until_s)
        return is_ours

    def _let_go(self, claim: Claim, shown: Holder | None = None) -> None:
        """`shown`: the holder that the tree has after an answered check-in."""
        assert claim.document is not None
        self._ends.checked_in(claim.document, shown.until_s if shown is not None else None)
        late_s = self._ends.late_s(claim.document)
        if late_s:
            self._doubt(claim.document, late_s)
        claim.clear()

    def _doubt(self, document: DocumentId, until_s: float) -> None:
        """A call without an answer may be carried out until then (loop time): look once more after that."""
        if self._nursery is not None:  # else the next daemon does
            self._nursery.start_soon(self._look_after, document, until_s)

    async def _look_after(self, document: DocumentId, until_s: float) -> None:
        """End a check-out that was done late, or repeat one that a late check-in may have ended."""
        await trio.sleep_until(until_s)
        for claim in self._claims.of_document(document):
            claim.in_doubt = True
            claim.changed.set()
        if self._ends.of(document):
            self._adopt([document])
