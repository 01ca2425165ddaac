"""Fetches pages and folders from Procore, applies them to the tree, and has the kernel invalidate what changed."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import trio

from procorefs.limiter import Priority
from procorefs.procore.wire.models import Document, DocumentId, FolderListing, Page
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.document_writer import Applied
from procorefs.tree.nodes import Inode, Invalidation
from procorefs.tree.request_order import Request
from procorefs.tree.tree_store import TreeStore

SLICE = 50
"""Documents applied between two checkpoints of the loop: some 2 ms in which nothing else is served."""


class ProjectLists(Protocol):
    """The calls of the client that list documents; they raise ProcoreError."""

    index_route: int
    """Which of its routes the project's list has; finding out may cost calls."""

    async def documents_page(
        self,
        *,
        page: int,
        per_page: int,
        sort: str = ...,
        updated_to_s: int | None = ...,
        in_recycle_bin: bool | None = ...,
        priority: Priority,
        on_sent: Callable[[], None] | None = ...,
    ) -> Page[Document]: ...

    async def below_page(
        self,
        folder_id: DocumentId,
        *,
        page: int,
        per_page: int,
        priority: Priority,
        on_sent: Callable[[], None] | None = ...,
    ) -> Page[Document]: ...

    async def folder(
        self,
        folder_id: DocumentId | None,
        *,
        priority: Priority,
        on_sent: Callable[[], None] | None = ...,
    ) -> FolderListing: ...


class Fetcher:
    """Fetches and applies; all its calls raise ProcoreError."""

    def __init__(
        self,
        store: TreeStore,
        lists: ProjectLists,
        applier: DocumentApplier,
        invalidate: Callable[[Sequence[Invalidation]], None],
        changed: Callable[[Collection[DocumentId]], None],
    ) -> None:
        self._store = store
        self._lists = lists
        self._applier = applier
        self._invalidate = invalidate
        self._changed = changed
        lists.index_route = store.sync.read().index_route

    async def page(
        self,
        number: int,
        per_page: int,
        *,
        listing_pass: int,
        priority: Priority,
        updated_to_s: int | None = None,
        changes_since_s: int | None = None,
    ) -> tuple[Page[Document], Applied]:
        """A page of the project's documents, the newest change first."""
        with self._applier.order.reading() as request:
            page = await self._lists.documents_page(
                page=number,
                per_page=per_page,
                sort="-updated_at",
                updated_to_s=updated_to_s,
                priority=priority,
                on_sent=request.sent,
            )
            whole = await self._apply(page, request, listing_pass, changes_since_s)
        self._remember_route()
        await self._write_back()
        return page, whole

    async def below_page(
        self, folder: DocumentId, number: int, per_page: int, *, listing_pass: int, priority: Priority
    ) -> Page[Document]:
        """A page of all that is below a folder, the oldest first."""
        with self._applier.order.reading() as request:
            page = await self._lists.below_page(
                folder, page=number, per_page=per_page, priority=priority, on_sent=request.sent
            )
            await self._apply(page, request, listing_pass, None)
        await self._write_back()
        return page

    async def _apply(
        self, page: Page[Document], request: Request, listing_pass: int, changes_since_s: int | None
    ) -> Applied:
        whole = Applied()
        for start in range(0, len(page.items), SLICE):
            part = self._applier.apply(
                page.items[start : start + SLICE],
                request=request,
                listing_pass=listing_pass,
                changes_since_s=changes_since_s,
            )
            self._announce(part)
            whole.add(part)
            await trio.lowlevel.checkpoint()
        return whole

    def _remember_route(self) -> None:
        if self._store.sync.read().index_route != self._lists.index_route:
            with self._store.transaction(), self._store.sync.change() as state:
                state.index_route = self._lists.index_route

    async def _write_back(self) -> None:
        if self._store.checkpoint_due():
            await trio.to_thread.run_sync(self._store.checkpoint)

    async def deleted_page(
        self, number: int, per_page: int, *, priority: Priority
    ) -> tuple[Page[Document], Applied]:
        """A page of the recycle bin, the newest change first."""
        with self._applier.order.reading() as request:
            page = await self._lists.documents_page(
                page=number,
                per_page=per_page,
                sort="-updated_at",
                in_recycle_bin=True,
                priority=priority,
                on_sent=request.sent,
            )
            applied = self._applier.apply_deleted(page.items, request=request)
            self._announce(applied)
        return page, applied

    async def folder(
        self, inode: Inode, document_id: DocumentId | None, *, listing_pass: int, priority: Priority
    ) -> Applied:
        """One folder with its children; None is the root."""
        with self._applier.order.reading() as request:
            listing = await self._lists.folder(document_id, priority=priority, on_sent=request.sent)
            applied = self._applier.apply_folder(listing, inode, request=request, listing_pass=listing_pass)
            self._announce(applied)
        return applied

    def _announce(self, applied: Applied) -> None:
        self._invalidate(applied.invalidations)
        if applied.changed:
            self._changed(applied.changed)
