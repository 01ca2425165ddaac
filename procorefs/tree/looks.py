"""A look for changes: the newest ones since the last look, and the recycle bin when the totals ask for it."""

from dataclasses import dataclass

import trio

from procorefs.limiter import Priority
from procorefs.tree import plan
from procorefs.tree.intake import Intake
from procorefs.tree.store import TreeStore

BIN_LOOK_S = 600.0
"""The bin is looked at this often even when the project's total explains itself without it."""


@dataclass(frozen=True, slots=True)
class _Changes:
    total: int | None
    newest_s: int


class Looker:
    """Reads what changed; raises ProcoreError, and then the next look covers the same time again."""

    def __init__(self, store: TreeStore, intake: Intake) -> None:
        self._store = store
        self._intake = intake
        self._binned_at_s: float | None = None

    async def look(self, priority: Priority) -> bool:
        """Take up all changes. False: the project's total says that the sorting missed some."""
        since_s = int(self._store.fact("newest") or 0) - plan.OVERLAP_S
        changes = await self._changes(since_s, priority)
        if self._must_see_bin(changes.total):
            removed = await self._deletions(since_s, priority)
            self._binned_at_s = trio.current_time()
            self._learn_of_bin(changes.total, removed)
        with self._store.transaction():
            self._store.remember("newest", max(changes.newest_s, since_s + plan.OVERLAP_S))
        return self._reconciles(changes.total)

    async def _changes(self, since_s: int, priority: Priority) -> _Changes:
        """The changed documents; when more than one small page of them came, in large pages."""
        changes = await self._read_changes(plan.LOOK_PAGE, 1, since_s, priority)
        if changes is None:
            changes = await self._read_changes(plan.LISTING_PAGE, None, since_s, priority)
        return changes or _Changes(None, since_s)

    async def _read_changes(
        self, per_page: int, most_pages: int | None, since_s: int, priority: Priority
    ) -> _Changes | None:
        """Page by page until older than `since_s`; None: there are more pages than `most_pages`."""
        listing_pass = int(self._store.fact("pass") or 0)
        number: int | None = 1
        newest_s = since_s
        while number is not None:
            if most_pages is not None and number > most_pages:
                return None
            page, _ = await self._intake.page(number, per_page, listing_pass=listing_pass, priority=priority)
            times = [d.updated_at_s for d in page.items]
            newest_s = max([newest_s, *times])
            total = page.total
            per_page = page.per_page or per_page
            number = page.next_page if times and min(times) >= since_s else None
        return _Changes(total, newest_s)

    async def _deletions(self, since_s: int, priority: Priority) -> int:
        """Read the bin likewise; how many documents it took out of the tree."""
        number: int | None = 1
        removed = 0
        while number is not None:
            page, absorbed = await self._intake.deleted_page(number, plan.LOOK_PAGE, priority=priority)
            removed += len(absorbed.removed)
            times = [d.updated_at_s for d in page.items]
            recent = bool(times) and min(times) >= since_s
            number = page.next_page if recent or absorbed.removed else None
        return removed

    def _must_see_bin(self, total: int | None) -> bool:
        if total is None or not self._store.fact("bin_apart"):
            return True
        if self._binned_at_s is None or trio.current_time() - self._binned_at_s > BIN_LOOK_S:
            return True
        return total != int(self._store.fact("surplus") or 0) + self._store.count()

    def _learn_of_bin(self, total: int | None, removed: int) -> None:
        """A total that went down with what was deleted proves that the list leaves the bin out."""
        surplus = self._store.fact("surplus")
        if removed and total is not None and surplus is not None and not self._store.hidden():
            apart = total == surplus + self._store.count()
            with self._store.transaction():
                self._store.remember("bin_apart", int(apart))

    def _reconciles(self, total: int | None) -> bool:
        surplus = self._store.fact("surplus")
        if total is None or surplus is None:
            return True
        return plan.reconciles(
            total,
            plan.Census(
                live=self._store.count(),
                hidden=self._store.hidden(),
                newly_deleted=self._store.deleted() - int(self._store.fact("deleted") or 0),
                surplus=surplus,
            ),
        )
