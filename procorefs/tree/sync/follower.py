"""Decides when to list the project and when to poll for changes, and lets requests wait for it.

    a folder is opened ─▶ children_known ─▶ listed? ─ no ─▶ list that folder, or wait for the full listing
                       └▶ poll_if_due ────▶ a poll is due? ─▶ the newest changes, and maybe the recycle bin

All work runs in this part's own nursery and is shared: a request that gives up waiting does not end it for others.
"""

import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

import trio

from procorefs.limiter import Limiter, Priority
from procorefs.procore.errors import ProcoreError
from procorefs.procore.wire.models import DocumentId
from procorefs.storage import clocks
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import ROOT, Inode, Invalidation
from procorefs.tree.sync import poll_plan
from procorefs.tree.sync.completeness import Completeness
from procorefs.tree.sync.fetcher import Fetcher, ProjectLists
from procorefs.tree.sync.full_listing import FullListing, Listed
from procorefs.tree.sync.poller import Poller
from procorefs.tree.sync.shared_task import SharedTask
from procorefs.tree.sync.subtrees import Subtrees
from procorefs.tree.sync_state import LastRelisting
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

BACKGROUND_DELAY_S = 1.0
"""After the root the full listing waits this long, unless a folder is opened: the first `ls` comes first.

Less than a look-up waits for Procore: where a folder's own call gets no answer, the pages come in time.
"""

POLL_WAIT_S = 2.0
REGULAR_POLL_S = 180.0

RETRY_S = 5.0
"""A listing that failed is not tried again sooner; requests get the same error meanwhile."""

LONGEST_RETRY_S = 300.0

DIRECT_FOLDERS = 1
DIRECT_REFILL_S = 5.0
"""Folders fetched ahead of the full listing: enough for a person; a program that walks the tree waits for the pages."""

SOON_FOLDERS = 20
SOON_REFILL_S = 1.0
"""The same for lookups, which wait two seconds at most: a path has some folders that were never opened."""


@dataclass(frozen=True, slots=True)
class PollState:
    """How far the tree follows Procore, for `status`."""

    documents: int
    state: str
    """`listing` until the whole project was listed once, then `complete`; `behind` when the last poll failed."""
    age_s: float | None
    """Since the last poll or full listing of this run; None: there was none."""


