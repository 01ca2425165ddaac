"""Lists all that is below a folder in pages, where its folders would be listed one by one otherwise.

After the first full listing only few folders are not listed: those of a restored folder, or of one that this user may
see again. A program that walks through them would cost a call each. The first page tells whether the pages cost fewer
calls. A document that the pages do not have proves nothing: its folder stays unlisted, and is listed by itself later.
"""

import logging
import math
from collections.abc import Collection

import trio

from procorefs.limiter import Priority
from procorefs.procore.errors import NotFound, ProcoreError
from procorefs.procore.wire.models import Document, DocumentId, Kind, Page
from procorefs.tree.nodes import Inode
from procorefs.tree.sync.fetcher import Fetcher
from procorefs.tree.sync.poll_plan import LISTING_PAGE
from procorefs.tree.tree_store import TreeStore

log = logging.getLogger(__name__)

LEAST_FOLDERS = 2
"""A folder with fewer unlisted folders in it is not worth a page."""

AGAIN_AFTER_S = 600.0
"""The same folder is not read again sooner."""


class Subtrees:
    """Reads one subtree at a time."""

    def __init__(self, store: TreeStore, fetcher: Fetcher) -> None:
        self._store = store
        self._fetcher = fetcher
        self._read_at_s: dict[Inode, float] = {}
        self._exist = True
        """Whether Procore has the calls."""

    def above(self, folder: Inode) -> Inode | None:
        """The folder to read, for an unlisted folder in it; None: list that one by itself."""
        node = self._store.by_inode(folder)
        if node is None or node.parent is None or not self._exist:
            return None
        read_at_s = self._read_at_s.get(node.parent)
        if read_at_s is not None and trio.current_time() - read_at_s < AGAIN_AFTER_S:
            return None
        return node.parent if self._store.counts.unlisted_in(node.parent) >= LEAST_FOLDERS else None

    async def read(self, folder: Inode, *, listing_pass: int) -> None:
        """Apply all pages, and note which folders are listed by them. A failure leaves them unlisted."""
        self._read_at_s[folder] = trio.current_time()
        node = self._store.by_inode(folder)
        if node is None or node.document_id is None:
            return
        try:
            documents = await self._pages(node.document_id, listing_pass)
        except NotFound:
            self._exist = False
            return
        except ProcoreError as error:
            log.info("The folders below %s are listed one by one: %s", self._store.path(folder), error)
            return
        self._note_listed(documents)

    async def _pages(self, folder: DocumentId, listing_pass: int) -> list[Document]:
        """All documents; none if they changed meanwhile, or if listing the folders costs fewer calls."""
        found: list[Document] = []
        first: Page[Document] | None = None
        number, per_page = 1, LISTING_PAGE
        while True:
            page = await self._fetcher.below_page(
                folder, number, per_page, listing_pass=listing_pass, priority=Priority.INTERACTIVE
            )
            first = first or page
            found += page.items
            if page.refused or (page.total, page.per_page) != (first.total, first.per_page):
                return []
            if page.next_page is None:
                return found if len({document.id for document in found}) == page.total else []
            if page is first and not self._is_worth(page):
                return []
            number, per_page = page.next_page, page.per_page or per_page

    def _is_worth(self, first: Page[Document]) -> bool:
        if not first.total or not first.per_page:
            return False
        folders = sum(document.kind is Kind.FOLDER for document in first.items)
        return math.ceil(first.total / first.per_page) <= folders

    def _note_listed(self, documents: Collection[Document]) -> None:
        """A folder is listed if the pages had all that the tree has in it."""
        here = {document.id for document in documents}
        with self._store.transaction():
            for document in documents:
                known = self._store.known(document.id) if document.kind is Kind.FOLDER else None
                if known is not None and all(
                    child.document_id is None or child.document_id in here
                    for child in self._store.children(known.node.inode)
                ):
                    self._store.set_listed(known.node.inode, True)
