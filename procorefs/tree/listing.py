"""The full listing: every page of the project, a few at a time, and then what none of them had is removed.

Pages are sorted by the newest change, so a change during the listing pushes documents down, where they are met again;
only a deletion pulls them up past the reading. The total tells, and then the listing is repeated.
"""

import logging
import math
from collections.abc import Callable

import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import ProcoreError
from procorefs.procore.models import Document, Page
from procorefs.tree import plan
from procorefs.tree.absorb import Absorber
from procorefs.tree.intake import Intake
from procorefs.tree.store import TreeStore

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 3
MOST_PASSES = 3
"""A project in which something is deleted during each of so many listings is taken as listed; looks find the rest."""


class FullListing:
    """Lists the whole project; `run` raises ProcoreError and can be run again."""

    def __init__(
        self, store: TreeStore, absorber: Absorber, intake: Intake, priority: Callable[[], Priority]
    ) -> None:
        self._store = store
        self._absorber = absorber
        self._intake = intake
        self._priority = priority

    async def run(self, forget_removed: Callable[..., None]) -> None:
        for turn in range(MOST_PASSES):
            tally = await self._one_pass()
            if tally.complete:
                break
            log.info("Documents were deleted while the project was listed; listing it again (%d).", turn + 1)
        else:
            log.warning("The project changed during each listing; what was missed is found by later looks.")
        self._finish(tally, forget_removed)

    async def _one_pass(self) -> "_Tally":
        tally = _Tally(self._begin())
        await self._take(1, tally)
        failures: list[ProcoreError] = []

        async def take_rest(nursery: trio.Nursery) -> None:
            """The first failure ends them all and is raised as itself, not in a group."""
            try:
                while (number := tally.next_page()) is not None:
                    await self._take(number, tally)
            except ProcoreError as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(PAGES_AT_ONCE):
                nursery.start_soon(take_rest, nursery)
        if failures:
            raise failures[0]
        return tally

    def _begin(self) -> int:
        number = int(self._store.fact("pass") or 0) + 1
        with self._store.transaction():
            self._store.remember("pass", number)
        return number

    async def _take(self, number: int, tally: "_Tally") -> None:
        page, absorbed = await self._intake.page(
            number, tally.per_page, listing_pass=tally.listing_pass, priority=self._priority()
        )
        tally.add(number, page)
        tally.seen += absorbed.first_seen + absorbed.apart
        if number == 1:
            tally.newest_s = max((d.updated_at_s for d in page.items), default=0)

    def _finish(self, tally: "_Tally", forget_removed: Callable[..., None]) -> None:
        """One moment: what was not seen goes, and what was learnt of the totals is the measure from now on."""
        if tally.complete:
            forget_removed(self._absorber.remove(self._store.unseen(tally.listing_pass)).forget)
        total = tally.last_total
        with self._store.transaction():
            self._store.set_all_listed()
            self._store.remember("complete", 1)
            self._store.remember("newest", tally.newest_s)
            self._store.remember("surplus", None if total is None else total - self._store.count())
            self._store.remember("deleted", self._store.deleted())


class _Tally:
    """What the pages of one pass said, and which page is to be read next."""

    def __init__(self, listing_pass: int) -> None:
        self.listing_pass = listing_pass
        self.seen = 0
        self.per_page = plan.LISTING_PAGE  # what the first page really had counts for the others
        self.newest_s = 0
        self.first_total: int | None = None
        self.last_total: int | None = None
        self._refused = 0
        self._last_page: int | None = None
        self._asked = 1
        self._more = False

    @property
    def complete(self) -> bool:
        return plan.complete(self.seen, self._refused, self.first_total, self.last_total)

    def add(self, number: int, page: Page[Document]) -> None:
        if number == 1:
            self.first_total = page.total
            self.per_page = page.per_page or self.per_page
        self.last_total = page.total
        self._refused += page.refused
        self._more = page.next_page is not None
        if page.total is not None:
            self._last_page = math.ceil(page.total / self.per_page)
        elif page.next_page is None:
            self._last_page = number

    def next_page(self) -> int | None:
        """The number of a page nobody reads yet; None when there is none.

        Without a total the end is where `next` ends: reading ahead by a few pages costs at most as many empty ones.
        """
        if self._last_page is None and not self._more:
            return None
        if self._last_page is not None and self._asked >= self._last_page:
            return None
        self._asked += 1
        return self._asked
