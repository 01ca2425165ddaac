"""A look for changes: the newest ones since the last look, and the recycle bin when the totals ask for it."""

import logging
from dataclasses import dataclass, field

import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import Forbidden
from procorefs.procore.wire.models import Document, DocumentId, Page
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.sync import poll_plan
from procorefs.tree.sync.completeness import Completeness
from procorefs.tree.sync.fetcher import Fetcher
from procorefs.tree.sync.settled_times import SettledTimes, tail_of
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

BIN_POLL_S = 600.0
"""The bin is looked at this often even when the project's total explains itself without it."""


@dataclass(slots=True)
class ChangeFeed:
    """What one reading of the newest changes brought."""

    newest_s: int
    final_s: int
    tail: int = 0
    """Documents met that bear a later second than the final one."""
    total: int | None = None
    changed: set[DocumentId] = field(default_factory=set)
    unchanged: int = 0
    """Documents in a row, at the end of what was read, that had nothing new."""
    overtaken_s: int | None = None
    """The earliest second of a document for which the answer did not speak: the next look reads it again."""


class Poller:
    """Reads what changed; raises ProcoreError, and then the next look covers the same time again."""

    def __init__(
        self, store: TreeStore, fetcher: Fetcher, completeness: Completeness, own: OwnChanges
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._completeness = completeness
        self._own = own
        self._binned_at_s: float | None = None
        self._is_bin_closed = False  # this account may not read it
        self.settled_times = SettledTimes(store)
        self.alone = trio.Lock()
        """Held by whoever reads changes and balances the books with what they said."""

    async def poll(self, priority: Priority) -> bool:
        """Take up all changes. False: the project's total says that there are some which the looks can't see.

        One that somebody waits for may leave some out that hide among many of their second; the next regular one
        takes them up.
        """
        async with self.alone:
            own_before = self._own.mark()
            changes = await self.changes(
                int(self._store.fact("newest") or 0), priority, whole=priority is not Priority.INTERACTIVE
            )
            if self._must_see_bin(changes.total):
                await self.deletions(changes.total, priority)
            with self._store.transaction():
                self._store.remember("newest", changes.newest_s)
                self.settled_times.remember(changes.final_s, changes.tail)
            if changes.total is None or self._has_changed(own_before):
                return True  # the total may or may not have what we changed meanwhile: it proves nothing
            if not self._completeness.is_open:
                return await self._open_books(changes.total, own_before)
            return self._completeness.settle(changes.total)

    def _has_changed(self, own_before: int) -> bool:
        return self._own.mark() != own_before or self._own.is_under_way

    async def _open_books(self, total: int, own_before: int) -> bool:
        """The full listing ended while our own changes were under way: compare its documents with this total."""
        gap = await self._completeness.gap(
            total, int(self._store.fact("pass") or 0), int(self._store.fact("refused") or 0)
        )
        if self._has_changed(own_before):
            return True
        with self._store.transaction():
            self._completeness.open(total, balanced=gap == 0, keep_ways=False)
        return gap == 0

    async def changes(self, known_s: int, priority: Priority, *, whole: bool) -> ChangeFeed:
        """Take up what changed since `known_s`; when that is more than one small page, in large pages."""
        known_final_s, began_s = self.settled_times.second, trio.current_time()
        since_s = min(known_s, known_final_s) + 1
        changes = ChangeFeed(known_s, known_final_s)
        per_page = self.settled_times.page_size
        page = await self._take(1, per_page, changes, since_s, priority)
        final_s = max(known_final_s, self.settled_times.second_of(page, began_s))
        read = list(page.items)
        number, pulled_up = 1, False
        if per_page == poll_plan.LISTING_PAGE:
            number, per_page = page.next_page or 1, page.per_page or per_page
        else:
            per_page = poll_plan.LISTING_PAGE
        while pulled_up or self._reads_on(page, changes, known_s, known_final_s, whole=whole):
            before = changes.total
            if number == 1:
                changes.unchanged, read = 0, []
            page = await self._take(number, per_page, changes, since_s, priority)
            read += page.items
            per_page = page.per_page or per_page
            pulled_up = number > 1 and before is not None and page.total is not None and page.total < before
            number = number - 1 if pulled_up else page.next_page or 1
        if page.next_page is None or poll_plan.reaches(page.items, since_s - 1):
            changes.final_s = final_s
        else:
            self._doubt_folders(changes.changed)
        if changes.overtaken_s is not None:
            changes.newest_s = min(changes.newest_s, changes.overtaken_s - 1)
            changes.final_s = min(changes.final_s, changes.overtaken_s - 1)
        changes.tail = tail_of(read, changes.final_s)
        return changes

    def _doubt_folders(self, changed: set[DocumentId]) -> None:
        """Not all changes were read: a new folder may hold more than what was met."""
        known = [self._store.known(document_id) for document_id in changed]
        with self._store.transaction():
            for one in known:
                if one is not None and one.node.is_folder:
                    self._store.set_listed(one.node.inode, False)

    def _reads_on(
        self, page: Page[Document], changes: ChangeFeed, known_s: int, final_s: int, *, whole: bool
    ) -> bool:
        return page.next_page is not None and poll_plan.reads_on(
            page.items, changes.unchanged, known_s, final_s, whole=whole
        )

    async def _take(
        self, number: int, per_page: int, changes: ChangeFeed, since_s: int, priority: Priority
    ) -> Page[Document]:
        page, applied = await self._fetcher.page(
            number,
            per_page,
            listing_pass=int(self._store.fact("pass") or 0),
            changes_since_s=since_s,
            priority=priority,
        )
        changes.changed |= applied.changed
        for document in applied.overtaken:
            changes.overtaken_s = min(changes.overtaken_s or document.updated_at_s, document.updated_at_s)
        changes.newest_s = max([changes.newest_s, *(d.updated_at_s for d in page.items)])
        changes.total = page.total
        for document in page.items:
            changes.unchanged = 0 if document.id in changes.changed else changes.unchanged + 1
        return page

    async def deletions(self, total: int | None, priority: Priority) -> None:
        """Take up what was deleted: the newest page of the bin, and all of it when that does not explain the totals."""
        gone: set[DocumentId] = set()
        try:
            page = await self._take_deleted(1, poll_plan.POLL_PAGE, gone, priority)
        except Forbidden as error:
            if not self._is_bin_closed:
                log.info("The recycle bin cannot be read, deletions are found in lists only: %s", error)
            self._is_bin_closed, self._binned_at_s = True, trio.current_time()
            return
        self._is_bin_closed = False
        number, per_page = 1, poll_plan.LISTING_PAGE
        while page.next_page is not None and self._bin_goes_on(page, gone, total):
            page = await self._take_deleted(number, per_page, gone, priority)
            number, per_page = page.next_page or 1, page.per_page or per_page
        with self._store.transaction():
            self._completeness.bin_was_read(page.total)
        self._binned_at_s = trio.current_time()

    async def _take_deleted(
        self, number: int, per_page: int, gone: set[DocumentId], priority: Priority
    ) -> Page[Document]:
        page, applied = await self._fetcher.deleted_page(number, per_page, priority=priority)
        gone |= applied.changed
        return page

    def _bin_goes_on(self, page: Page[Document], gone: set[DocumentId], total: int | None) -> bool:
        if not poll_plan.ends_unchanged(page.items, gone):
            return True
        if total is not None and page.total is not None and page.total > total:
            return False  # a bin larger than the project: listing that costs less
        return self._completeness.bin_grew(page.total) or (
            total is not None and self._completeness.too_many(total)
        )

    def _must_see_bin(self, total: int | None) -> bool:
        if self._binned_at_s is None or trio.current_time() - self._binned_at_s > BIN_POLL_S:
            return True
        if self._is_bin_closed:
            return False
        if total is None or not self._completeness.bin_is_apart:
            return True
        return not self._completeness.explains(total)
