"""Lists the whole project: every page, a few at a time, and then the folders of documents that no page had.

    pages, newest change first ─▶ (changes meanwhile) ─▶ not seen? ─▶ list its folder ─▶ compare later totals

A document that no page had need not be gone: pages shift while the project changes. So the folders of unseen documents
are listed, at most as many as there were pages. What remains is removed when a second listing in a row, during which
nothing changed either, does not have it. A listing may take hours and be interrupted at any point: the tree's SyncState
keeps how far the pages have come, and the next run continues there.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import Forbidden, NotFound
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import Inode, Invalidation, ListingChanged
from procorefs.tree.sync.completeness import Completeness, inode_ranges
from procorefs.tree.sync.fetcher import Fetcher
from procorefs.tree.sync.page_position import PageReading
from procorefs.tree.sync.poll_plan import later_than
from procorefs.tree.sync.poller import Poller
from procorefs.tree.sync_state import ListingProgress
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 3
MOST_READINGS = 20
"""How often a reading may be continued because the server changed the size of its pages."""

FOLDERS_AT_ONCE = 2_000

MOST_UNCOUNTED = 2
"""Documents that a total may leave out although they were seen: the root and the recycle bin."""

MOST_FOLDERS = 10
"""This many folders may be listed after a listing that took fewer pages."""


@dataclass(slots=True)
class Listed:
    """What a full listing cost and found."""

    calls: int = 0
    found: int = 0
    """Documents that were new, changed or removed, and that no poll had shown."""
    refused: int = 0
    disturbed: bool = False
    """The project changed while it was listed."""
    total: int | None = None


class FullListing:
    """Lists the whole project; `run` raises ProcoreError, and when it is run again it continues where it was."""

    def __init__(
        self,
        store: TreeStore,
        applier: DocumentApplier,
        fetcher: Fetcher,
        poller: Poller,
        completeness: Completeness,
        invalidate: Callable[[Sequence[Invalidation]], None],
        priority: Callable[[], Priority],
    ) -> None:
        self._store = store
        self._applier = applier
        self._own = applier.own
        self._fetcher = fetcher
        self._poller = poller
        self._completeness = completeness
        self._invalidate = invalidate
        self._priority = priority

    async def run(self) -> Listed:
        state = self._store.sync.read()
        again, resumed = state.is_complete, state.listing is not None
        if not resumed:
            with self._store.transaction(), self._store.sync.change() as state:
                state.listing_pass += 1
        own_before = self._own.mark()
        listed = Listed(disturbed=resumed or self._own.is_under_way)
        await self._read_all(listed)
        await self._note_capped_total(listed)
        async with self._poller.alone:
            listed.disturbed |= self._own.mark() != own_before
            if again or listed.disturbed or listed.total is None or await self._gap(listed):
                own_before = await self._catch_up(listed, again=again)
            not_listed: list[Inode] = []
            if await self._remove_missed_twice(listed):
                not_listed = await self._list_folders(listed)
                own_before = await self._catch_up(listed, again=again)
            gap = await self._gap(listed)
            if not listed.disturbed or (again and not listed.found):
                gap = 0  # no page has what the total has beyond them: it is Procore's way of counting
            if self._own.mark() != own_before or self._own.is_under_way:
                listed.total = None  # it may or may not have what we changed meanwhile
            await self._finish(listed, not_listed, is_balanced=gap == 0, again=again)
        return listed

    async def _note_capped_total(self, listed: Listed) -> None:
        """A total may end at some number (procore-api.md, Pagination): the documents that came are more then."""
        if listed.disturbed or listed.total is None:
            return
        is_capped = await self._gap(listed) < -MOST_UNCOUNTED
        with self._store.transaction(), self._store.sync.change() as state:
            state.is_total_capped = is_capped

    @property
    def _pass(self) -> int:
        return self._store.sync.read().listing_pass

    # Reading

    async def _read_all(self, listed: Listed) -> None:
        for _ in range(MOST_READINGS):
            progress = self._store.sync.read().listing
            reached_s = progress.reached_s if progress is not None else None
            reading = PageReading()
            try:
                # One second more: that second's documents may be on both sides of the place that was reached.
                await self._read(reading, listed, None if reached_s is None else reached_s + 1)
            finally:
                listed.calls += reading.calls
                listed.refused += reading.refused
                listed.disturbed |= reading.disturbed
            if not reading.broken:
                break
        listed.total = reading.total if reached_s is None else None

    async def _read(self, reading: PageReading, listed: Listed, updated_to_s: int | None) -> None:
        failures: list[Exception] = []

        async def read_pages(nursery: trio.Nursery) -> None:
            """The first failure ends all readers and is raised without a group."""
            try:
                while (number := reading.take()) is not None:
                    await self._fetch_page(number, reading, listed, updated_to_s)
            except Exception as error:  # whatever it is, it is raised below
                failures.append(error)
                nursery.cancel_scope.cancel()

        if (first := reading.take()) is not None:
            await self._fetch_page(first, reading, listed, updated_to_s)
        async with trio.open_nursery() as nursery:
            for _ in range(PAGES_AT_ONCE):
                nursery.start_soon(read_pages, nursery)
        if failures:
            raise failures[0]

    async def _fetch_page(
        self, number: int, reading: PageReading, listed: Listed, updated_to_s: int | None
    ) -> None:
        began_s = trio.current_time()
        page, applied = await self._fetcher.page(
            number,
            reading.per_page,
            listing_pass=self._pass,
            updated_to_s=updated_to_s,
            priority=self._priority(),
        )
        reading.answered(number, page)
        listed.found += len(applied.changed)
        with self._store.transaction(), self._store.sync.change() as state:
            if state.listing is None:
                newest_s = max((document.updated_at_s for document in page.items), default=0)
                state.listing = ListingProgress(newest_s, None)
                if not state.is_complete:
                    state.settled_s = self._poller.clock.settled_s(page, began_s)
                    state.unsettled = later_than(page.items, state.settled_s)
            if reading.reached_s is not None:
                state.listing = ListingProgress(state.listing.newest_s, reading.reached_s)

    # Comparing totals: no other task reads changes meanwhile

    async def _catch_up(self, listed: Listed, *, again: bool) -> int:
        """Apply what changed while the pages were read: those documents moved to the first pages.

        Returns the mark of our own changes from before its request.
        """
        own_before = self._own.mark()
        state = self._store.sync.read()
        known_s = state.listing.newest_s if state.listing is not None and not again else state.newest_s
        changes = await self._poller.changes(known_s, self._priority(), whole=False)
        await self._poller.deletions(changes.total, self._priority())
        listed.total = changes.total
        listed.disturbed |= bool(changes.changed) or self._own.is_under_way
        with self._store.transaction(), self._store.sync.change() as state:
            state.newest_s = changes.newest_s
        return own_before

    async def _gap(self, listed: Listed) -> int:
        """How many documents the total has that no answer had."""
        if listed.total is None:
            return 0
        return await self._completeness.gap(listed.total, self._pass, listed.refused)

    # Documents that no answer had

    async def _remove_missed_twice(self, listed: Listed) -> bool:
        """Remove what two undisturbed listings in a row did not have; True: other documents are unseen."""
        is_still = not listed.disturbed and not listed.refused
        with self._store.transaction(), self._store.sync.change() as state:
            is_still &= not state.is_total_capped  # it does not show that pages have shifted
            last, listing_pass = state.undisturbed_pass, state.listing_pass
            state.undisturbed_pass = listing_pass if is_still else 0
        is_any_left = False
        async for first, end in inode_ranges(self._store):
            if is_still and last == listing_pass - 1:
                removed = self._applier.remove(self._store.counts.unseen(last, first, end))
                self._invalidate(removed.invalidations)
                listed.found += len(removed.changed)
            is_any_left |= bool(self._store.counts.folders_of_unseen(listing_pass, first, end))
        return is_any_left

    async def _list_folders(self, listed: Listed) -> list[Inode]:
        """List the folders of unseen documents; returns those that are too many to be listed now."""
        listed_folders: set[Inode] = set()
        not_listed: set[Inode] = set()
        most = max(MOST_FOLDERS, listed.calls)
        async for first, end in inode_ranges(self._store):
            for folder in self._store.counts.folders_of_unseen(self._pass, first, end):
                if folder in listed_folders or not self._store.reachable(folder):
                    continue
                if len(listed_folders) < most:
                    listed_folders.add(folder)
                    await self._list_folder(folder, listed)
                else:
                    not_listed.add(folder)
        return sorted(not_listed)

    async def _list_folder(self, folder: Inode, listed: Listed) -> None:
        node = self._store.by_inode(folder)
        assert node is not None
        try:
            applied = await self._fetcher.folder(
                folder, node.document_id, listing_pass=self._pass, priority=self._priority()
            )
        except (NotFound, Forbidden) as error:
            log.info("The folder %s could not be listed: %s", self._store.path(folder), error)
            return
        listed.found += len(applied.changed)

    async def _finish(
        self, listed: Listed, not_listed: list[Inode], *, is_balanced: bool, again: bool
    ) -> None:
        """`not_listed`: folders that may have lost a document; opening one of them lists it."""
        marked = FOLDERS_AT_ONCE
        while marked == FOLDERS_AT_ONCE:
            with self._store.transaction():
                marked = self._store.set_all_listed(FOLDERS_AT_ONCE)
            await trio.lowlevel.checkpoint()
        with self._store.transaction():
            for folder in not_listed:
                self._store.set_listed(folder, False)
        self._invalidate([ListingChanged(folder) for folder in not_listed])
        with self._store.transaction(), self._store.sync.change() as state:
            state.is_complete = True
            if state.listing is not None:
                state.newest_s = max(state.newest_s, state.listing.newest_s)
            state.listing = None
            state.refused = listed.refused
            self._completeness.begin(
                state,
                listed.total,
                is_balanced=is_balanced and not not_listed,
                keeps_countings=again and listed.found > 0,
            )
