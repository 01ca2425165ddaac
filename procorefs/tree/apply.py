"""Applies Procore's answers to the tree: pages, folders, the recycle bin; and says what the kernel must invalidate.

Each answer is applied in one transaction (document_writer.py). An answer applies only to documents that it speaks for
(request_order.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from procorefs.procore.wire.models import Document, FolderListing, UserId
from procorefs.tree.document_writer import Applied, DocumentWriter, free_own_entry
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.tree.own_changes import LocalChanges, OwnChanges
from procorefs.tree.request_order import Request, RequestOrder
from procorefs.tree.tree_store import TreeStore


class DocumentApplier:
    """Applies answers of Procore; the only writer of nodes that others have changed."""

    def __init__(self, store: TreeStore, local: LocalChanges, me: UserId) -> None:
        """`me`: the user whose calls this mount makes."""
        self._store = store
        self._local = local
        self.order = RequestOrder()
        self.own = OwnChanges(store, local, self.order, me)
        with store.transaction():
            free_own_entry(store)

    def apply(
        self,
        documents: Iterable[Document],
        *,
        request: Request,
        listing_pass: int,
        changes_since_s: int | None = None,
    ) -> Applied:
        """Apply a page of the project's list, the answer to `request`.

        `changes_since_s`: all changes since then are being applied, so a folder made later holds nothing else.
        """
        admitted, overtaken = self._admitted(documents, request)
        with self._writer(listing_pass, changes_since_s) as writer:
            writer.note_overtaken(overtaken)
            writer.write(admitted)
        return writer.result

    def apply_folder(
        self, listing: FolderListing, folder: Inode, *, request: Request, listing_pass: int
    ) -> Applied:
        """Apply a folder with all its children: the tree removes those of its entries that the answer lacks.

        It removes nothing if the answer has an item that could not be understood: that may be any of them.
        """
        here = {document.id for document in listing.children}
        admitted, overtaken = self._admitted(listing.children, request)
        with self._writer(listing_pass) as writer:
            if folder == ROOT:
                writer.bind_root(listing.folder)
            elif listing.folder.deleted:
                writer.write([listing.folder])
            writer.note_overtaken(overtaken)
            writer.write(admitted)
            if not listing.refused:
                writer.remove(
                    node
                    for node in self._store.children(folder)
                    if node.document_id is not None
                    and node.document_id not in here
                    and self.order.admit(node.document_id, request)
                )
            self._store.set_listed(folder, True)
        return writer.result

    def apply_deleted(self, documents: Iterable[Document], *, request: Request) -> Applied:
        """Apply a page of the recycle bin.

        It removes only documents that say that they are deleted, or that are directly in the bin: a server that ignores
        the filter must not empty the tree.
        """
        with self._writer(0) as writer:
            writer.remove_deleted(
                known
                for document in documents
                if (document.deleted or writer.is_in_bin(document))
                and (known := self._store.known(document.id)) is not None
                and self.order.admit(document.id, request)
            )
        return writer.result

    def remove(self, nodes: Iterable[Node]) -> Applied:
        """Remove documents that full listings did not have, with everything below them."""
        with self._writer(0) as writer:
            writer.remove_deleted(
                known
                for node in nodes
                if node.document_id is not None and (known := self._store.known(node.document_id)) is not None
            )
        return writer.result

    def _admitted(
        self, documents: Iterable[Document], request: Request
    ) -> tuple[list[Document], list[Document]]:
        """The documents that the answer speaks for, and the others.

        A version that an unanswered call of ours has made of the same bytes is no change by a colleague.
        """
        admitted, overtaken = [], []
        for document in documents:
            if not self.order.admit(document.id, request):
                overtaken.append(document)
            elif self._local.is_unconfirmed(document.id):
                admitted.append(self.own.unchanged_bytes(document, "change", is_answer=False))
            else:
                admitted.append(document)
        return admitted, overtaken

    @contextmanager
    def _writer(self, listing_pass: int, changes_since_s: int | None = None) -> Iterator[DocumentWriter]:
        with self._store.transaction():
            writer = DocumentWriter(self._store, self._local, listing_pass, changes_since_s)
            yield writer
            writer.give_freed_entries()
