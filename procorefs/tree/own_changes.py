"""Applies the answers to our own calls to the tree, each under the inode that the change has here.

A listing that was under way at the same time does not speak for the document (request_order.py), but it may have
brought a new document already, under another inode.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from procorefs.procore.wire.models import Document, DocumentId, Kind, UserId, Version
from procorefs.storage import clocks
from procorefs.tree.document_detail import encode_detail, is_echo, is_private
from procorefs.tree.naming.name_rules import shown_name
from procorefs.tree.nodes import (
    ROOT,
    EntryGone,
    Inode,
    Invalidation,
    Kept,
    ListingChanged,
    Node,
    State,
    bound_to,
    is_own_entry,
)
from procorefs.tree.request_order import Request, RequestOrder
from procorefs.tree.rows import Known, Row
from procorefs.tree.tree_store import TreeStore

REMEMBERED_S = 60.0
"""How long the end of a call is remembered: longer than any answer is believed."""


class LocalChanges(Protocol):
    """What applying an answer must know of the mount, and tell it; implemented by vfs.local_work."""

    def is_open(self, inode: Inode) -> bool:
        """Whether the file is open."""

    def has_bytes(self, inode: Inode) -> bool:
        """Whether the inode shows local bytes, written or about to be, and not a version of Procore."""

    def is_unconfirmed(self, document: DocumentId) -> bool:
        """Whether a call without bytes about the document got no answer and may have been carried out."""

    def entries_changed(self, folder: Inode) -> None:
        """Another client has added, renamed or removed an entry of the folder."""

    def same_bytes(self, inode: Inode, old: Version, new: Version) -> None:
        """Procore has made a new version of the same bytes: what is bound to the old one belongs to the new one."""

    def covered(self, inode: Inode, old: Version, new: Version | None) -> None:
        """Procore has other bytes than the tree had; the local bytes cover them, so no program sees them."""

    def removing(self, node: Node) -> None:
        """Procore has removed the node, which is still in the tree; unsent changes in or below it must stay."""

    def succeeded(self, inode: Inode, successor: Inode) -> None:
        """The document continues under another inode, because this one is open; unsent changes go with it."""


class OwnChanges:
    """Writes what our own calls did; the kernel knows it already."""

    def __init__(self, store: TreeStore, local: LocalChanges, order: RequestOrder, me: UserId) -> None:
        self._store = store
        self._local = local
        self.order = order
        self._begun = 0
        self._under_way = 0
        self._ended_s: dict[DocumentId, float] = {}  # by clocks.unix_s, the oldest first
        self._me = me
        self._makes_none: set[str] = set()
        """Kinds of calls that are known not to make a version."""

    @contextmanager
    def call(self, document: DocumentId | None) -> Iterator[Request]:
        """A call that changes a document (None: creates one); it is under way until its answer is applied."""
        self._begun += 1
        self._under_way += 1
        try:
            with self.order.changing(document) as request:
                yield request
        finally:
            self._under_way -= 1
            if request.about is not None:
                self._note_end(request.about)

    def _note_end(self, document: DocumentId) -> None:
        self._ended_s.pop(document, None)
        self._ended_s[document] = clocks.unix_s()
        for other in list(self._ended_s):
            if clocks.age_s(self._ended_s[other]) < REMEMBERED_S:
                break
            del self._ended_s[other]

    def age_s(self, document: DocumentId) -> float:
        """Seconds since the last call about the document ended; infinite after REMEMBERED_S."""
        ended_s = self._ended_s.get(document)
        return clocks.age_s(ended_s) if ended_s is not None else float("inf")

    def mark(self) -> int:
        """A number that changes with every call of ours that begins."""
        return self._begun

    @property
    def is_under_way(self) -> bool:
        return self._under_way > 0

    def unchanged_bytes(self, document: Document, call: str, *, is_answer: bool = True) -> Document:
        """Complete the answer to a call that sent no bytes, before it is applied.

        It need not name a version, and some servers make a new version of the same bytes: that is no change by a
        colleague. A server that made none at such a `call` never does. `is_answer` False: the document was read after
        the answer was lost.
        """
        known = self._store.known(document.id)
        if document.kind is Kind.FOLDER or known is None or known.node.version is None:
            return document
        old, new = known.node.version, document.version
        if new is None:
            return msgspec.structs.replace(document, version=old, defect="")
        if new.id == old.id:
            if is_answer:
                self._makes_none.add(call)
        elif call not in self._makes_none and is_echo(old, document, self._me):
            self._continue_as(known, old, new)
        return document

    def _continue_as(self, known: Known, old: Version, new: Version) -> None:
        node = known.node
        with self._store.transaction():
            self._store.set_version(node.inode, new)
            if node.kept is not None and node.kept.version_id == old.id:
                self._store.keep(node.inode, bound_to(node.kept, new))
        self._local.same_bytes(node.inode, old, new)

    def put(
        self,
        document: Document,
        inode: Inode,
        parent: Inode,
        kept: Kept | None,
        *,
        shown: bytes | None = None,
        is_new: bool = False,
    ) -> None:
        """From now on `inode` is this document; `parent` is the folder that it was sent to.

        `shown`: the name that was sent, which stays its entry even if Procore has changed it. `is_new`: the call
        created it, although a listing may have brought it before the answer.
        """
        with self._store.transaction():
            self.claim(document.id, inode)
            known = self._store.known(document.id)
            entry = self._entry(document, inode, parent, shown, known)
            row = self._row(document, inode, parent, entry, known)
            if known is None:
                self._store.insert(row, inode)
            else:
                self._store.update(inode, row)
            if document.kind is Kind.FOLDER and (known is None or is_new):
                self._store.set_listed(inode, True)
            self._store.keep(inode, kept)

    def removed(self, document_id: DocumentId) -> None:
        """The document is in the recycle bin, with everything below it."""
        known = self._store.known(document_id)
        if known is None or known.node.state is not State.LIVE or known.node.inode == ROOT:
            return
        self._local.removing(known.node)
        with self._store.transaction():
            self._store.detach(known.node.inode, State.DELETED)

    def give_entry(self, left: Node) -> list[Invalidation]:
        """A node may have left its entry: a document of that name, which was shown under a marked one, gets it."""
        changes: list[Invalidation] = []
        at: Node | None = left
        with self._store.transaction():
            while at is not None and left.parent is not None:
                at = self._store.give_entry(left.parent, at.shown, left.document_id)
                if at is not None:
                    changes += [EntryGone(left.parent, at.shown), ListingChanged(left.parent)]
        return changes

    def claim(self, document_id: DocumentId, inode: Inode) -> Node | None:
        """Give a document that inode; within a transaction. A node that had it gets another number.

        Open handles of the document's old inode, and programs in that folder, keep it, unlinked. Returns the document's
        node as it was.
        """
        known = self._store.known(document_id)
        if known is not None and known.node.inode == inode:
            return known.node
        other = self._store.by_inode(inode)
        if other is not None:
            self._store.move_row(inode, self._store.reserve(1))
        if known is None:
            return None
        if known.node.is_folder or self._local.is_open(known.node.inode):
            self._store.copy_orphan(known.node.inode, inode)
        else:
            self._store.move_row(known.node.inode, inode)
        return known.node

    def _row(self, document: Document, inode: Inode, parent: Inode, entry: bytes, known: Known | None) -> Row:
        node = self._store.by_inode(inode)
        return Row(
            parent=parent,
            shown=entry,
            name=document.name,
            document_id=document.id,
            kind=document.kind,
            state=State.LIVE,
            read_only=bool(document.read_only)
            if document.read_only is not None
            else bool(node and node.read_only),
            private=is_private(document, known.detail if known else None),
            created_at_s=document.created_at_s or (node.created_at_s if node else 0),
            updated_at_s=document.updated_at_s or (node.updated_at_s if node else 0),
            version=document.version,
            defect=document.defect,
            detail=encode_detail(document, known.detail if known else None),
            listing_pass=self._store.sync.read().listing_pass,
        )

    def _entry(
        self, document: Document, inode: Inode, parent: Inode, shown: bytes | None, known: Known | None
    ) -> bytes:
        taken = self._taken_by_another(parent, inode)
        if (
            shown is None
            and known is not None
            and known.node.parent == parent
            and known.name == document.name
        ):
            shown = known.node.shown
        if shown and not taken(shown):
            return shown
        return shown_name(document.name, document.id, taken)

    def _taken_by_another(self, parent: Inode, inode: Inode) -> Callable[[bytes], bool]:
        def taken(entry: bytes) -> bool:
            node = self._store.child(parent, entry)
            return is_own_entry(parent, entry) or (node is not None and node.inode != inode)

        return taken
