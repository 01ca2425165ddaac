"""The full listing: every page of the project, a few at a time, and then what none of them had is removed.

    pages, newest change first ─▶ (what changed meanwhile) ─▶ seen = total? ─▶ remove what was not seen, open new books

It may take hours and be interrupted at any point: how far the pages have come is remembered, and the next run goes on
with what changed before that.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import ProcoreError
from procorefs.tree.absorb import Absorber
from procorefs.tree.finality import tail_of
from procorefs.tree.intake import Intake
from procorefs.tree.ledger import Ledger
from procorefs.tree.looks import Looker
from procorefs.tree.nodes import ROOT, Forget
from procorefs.tree.pages import PageReading
from procorefs.tree.store import TreeStore

PAGES_AT_ONCE = 3
MOST_READINGS = 20
"""So often a reading may be continued because the server changed the size of its pages."""

SWEEP = 20_000
"""Rows looked through in one go: some 10 ms."""

FOLDERS_AT_ONCE = 2_000


@dataclass(slots=True)
class Listed:
    """What a full listing took and what it was good for."""

    calls: int = 0
    found: int = 0
    """Documents that were new, changed or gone, and that no look had told of."""
    refused: int = 0
    disturbed: bool = False
    """The project changed while it was listed."""
    total: int | None = None


class FullListing:
    """Lists the whole project; `run` raises ProcoreError and then goes on where it was when it is run again.

    Facts: `listing` is the newest change when the listing under way began (none: there is none), `reached` the oldest
    one to which its pages have come without a gap.
    """

    def __init__(
        self,
        store: TreeStore,
        absorber: Absorber,
        intake: Intake,
        looker: Looker,
        ledger: Ledger,
        forget: Callable[[Sequence[Forget]], None],
        priority: Callable[[], Priority],
    ) -> None:
        self._store = store
        self._absorber = absorber
        self._intake = intake
        self._looker = looker
        self._ledger = ledger
        self._forget = forget
        self._priority = priority

    async def run(self) -> Listed:
        again = bool(self._store.fact("complete"))
        resumed = self._store.fact("listing") is not None
        if not resumed:
            self._begin()
        listed = Listed(disturbed=resumed)
        await self._read_all(listed)
        async with self._looker.alone:
            gap = await self._gap(listed)
            if gap or again or listed.total is None:
                await self._catch_up(listed, again=again)
                gap = await self._gap(listed)
            if not listed.disturbed or (again and not listed.found):
                gap = (
                    0  # what the total has beyond the pages is in no page: it is the server's way of counting
                )
            if (
                gap <= 0 and not listed.refused
            ):  # else one not seen may be the one that could not be understood
                await self._remove_unseen(listed)
            await self._finish(listed, balanced=gap == 0, again=again)
        return listed

    def _begin(self) -> None:
        with self._store.transaction():
            self._store.remember("pass", self._pass + 1)
            self._store.remember("reached", None)

    @property
    def _pass(self) -> int:
        return int(self._store.fact("pass") or 0)

    # Reading

    async def _read_all(self, listed: Listed) -> None:
        for _ in range(MOST_READINGS):
            reached_s = self._store.fact("reached")
            reading = PageReading()
            try:
                # A second more: its documents may stand on both sides of the place that was reached.
                await self._read(reading, listed, None if reached_s is None else int(reached_s) + 1)
            finally:
                listed.calls += reading.calls
                listed.refused += reading.refused
                listed.disturbed |= reading.disturbed
            if not reading.broken:
                break
        listed.total = reading.total if reached_s is None else None

    async def _read(self, reading: PageReading, listed: Listed, updated_to_s: int | None) -> None:
        failures: list[ProcoreError] = []

        async def read_pages(nursery: trio.Nursery) -> None:
            """The first failure ends them all and is raised as itself, not in a group."""
            try:
                while (number := reading.take()) is not None:
                    await self._take(number, reading, listed, updated_to_s)
            except ProcoreError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        if (first := reading.take()) is not None:
            await self._take(first, reading, listed, updated_to_s)
        async with trio.open_nursery() as nursery:
            for _ in range(PAGES_AT_ONCE):
                nursery.start_soon(read_pages, nursery)
        if failures:
            raise failures[0]

    async def _take(
        self, number: int, reading: PageReading, listed: Listed, updated_to_s: int | None
    ) -> None:
        began_s = trio.current_time()
        page, absorbed = await self._intake.page(
            number,
            reading.per_page,
            listing_pass=self._pass,
            updated_to_s=updated_to_s,
            priority=self._priority(),
        )
        reading.answered(number, page)
        listed.found += len(absorbed.changed)
        with self._store.transaction():
            if self._store.fact("listing") is None:
                self._store.remember("listing", max((d.updated_at_s for d in page.items), default=0))
                if not self._store.fact("complete"):
                    final_s = self._looker.finality.second_of(page, began_s)
                    self._looker.finality.remember(final_s, tail_of(page.items, final_s))
            if reading.reached_s is not None:
                self._store.remember("reached", reading.reached_s)

    # Balancing: nobody else reads changes meanwhile

    async def _catch_up(self, listed: Listed, *, again: bool) -> None:
        """Take up what changed while the pages were read: those documents moved to where reading had begun."""
        known_s = int(self._store.fact("newest" if again else "listing") or 0)
        changes = await self._looker.changes(known_s, self._priority(), whole=False)
        await self._looker.deletions(changes.total, self._priority())
        listed.total = changes.total
        listed.disturbed |= bool(changes.changed)
        with self._store.transaction():
            self._store.remember("newest", changes.newest_s)

    async def _gap(self, listed: Listed) -> int:
        """How many documents the total has that no answer had."""
        if listed.total is None:
            return 0
        seen = 0
        async for first, last in self._ranges():
            seen += self._store.seen(self._pass, first, last)
        return listed.total - seen - listed.refused

    async def _remove_unseen(self, listed: Listed) -> None:
        async for first, last in self._ranges():
            removed = self._absorber.remove(self._store.unseen(self._pass, first, last))
            self._forget(removed.forget)
            listed.found += len(removed.changed)

    async def _ranges(self) -> AsyncIterator[tuple[int, int]]:
        """All inodes, a few at a time."""
        for first in range(ROOT, self._store.last_inode() + 1, SWEEP):
            yield first, first + SWEEP - 1
            await trio.lowlevel.checkpoint()

    async def _finish(self, listed: Listed, *, balanced: bool, again: bool) -> None:
        marked = FOLDERS_AT_ONCE
        while marked == FOLDERS_AT_ONCE:
            with self._store.transaction():
                marked = self._store.set_all_listed(FOLDERS_AT_ONCE)
            await trio.lowlevel.checkpoint()
        newest_s = max(int(self._store.fact(name) or 0) for name in ("newest", "listing"))
        with self._store.transaction():
            self._store.remember("complete", 1)
            self._store.remember("newest", newest_s)
            self._store.remember("listing", None)
            self._store.remember("reached", None)
            self._ledger.open(listed.total, balanced=balanced, keep_ways=again and listed.found > 0)
