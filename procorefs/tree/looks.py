"""A look for changes: the newest ones since the last look, and the recycle bin when the totals ask for it."""

from dataclasses import dataclass, field

import trio

from procorefs.limiter import Priority
from procorefs.procore.models import Document, DocumentId, Page
from procorefs.tree import plan
from procorefs.tree.intake import Intake
from procorefs.tree.ledger import Ledger
from procorefs.tree.own import OwnChanges
from procorefs.tree.store import TreeStore

BIN_LOOK_S = 600.0
"""The bin is looked at this often even when the project's total explains itself without it."""


@dataclass(slots=True)
class Changes:
    """What one reading of the newest changes brought."""

    newest_s: int
    total: int | None = None
    changed: set[DocumentId] = field(default_factory=set)
    unchanged: int = 0
    """Documents in a row, at the end of what was read, that had nothing new."""


class Looker:
    """Reads what changed; raises ProcoreError, and then the next look covers the same time again."""

    def __init__(self, store: TreeStore, intake: Intake, ledger: Ledger, own: OwnChanges) -> None:
        self._store = store
        self._intake = intake
        self._ledger = ledger
        self._own = own
        self._binned_at_s: float | None = None
        self._settling: tuple[int, float] = (0, 0.0)  # the newest change known, and when it was first met
        self._settled_s: int | None = None
        self.alone = trio.Lock()
        """Held by whoever reads changes and balances the books with what they said."""

    async def look(self, priority: Priority) -> bool:
        """Take up all changes. False: the project's total says that there are some which the looks can't see."""
        async with self.alone:
            began_s, own_before = trio.current_time(), self._own.mark()
            changes = await self.changes(int(self._store.fact("newest") or 0), priority)
            self._settle(changes.newest_s, began_s)
            if self._must_see_bin(changes.total):
                await self.deletions(changes.total, priority)
            with self._store.transaction():
                self._store.remember("newest", changes.newest_s)
            if changes.total is None or self._own.mark() != own_before or self._own.is_under_way:
                return True  # the total may or may not have what we changed meanwhile: it proves nothing
            return self._ledger.settle(changes.total)

    def _settle(self, newest_s: int, began_s: float) -> None:
        """Once the last seconds were read again after some time, nothing more can appear in them."""
        if self._settling[0] != newest_s:
            self._settling = (newest_s, trio.current_time())
        elif began_s - self._settling[1] > plan.OVERLAP_S:
            self._settled_s = newest_s

    async def changes(self, known_s: int, priority: Priority) -> Changes:
        """Take up what changed since `known_s`; when that is more than one small page, in large pages."""
        changes = Changes(known_s)
        page = await self._take(1, plan.LOOK_PAGE, changes, known_s, priority)
        number, per_page, pulled_up = 1, plan.LISTING_PAGE, False
        while pulled_up or self._reads_on(page, changes, known_s):
            before = changes.total
            changes.unchanged = 0 if number == 1 else changes.unchanged
            page = await self._take(number, per_page, changes, known_s, priority)
            per_page = page.per_page or per_page
            pulled_up = number > 1 and before is not None and page.total is not None and page.total < before
            number = number - 1 if pulled_up else page.next_page or 1
        return changes

    def _reads_on(self, page: Page[Document], changes: Changes, known_s: int) -> bool:
        return page.next_page is not None and plan.reads_on(
            page.items, changes.unchanged, known_s, settled=self._settled_s == known_s
        )

    async def _take(
        self, number: int, per_page: int, changes: Changes, known_s: int, priority: Priority
    ) -> Page[Document]:
        page, absorbed = await self._intake.page(
            number,
            per_page,
            listing_pass=int(self._store.fact("pass") or 0),
            changes_since_s=known_s - plan.OVERLAP_S,
            priority=priority,
        )
        changes.changed |= absorbed.changed
        changes.newest_s = max([changes.newest_s, *(d.updated_at_s for d in page.items)])
        changes.total = page.total
        for document in page.items:
            changes.unchanged = 0 if document.id in changes.changed else changes.unchanged + 1
        return page

    async def deletions(self, total: int | None, priority: Priority) -> None:
        """Take up what was deleted: the newest page of the bin, and all of it when that does not explain the totals."""
        gone: set[DocumentId] = set()
        page = await self._take_deleted(1, plan.LOOK_PAGE, gone, priority)
        number, per_page = 1, plan.LISTING_PAGE
        while page.next_page is not None and self._bin_goes_on(page, gone, total):
            page = await self._take_deleted(number, per_page, gone, priority)
            number, per_page = page.next_page or 1, page.per_page or per_page
        with self._store.transaction():
            self._ledger.bin_was_read(page.total)
        self._binned_at_s = trio.current_time()

    async def _take_deleted(
        self, number: int, per_page: int, gone: set[DocumentId], priority: Priority
    ) -> Page[Document]:
        page, absorbed = await self._intake.deleted_page(number, per_page, priority=priority)
        gone |= absorbed.changed
        return page

    def _bin_goes_on(self, page: Page[Document], gone: set[DocumentId], total: int | None) -> bool:
        if not plan.ends_unchanged(page.items, gone):
            return True
        if total is not None and page.total is not None and page.total > total:
            return False  # a bin larger than the project: listing that costs less
        return self._ledger.bin_grew(page.total) or (total is not None and self._ledger.too_many(total))

    def _must_see_bin(self, total: int | None) -> bool:
        if total is None or not self._ledger.bin_is_apart:
            return True
        if self._binned_at_s is None or trio.current_time() - self._binned_at_s > BIN_LOOK_S:
            return True
        return not self._ledger.explains(total)
