"""Decides by Procore's totals whether the tree may lack changes; a total never says what is gone.

Procore does not document what a total counts: every way of counting is possible until a total contradicts it.
"""

from collections.abc import AsyncIterator, Iterable

import trio

from procorefs.tree.nodes import ROOT
from procorefs.tree.sync_state import COUNTINGS, Counting, KnownTotal, RowCounts, SyncState
from procorefs.tree.tree_store import TreeStore

ROWS_AT_ONCE = 20_000
"""Rows read between two checkpoints of the loop: some 10 ms."""


def expected_total(counting: Counting, known: KnownTotal, rows: RowCounts) -> int:
    """What the total must be now if the tree has missed nothing since `known`."""
    total = known.total + rows.live - known.rows.live
    if counting.with_deleted:
        total += rows.deleted - known.rows.deleted
    if not counting.with_hidden:
        total -= rows.hidden - known.rows.hidden
    return total


def explaining(
    total: int, countings: Iterable[Counting], known: KnownTotal, rows: RowCounts
) -> tuple[Counting, ...]:
    """The ways of counting that explain the total."""
    return tuple(counting for counting in countings if expected_total(counting, known, rows) == total)


class Completeness:
    """Compares totals with the tree's rows; what it learns is kept in the tree's SyncState."""

    def __init__(self, store: TreeStore) -> None:
        self._store = store

    @property
    def has_total(self) -> bool:
        """Whether there is an explained total to compare the next one with."""
        return self._store.sync.read().total is not None

    async def gap(self, total: int, listing_pass: int, refused: int) -> int:
        """How many documents the total has that no answer had since that full listing began."""
        seen = 0
        async for first, last in inode_ranges(self._store):
            seen += self._store.counts.seen(listing_pass, first, last)
        return total - seen - refused

    def begin(
        self, state: SyncState, total: int | None, *, is_balanced: bool, keeps_countings: bool = False
    ) -> None:
        """Compare later totals with this one, which follows a full listing; changes `state`.

        None: calls of ours were under way, so the total proves nothing; the next undisturbed poll begins instead.
        """
        rows = self._store.counts.rows()
        state.total = None if total is None else KnownTotal(total, rows)
        state.is_balanced = is_balanced
        if state.bin_total is not None:
            state.bin_total = KnownTotal(state.bin_total.total, rows)
        if not keeps_countings:
            state.countings = COUNTINGS

    def explains(self, total: int) -> bool:
        """Whether the rows explain the total."""
        return bool(self._explaining(total, self._store.sync.read()))

    def check(self, total: int) -> bool:
        """The same at the end of a poll: rules out ways of counting. False: a full listing is due.

        After a total that was not explained only a full listing helps: a later one may fit by chance.
        """
        state = self._store.sync.read()
        if state.total is None:
            return True
        left = self._explaining(total, state)
        is_balanced = state.is_balanced and bool(left)
        if not is_balanced or left != state.countings:
            with self._store.transaction(), self._store.sync.change() as state:
                state.is_balanced = is_balanced
                if is_balanced:
                    state.countings = left
        return is_balanced

    def has_too_many(self, total: int) -> bool:
        """Whether the tree has more documents than the total in every way of counting: something was removed."""
        state = self._store.sync.read()
        rows = self._store.counts.rows()
        known = state.total
        return known is not None and all(
            total < expected_total(counting, known, rows) for counting in state.countings
        )

    @property
    def tells_deletions(self) -> bool:
        """Whether the total is known to leave deleted documents out, so that each deletion changes it."""
        return not any(counting.with_deleted for counting in self._store.sync.read().countings)

    def bin_grew(self, bin_total: int | None) -> bool:
        """Whether the recycle bin has more than it had when it was last read and what the tree knows of since."""
        known = self._store.sync.read().bin_total
        if bin_total is None or known is None:
            return False
        rows = self._store.counts.rows()
        deleted = rows.deleted - known.rows.deleted
        hidden = rows.hidden - known.rows.hidden
        return bin_total > known.total + max(deleted, deleted + hidden)

    def bin_was_read(self, bin_total: int | None) -> None:
        """Compare later totals of the bin with this one; within a transaction."""
        with self._store.sync.change() as state:
            rows = self._store.counts.rows()
            state.bin_total = None if bin_total is None else KnownTotal(bin_total, rows)

    def _explaining(self, total: int, state: SyncState) -> tuple[Counting, ...]:
        if state.total is None:
            return state.countings
        return explaining(total, state.countings, state.total, self._store.counts.rows())


async def inode_ranges(store: TreeStore) -> AsyncIterator[tuple[int, int]]:
    """All inodes, a few at a time."""
    for first in range(ROOT, store.counts.last_inode() + 1, ROWS_AT_ONCE):
        yield first, first + ROWS_AT_ONCE - 1
        await trio.lowlevel.checkpoint()
