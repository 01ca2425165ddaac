"""Polls Procore for changes: the newest ones since the last poll, and the recycle bin when the totals ask for it."""

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
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

BIN_POLL_S = 600.0
"""The recycle bin is polled this often even when the project's total needs no deletion to be explained."""


@dataclass(slots=True)
class ChangeFeed:
    """What one reading of the newest changes brought."""

    newest_s: int
    settled_s: int
    unsettled: int = 0
    """Documents met that have a later time than the settled second."""
    total: int | None = None
    changed: set[DocumentId] = field(default_factory=set)
    unchanged: int = 0
    """Documents in a row, at the end of what was read, that had nothing new."""
    overtaken_s: int | None = None
    """The earliest time of a document for which the answer did not speak: the next poll reads it again."""


class Poller:
    """Reads what changed. Raises ProcoreError; the next poll then covers the same time again."""

    def __init__(
        self, store: TreeStore, fetcher: Fetcher, completeness: Completeness, own: OwnChanges
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._completeness = completeness
        self._own = own
        self._bin_polled_at_s: float | None = None
        self._is_bin_forbidden = False
        self.clock = poll_plan.ServerClock()
        self.alone = trio.Lock()
        """Held by the one task that reads changes and compares totals."""

    async def poll(self, priority: Priority) -> bool:
        """Apply all changes. False: the project's total says that there are changes which polls do not show.

        A poll with a waiting request may leave out changes among many documents of one second; the next regular poll
        applies them.
        """
        async with self.alone:
            own_before = self._own.mark()
            before = self._store.sync.read()
            changes = await self.changes(
                before.newest_s, priority, whole=priority is not Priority.INTERACTIVE
            )
            total = None if before.is_total_capped else changes.total
            if self._needs_bin(total):
                await self.deletions(total, priority)
            with self._store.transaction(), self._store.sync.change() as state:
                state.newest_s = changes.newest_s
                state.settled_s, state.unsettled = changes.settled_s, changes.unsettled
            if total is None or self._has_changed(own_before):
                return True  # the total may or may not have what we changed meanwhile: it proves nothing
            if not self._completeness.has_total:
                return await self._begin_totals(total, own_before)
            return self._completeness.check(total)

    def _has_changed(self, own_before: int) -> bool:
        return self._own.mark() != own_before or self._own.is_under_way

    async def _begin_totals(self, total: int, own_before: int) -> bool:
        """Calls of ours disturbed the end of the full listing: compare its documents with this total."""
        before = self._store.sync.read()
        gap = await self._completeness.gap(total, before.listing_pass, before.refused)
        if self._has_changed(own_before):
            return True
        with self._store.transaction(), self._store.sync.change() as state:
            self._completeness.begin(state, total, is_balanced=gap == 0)
        return gap == 0

    async def changes(self, known_s: int, priority: Priority, *, whole: bool) -> ChangeFeed:
        """Apply what changed since `known_s`; when that is more than one small page, in large pages."""
        state, began_s = self._store.sync.read(), trio.current_time()
        since_s = min(known_s, state.settled_s) + 1
        changes = ChangeFeed(known_s, state.settled_s)
        per_page = poll_plan.page_size(state.unsettled)
        page = await self._fetch(1, per_page, changes, since_s, priority)
        settled_s = max(state.settled_s, self.clock.settled_s(page, began_s))
        read = list(page.items)
        number, was_pulled_up = 1, False
        if per_page == poll_plan.LISTING_PAGE:
            number, per_page = page.next_page or 1, page.per_page or per_page
        else:
            per_page = poll_plan.LISTING_PAGE
        while was_pulled_up or self._reads_on(page, changes, known_s, state.settled_s, whole=whole):
            before = changes.total
            if number == 1:
                changes.unchanged, read = 0, []
            page = await self._fetch(number, per_page, changes, since_s, priority)
            read += page.items
            per_page = page.per_page or per_page
            was_pulled_up = (
                number > 1 and before is not None and page.total is not None and page.total < before
            )
            number = number - 1 if was_pulled_up else page.next_page or 1
        if page.next_page is None or poll_plan.reaches(page.items, since_s - 1):
            changes.settled_s = settled_s
        else:
            self._unlist_folders(changes.changed)
        if changes.overtaken_s is not None:
            changes.newest_s = min(changes.newest_s, changes.overtaken_s - 1)
            changes.settled_s = min(changes.settled_s, changes.overtaken_s - 1)
        changes.unsettled = poll_plan.later_than(read, changes.settled_s)
        return changes

    def _unlist_folders(self, changed: set[DocumentId]) -> None:
        """Not all changes were read: a new folder may hold more than what was met, so its next opening lists it."""
        known = [self._store.known(document_id) for document_id in changed]
        with self._store.transaction():
            for one in known:
                if one is not None and one.node.is_folder:
                    self._store.set_listed(one.node.inode, False)

    def _reads_on(
        self, page: Page[Document], changes: ChangeFeed, known_s: int, settled_s: int, *, whole: bool
    ) -> bool:
        return page.next_page is not None and poll_plan.reads_on(
            page.items, changes.unchanged, known_s, settled_s, whole=whole
        )

    async def _fetch(
        self, number: int, per_page: int, changes: ChangeFeed, since_s: int, priority: Priority
    ) -> Page[Document]:
        page, applied = await self._fetcher.page(
            number,
            per_page,
            listing_pass=self._store.sync.read().listing_pass,
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
        """Apply deletions: the newest page of the recycle bin, and all pages when the totals still don't fit."""
        if self._store.sync.read().is_bin_hidden:
            return
        gone: set[DocumentId] = set()
        try:
            page = await self._fetch_deleted(1, poll_plan.POLL_PAGE, gone, priority)
        except Forbidden as error:
            if not self._is_bin_forbidden:
                log.info("The recycle bin cannot be read, deletions are found in lists only: %s", error)
            self._is_bin_forbidden, self._bin_polled_at_s = True, trio.current_time()
            return
        self._is_bin_forbidden = False
        number, per_page = 1, poll_plan.LISTING_PAGE
        while page.next_page is not None and self._reads_on_in_bin(page, gone, total):
            page = await self._fetch_deleted(number, per_page, gone, priority)
            number, per_page = page.next_page or 1, page.per_page or per_page
        with self._store.transaction():
            self._completeness.bin_was_read(page.total)
        self._bin_polled_at_s = trio.current_time()

    async def _fetch_deleted(
        self, number: int, per_page: int, gone: set[DocumentId], priority: Priority
    ) -> Page[Document]:
        page, applied = await self._fetcher.deleted_page(number, per_page, priority=priority)
        gone |= applied.changed
        return page

    def _reads_on_in_bin(self, page: Page[Document], gone: set[DocumentId], total: int | None) -> bool:
        if not poll_plan.ends_unchanged(page.items, gone):
            return True
        if total is not None and page.total is not None and page.total > total:
            return False  # a bin larger than the project: a full listing costs less
        return self._completeness.bin_grew(page.total) or (
            total is not None and self._completeness.has_too_many(total)
        )

    def _needs_bin(self, total: int | None) -> bool:
        if self._bin_polled_at_s is None or trio.current_time() - self._bin_polled_at_s > BIN_POLL_S:
            return True
        if self._is_bin_forbidden:
            return False
        if total is None or not self._completeness.tells_deletions:
            return True
        return not self._completeness.explains(total)
