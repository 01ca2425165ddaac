"""The books on the project's size: a total of the list that our rows explain proves that nothing is missing.

What a server counts is an open question, so all ways are held possible until a total rules some out.
"""

from collections.abc import AsyncIterator

import trio

from procorefs.tree.nodes import ROOT
from procorefs.tree.sync import poll_plan
from procorefs.tree.tree_store import TreeStore

SWEEP = 20_000
"""Rows looked through in one go: some 10 ms."""


class Completeness:
    """Keeps its books among the tree's facts, so that they outlive the daemon."""

    def __init__(self, store: TreeStore) -> None:
        self._store = store

    def census(self) -> poll_plan.Census:
        store = self._store
        return poll_plan.Census(live=store.count(), hidden=store.hidden(), deleted=store.deleted())

    @property
    def is_open(self) -> bool:
        """Whether a total can say anything."""
        return self._books() is not None

    async def gap(self, total: int, listing_pass: int, refused: int) -> int:
        """How many documents the total has that no answer has had since that full listing began."""
        seen = 0
        async for first, last in ranges(self._store):
            seen += self._store.seen(listing_pass, first, last)
        return total - seen - refused

    def open(self, total: int | None, *, balanced: bool, keep_ways: bool) -> None:
        """Begin new books after a full listing; within a transaction.

        Not balanced: the listing met fewer documents than the total has, so another one is owed. No total: our own
        changes were under way, and the next look at a quiet moment begins them.
        """
        census = self.census()
        remember = self._store.remember
        remember("surplus", None if total is None else total - census.live)
        remember("balanced", int(balanced))
        remember("hidden", census.hidden)
        remember("deleted", census.deleted)
        remember("bin_hidden", census.hidden)
        remember("bin_deleted", census.deleted)
        if not keep_ways:
            remember("ways", poll_plan.ALL_WAYS)

    def explains(self, total: int) -> bool:
        """Whether a total can be explained."""
        books = self._books()
        return books is None or bool(poll_plan.explaining(total, self._ways(), books, self.census()))

    def settle(self, total: int) -> bool:
        """The same at the end of a look; learns from it how the server counts.

        Books that did not balance once stay so until the next full listing: a later total may fit by chance.
        """
        books = self._books()
        if books is None:
            return True
        ways = self._ways()
        left = poll_plan.explaining(total, ways, books, self.census())
        balanced = bool(left) and self._store.fact("balanced") != 0
        if not balanced or left != ways:
            with self._store.transaction():
                self._store.remember("balanced", int(balanced))
                self._store.remember("ways", left if balanced else ways)
        return balanced

    def too_many(self, total: int) -> bool:
        """Whether we have more documents than the total in every way of counting: something vanished."""
        books = self._books()
        if books is None:
            return False
        census = self.census()
        return all(total < way.total(books, census) for way in poll_plan.ways_in(self._ways()))

    @property
    def bin_is_apart(self) -> bool:
        """Whether it is proven that the total leaves deleted documents out: then deletions show in it."""
        return not any(way.counts_deleted for way in poll_plan.ways_in(self._ways()))

    # The recycle bin's own total

    def bin_grew(self, bin_total: int | None) -> bool:
        """Whether there is more in the bin than what we know to have gone there since it was last read."""
        before = self._store.fact("bin_total")
        if bin_total is None or before is None:
            return False
        census = self.census()
        gone = census.deleted - int(self._store.fact("bin_deleted") or 0)
        hidden = census.hidden - int(self._store.fact("bin_hidden") or 0)
        return bin_total > int(before) + max(gone, gone + hidden)

    def bin_was_read(self, bin_total: int | None) -> None:
        """Note what the bin's total stands for; within a transaction."""
        census = self.census()
        self._store.remember("bin_total", bin_total)
        self._store.remember("bin_deleted", census.deleted)
        self._store.remember("bin_hidden", census.hidden)

    def _ways(self) -> int:
        return int(self._store.fact("ways") or poll_plan.ALL_WAYS)

    def _books(self) -> poll_plan.TotalCounts | None:
        surplus = self._store.fact("surplus")
        if surplus is None:
            return None
        return poll_plan.TotalCounts(
            int(surplus), int(self._store.fact("hidden") or 0), int(self._store.fact("deleted") or 0)
        )


async def ranges(store: TreeStore) -> AsyncIterator[tuple[int, int]]:
    """All inodes, a few at a time."""
    for first in range(ROOT, store.last_inode() + 1, SWEEP):
        yield first, first + SWEEP - 1
        await trio.lowlevel.checkpoint()