class Follower:
    """Keeps the tree up to date; the one place that decides when a call is spent on it."""

    def __init__(
        self,
        store: TreeStore,
        applier: DocumentApplier,
        lists: ProjectLists,
        limiter: Limiter,
        invalidate: Callable[[Sequence[Invalidation]], None],
        *,
        freshness_s: float,
        changed: Callable[[Collection[DocumentId]], None],
        unix_time_s: Callable[[], float] = clocks.unix_s,
    ) -> None:
        """`changed` is called with the documents that an answer shows to be changed."""
        self._store = store
        self._limiter = limiter
        self.freshness_s = freshness_s
        """`open` polls first if the last poll is older; `set_freshness` changes it."""
        self._fetcher = Fetcher(store, lists, applier, invalidate, changed)
        completeness = Completeness(store)
        self._poller = Poller(store, self._fetcher, completeness, applier.own)
        self._listing = FullListing(
            store, applier, self._fetcher, self._poller, completeness, invalidate, self._listing_priority
        )
        self._shared = SharedTask()
        self._nursery: trio.Nursery | None = None

        self.listed = trio.Event()
        if store.sync.read().is_complete:
            self.listed.set()
        self._waiting = 0
        """Requests that wait for the full listing; while there are any, it is not background work."""
        self._failure: tuple[float, ProcoreError] | None = None
        """When the last listing failed, and why."""
        self._polled_at_s: float | None = None
        self._poll_began_s = self._polled_since_s = float("-inf")
        self._tried_at_s: float | None = None
        self._behind = False
        self._used = False
        self._direct = poll_plan.DirectFetches(DIRECT_FOLDERS, DIRECT_REFILL_S)
        self._direct_soon = poll_plan.DirectFetches(SOON_FOLDERS, SOON_REFILL_S)
        self._subtrees = Subtrees(store, self._fetcher)
        self._relist = Relisting(store, unix_time_s=unix_time_s)

    # For requests of the kernel

    async def children_known(self, folder: Inode, *, soon: bool = False) -> None:
        """Wait until all children of the folder are in the tree. Raises ProcoreError when they cannot be listed.

        `soon`: the caller cannot wait for the pages, so more folders are fetched directly.
        """
        self._used = True
        while (node := self._store.by_inode(folder)) is not None and not node.listed:
            if node.document_id is None or not node.in_tree:
                return
            above = None if soon else self._subtree_to_read(folder)
            if above is not None:
                await self._read_subtree(above)
            elif self._may_fetch_directly(soon=soon):
                await self._fetch_folder(folder, node.document_id)
            else:
                await self._wait_for_listing()

    def is_listed(self, folder: Inode) -> bool:
        """Whether all children of the folder are in the tree; True for a folder that Procore does not have."""
        node = self._store.by_inode(folder)
        return node is None or node.listed or node.document_id is None or not node.in_tree

    def _subtree_to_read(self, folder: Inode) -> Inode | None:
        """A program that walks through unlisted folders has them listed at once; a person opens one now and then."""
        above = (
            self._subtrees.above(folder) if self.complete and not self._shared.running("listing") else None
        )
        return None if above is None or self._direct.take(trio.current_time()) else above

    def _may_fetch_directly(self, *, soon: bool) -> bool:
        """After the full listing only a restored folder is not listed; no pages will bring its contents."""
        if self.complete and not self._shared.running("listing"):
            return True
        now_s = trio.current_time()
        return self._direct.take(now_s) or (soon and self._direct_soon.take(now_s))

    async def poll_if_due(self) -> None:
        """Wait for a poll if one is due: at most two seconds, and not at all when it would wait for the budget."""
        if not self.poll_is_due():
            return
        old_s = trio.current_time() - self.freshness_s
        with trio.move_on_after(POLL_WAIT_S) as wait:
            await self._join("poll", lambda: self._poll(Priority.INTERACTIVE))
            if self._poll_began_s < old_s:  # it was under way, and its request was too early
                await self._join("poll", lambda: self._poll(Priority.INTERACTIVE))
        if wait.cancelled_caught:
            # The poll continues; the next open does not wait for the same slow server again.
            self._tried_at_s = trio.current_time()

    async def polled_since(self, since_s: float) -> bool:
        """Wait for a poll that began after that time (trio's clock); False: none succeeded."""
        for _ in range(2):  # one under way may have begun too early
            if self.complete and self._polled_since_s < since_s:
                await self._join("poll", lambda: self._poll(Priority.WRITING))
        return self._polled_since_s >= since_s

    def poll_is_due(self) -> bool:
        """Whether `poll_if_due` would wait now. Counts as use of the mount."""
        self._used = True
        return (
            self.complete
            and poll_plan.poll_is_due(trio.current_time(), self._tried_at_s, self.freshness_s)
            and not self._limiter.would_wait(Priority.INTERACTIVE)
        )

    def set_freshness(self, seconds: float) -> None:
        """Poll from now on when the last poll is older than this."""
        self.freshness_s = seconds

    @property
    def complete(self) -> bool:
        """Whether the whole project was listed once, in this run or an earlier one."""
        return self.listed.is_set()

    def poll_state(self) -> PollState:
        age_s = None if self._polled_at_s is None else trio.current_time() - self._polled_at_s
        state = "listing" if not self.complete else "behind" if self._behind else "complete"
        return PollState(self._store.counts.live() - self._store.counts.hidden(), state, age_s)

    async def caught_up(self) -> bool:
        """Poll after a power cut, and list the project if its total is not explained: the tree may have documents that
        we deleted. False if the poll fails."""
        if not await self.polled_since(trio.current_time()):
            return False
        if self._relist.due:
            await self._list_until_complete()
        return True

    # For the daemon

    async def list_root(self) -> None:
        """List the root directly, before everything else. Raises ProcoreError."""
        await self._fetcher.folder(ROOT, None, listing_pass=self._pass(), priority=Priority.INTERACTIVE)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._list_in_background)
            nursery.start_soon(self._poll_regularly)
            task_status.started()

    async def _list_in_background(self) -> None:
        if not self.complete:
            await trio.sleep(BACKGROUND_DELAY_S)
            await self._list_until_complete()
        while True:
            await self._relist.wanted()
            await self._list_until_complete()

    async def _list_until_complete(self) -> None:
        pause_s = RETRY_S
        while True:
            try:
                await self._join("listing", self._list_all)
                return
            except (ProcoreError, sqlite3.Error) as error:
                log.warning("Listing the project failed and is tried again in %.0f s: %s", pause_s, error)
            except Exception:
                log.exception(
                    "Listing the project failed with an unexpected error; next try in %.0f s", pause_s
                )
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_RETRY_S)

    async def _poll_regularly(self) -> None:
        while True:
            await trio.sleep(REGULAR_POLL_S)
            if self._used and self.complete:
                self._used = False
                await self._join("poll", lambda: self._poll(Priority.REFRESH))
                if self._relist.may_hide_deletions():
                    self._relist.request()

    # Work, at most one of a kind at a time

    async def _join(self, key: Hashable, work: Callable[[], Awaitable[None]]) -> None:
        if self._nursery is None:
            raise RuntimeError("the follower does not run")
        await self._shared.join(self._nursery, key, work)

    async def _fetch_folder(self, folder: Inode, document_id: DocumentId) -> None:
        async def work() -> None:
            await self._fetcher.folder(
                folder, document_id, listing_pass=self._pass(), priority=Priority.INTERACTIVE
            )

        await self._join(FolderWork(folder), work)

    async def _read_subtree(self, folder: Inode) -> None:
        await self._join(SubtreeWork(folder), lambda: self._subtrees.read(folder, listing_pass=self._pass()))

    async def _wait_for_listing(self) -> None:
        if self._failure is not None and trio.current_time() - self._failure[0] < RETRY_S:
            raise self._failure[1]
        self._waiting += 1
        try:
            await self._join("listing", self._list_all)
        finally:
            self._waiting -= 1

    def _listing_priority(self) -> Priority:
        return Priority.INTERACTIVE if self._waiting else Priority.REFRESH

    async def _list_all(self) -> None:
        if self.complete and not self._relist.due:
            return  # another listing ended meanwhile
        began_s = trio.current_time()
        try:
            listed = await self._listing.run()
        except ProcoreError as error:
            self._failure = (trio.current_time(), error)
            raise
        if self.complete:
            self._relist.done(listed)
        self.listed.set()
        self._behind = False
        self._failure = None
        self._polled_at_s = self._tried_at_s = trio.current_time()
        self._shared.excuse(lambda key: isinstance(key, FolderWork))  # they are listed now
        log.info("Listed %d documents in %.1f s.", self._store.counts.live(), trio.current_time() - began_s)

    async def _poll(self, priority: Priority) -> None:
        """One poll. A failure is logged and shows in the poll state; requests are served from what is known."""
        self._poll_began_s = trio.current_time()
        try:
            reconciled = await self._poller.poll(priority)
        except (ProcoreError, sqlite3.Error) as error:
            if not self._behind:
                log.warning("Procore cannot be polled, the last known state is shown: %s", error)
            self._behind = True
            return
        except Exception:
            log.exception("Polling for changes failed with an unexpected error")
            self._behind = True
            return
        finally:
            self._tried_at_s = trio.current_time()
        self._polled_at_s = trio.current_time()
        self._polled_since_s = self._poll_began_s
        self._behind = False
        if not reconciled and not self._relist.due:
            log.info("The project's total is not explained by its latest changes; it will be listed again.")
            self._relist.request()

    def _pass(self) -> int:
        return self._store.sync.read().listing_pass


