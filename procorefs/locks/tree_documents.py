"""Shows the locks which document a file is and who has it checked out, and makes the call that checks it out or in.

What an answer says goes into the tree at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from procorefs.limiter import Priority
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.errors import CheckedOut
from procorefs.procore.wire.models import Document, DocumentId, Person, UserId
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.nodes import Inode, Invalidation, Node
from procorefs.tree.request_order import Request
from procorefs.tree.tree_store import TreeStore


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a document checked out, and until when."""

    user: UserId
    name: str
    """For people; may be empty."""
    until_s: int | None
    """Unix seconds; None: Procore named no end."""


@dataclass(frozen=True, slots=True)
class Held:
    """A document and its holder, who may be this mount's user, and whose time may be over."""

    document: DocumentId
    holder: Holder | None


class HeldByAnother(Exception):
    """Another user has the document checked out."""

    def __init__(self, holder: Holder | None) -> None:
        name = (holder.name if holder else "") or "another user"
        super().__init__(f"{name} has it checked out")
        self.holder = holder
        """None: Procore refused, and did not say who."""


class _CheckOut(msgspec.Struct, frozen=True):
    """That part of a row's detail."""

    checked_out_by: Person | None = None
    checked_out_until_s: int | None = None


class TreeDocuments:
    """The documents of one project.

    `node_of` shows a file as programs see it: one that Procore does not have yet has no document.
    """

    def __init__(
        self,
        store: TreeStore,
        applier: DocumentApplier,
        client: Client,
        changes: ProjectChanges,
        invalidate: Callable[[Sequence[Invalidation]], None],
        *,
        node_of: Callable[[Inode], Node | None],
    ) -> None:
        self._store = store
        self._applier = applier
        self._client = client
        self._changes = changes
        self._invalidate = invalidate
        self._node_of = node_of
        self._decoder = msgspec.json.Decoder(_CheckOut)

    def held(self, inode: Inode) -> Held | None:
        """What is known without a call; None for a file that Procore does not have."""
        node = self._node_of(inode)
        if node is None or node.document_id is None or node.is_folder or not node.in_tree:
            return None
        return Held(node.document_id, self.holder_of(node.document_id))

    def inode_of(self, document: DocumentId) -> Inode | None:
        """The file that a document is; None when the tree does not have it."""
        known = self._store.known(document)
        return known.node.inode if known and known.node.in_tree else None

    def holder_of(self, document: DocumentId) -> Holder | None:
        """Who is known to have it checked out, whatever file it is now."""
        known = self._store.known(document)
        state = self._decoder.decode(known.detail) if known else _CheckOut()
        return _holder(state.checked_out_by, state.checked_out_until_s)

    async def refresh(self, document: DocumentId) -> None:
        """Ask Procore for the document; `held` and `holder_of` have the answer afterwards. Raises ProcoreError."""
        with self._applier.order.reading() as request:
            answer = await self._client.file(document, priority=Priority.INTERACTIVE, on_sent=request.sent)
            self._apply(answer, request)

    async def check_out(self, document: DocumentId, until_s: int | None) -> None:
        """Check out until then, or in (None). Raises HeldByAnother for a 409, ProcoreError for everything else.

        A check-in has the priority of a check-out: others may wait for it.
        """
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
