"""The documents of the tree as the locks see them; what the locks' calls bring goes into the tree at once."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from procorefs.limiter import Priority
from procorefs.locks.held import Held, HeldByAnother, Holder
from procorefs.procore.errors import CheckedOut
from procorefs.procore.wire.models import Document, DocumentId, Person
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import Inode, Invalidation, Node
from procorefs.tree.request_order import Request
from procorefs.tree.tree_store import TreeStore


class Lookups(Protocol):
    """What of the client answers a look."""

    async def file(
        self, file_id: DocumentId, *, priority: Priority, on_sent: Callable[[], None] | None = ...
    ) -> Document: ...


class Changes(Protocol):
    """What of the client changes a check-out."""

    async def check_out(
        self,
        file_id: DocumentId,
        until_s: int | None,
        *,
        priority: Priority,
        on_sent: Callable[[], None] | None = ...,
    ) -> Document: ...


class _CheckOut(msgspec.Struct, frozen=True):
    """That part of a row's detail."""

    checked_out_by: Person | None = None
    checked_out_until_s: int | None = None


class TreeDocuments:
    """Documents and CheckOutCalls on the tree and the client.

    `node_of` shows a file as programs see it: one that waits to become a document has none yet.
    """

    def __init__(
        self,
        store: TreeStore,
        applier: DocumentApplier,
        lookups: Lookups,
        changes: Changes,
        invalidate: Callable[[Sequence[Invalidation]], None],
        *,
        node_of: Callable[[Inode], Node | None],
        is_unsent: Callable[[Inode], bool],
    ) -> None:
        self._store = store
        self._applier = applier
        self._lookups = lookups
        self._changes = changes
        self._invalidate = invalidate
        self._node_of = node_of
        self.is_unsent = is_unsent
        self._decoder = msgspec.json.Decoder(_CheckOut)

    def held(self, inode: Inode) -> Held | None:
        node = self._node_of(inode)
        if node is None or node.document_id is None or node.is_folder or not node.in_tree:
            return None
        return Held(node.document_id, self.holder_of(node.document_id))

    def inode_of(self, document: DocumentId) -> Inode | None:
        known = self._store.known(document)
        return known.node.inode if known and known.node.in_tree else None

    def holder_of(self, document: DocumentId) -> Holder | None:
        known = self._store.known(document)
        state = self._decoder.decode(known.detail) if known else _CheckOut()
        return _holder(state.checked_out_by, state.checked_out_until_s)

    async def refresh(self, document: DocumentId) -> None:
        with self._applier.order.reading() as request:
            answer = await self._lookups.file(document, priority=Priority.INTERACTIVE, on_sent=request.sent)
            self._apply(answer, request)

    async def check_out(self, document: DocumentId, until_s: int | None) -> None:
        # Others may wait for a check-in, too: it goes as soon as a check-out does.
        with self._applier.order.changing(document) as request:
            try:
                answer = await self._changes.check_out(
                    document, until_s, priority=Priority.INTERACTIVE, on_sent=request.sent
                )
            except CheckedOut as error:
                if error.file is None:
                    raise HeldByAnother(None) from error
                self._apply(error.file, request)
                file = error.file
                raise HeldByAnother(_holder(file.checked_out_by, file.checked_out_until_s)) from error
            self._apply(self._applier.own.unchanged_bytes(answer, "check-out"), request)

    def _apply(self, document: Document, request: Request) -> None:
        listing_pass = self._store.sync.read().listing_pass
        self._invalidate(
            self._applier.apply([document], request=request, listing_pass=listing_pass).invalidations
        )


def _holder(by: Person | None, until_s: int | None) -> Holder | None:
    return Holder(by.id, by.name or by.login, until_s) if by is not None else None