@dataclass(frozen=True, slots=True)
class FolderWork:
    """The key of a folder that is fetched directly."""

    folder: Inode


@dataclass(frozen=True, slots=True)
class SubtreeWork:
    """The key of a folder whose subtree is read."""

    folder: Inode


class Relisting:
    """Whether the project must be listed again, and when: at once the first time, later each time it does not help.

    The last one is part of the tree's SyncState, so that a restart changes nothing.
    """

    def __init__(self, store: TreeStore, *, unix_time_s: Callable[[], float] = clocks.unix_s) -> None:
        self._store = store
        self._unix_time_s = unix_time_s
        self._requested = trio.Event()
        self._began_s = trio.current_time()

    @property
    def due(self) -> bool:
        return self._requested.is_set()

    def request(self) -> None:
        self._requested.set()

    def may_hide_deletions(self) -> bool:
        """Whether the last full listing is too old for an account that is not told of deletions.

        The first listing took about a call for each hundred documents, and counts as ended when this run began.
        """
        state = self._store.sync.read()
        if not state.is_bin_hidden:
            return False
        if (last := state.relisting) is None:
            calls = math.ceil(self._store.counts.live() / poll_plan.POLL_PAGE)
            return trio.current_time() - self._began_s > poll_plan.hidden_bin_relist_s(calls)
        return not 0 <= self._unix_time_s() - last.ended_at_s <= poll_plan.hidden_bin_relist_s(last.calls)

    async def wanted(self) -> None:
        """Wait until a listing is requested and due."""
        while True:
            await self._requested.wait()
            wait_s = self._wait_s()
            if wait_s <= 0:
                return
            await trio.sleep(wait_s)

    def _wait_s(self) -> float:
        state = self._store.sync.read()
        if (last := state.relisting) is None:
            return 0.0
        pause_s = poll_plan.relist_pause_s(last.calls, last.futile)
        if state.is_bin_hidden:
            pause_s = min(pause_s, poll_plan.hidden_bin_relist_s(last.calls))
        return min(pause_s, last.ended_at_s + pause_s - self._unix_time_s())

    def done(self, listed: Listed) -> None:
        with self._store.transaction(), self._store.sync.change() as state:
            before = state.relisting.futile if state.relisting is not None else 0
            futile = 0 if listed.found else before + 1
            state.relisting = LastRelisting(int(self._unix_time_s()), listed.calls, futile)
        self._requested = trio.Event()
