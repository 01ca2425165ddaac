"""Absorbing what Procore lists: documents become rows, and out comes what the kernel must forget.

One `absorb` is one transaction. Within it every node that moves lets go of its entry first, so that two documents
that swapped names don't stand in each other's way. A document whose item names a folder that was not listed yet hangs
below a row in state EXPECTED, which no path reaches until the folder's own item comes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from procorefs.procore.wire.models import Document, DocumentId, FolderListing, Kind
from procorefs.storage import clocks
from procorefs.tree.document_detail import encode_detail, same_bytes
from procorefs.tree.local_changes import LocalChanges
from procorefs.tree.naming import full_width
from procorefs.tree.naming.shown_names import marked, shown_name
from procorefs.tree.nodes import (
    OWN_ENTRY,
    ROOT,
    EntryGone,
    Inode,
    InodeChanged,
    Invalidation,
    ListingChanged,
    Node,
    State,
    is_own_entry,
    with_times,
)
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.request_order import Request, RequestOrder
from procorefs.tree.rows import Known, Row
from procorefs.tree.tree_store import TreeStore


@dataclass(slots=True)
class Applied:
    """What one answer changed."""

    invalidations: list[Invalidation] = field(default_factory=list)
    changed: set[DocumentId] = field(default_factory=set)
    """Documents that are new, or of which something is new, or that are gone."""
    overtaken: list[Document] = field(default_factory=list)
    """Those for which the answer does not speak: a later one has to be asked for."""

    def add(self, other: "Applied") -> None:
        self.invalidations += other.invalidations
        self.changed |= other.changed
        self.overtaken += other.overtaken


class DocumentApplier:
    """Writes documents into the store; the only writer of nodes that come from Procore."""

    def __init__(self, store: TreeStore, local: LocalChanges) -> None:
        self._store = store
        self._local = local
        self.order = RequestOrder()
        self.own = OwnChanges(store, local, self.order)
        with store.transaction():
            _free_own_entry(store)

    def apply(
        self,
        documents: Iterable[Document],
        *,
        request: Request,
        listing_pass: int,
        changes_since_s: int | None = None,
    ) -> Applied:
        """Take up a page of the project's list, the answer to `request`.

        `changes_since_s`: all changes since then are being taken up, so a folder made later holds nothing else.
        """
        with self._absorption(listing_pass, changes_since_s) as absorption:
            absorption.take(self._admitted(documents, request, absorption))
        return absorption.result

    def _admitted(
        self, documents: Iterable[Document], request: Request, absorption: "_Absorption"
    ) -> list[Document]:
        """The documents for which the answer speaks; of the others only that they exist is noted."""
        admitted = []
        for document in documents:
            if self.order.admit(document.id, request):
                admitted.append(document)
            else:
                absorption.pass_over(document)
        return admitted

    def apply_folder(
        self, listing: FolderListing, folder: Inode, *, request: Request, listing_pass: int
    ) -> Applied:
        """Take up one folder with all its children: what is not among them is not there any more.

        Unless one of them could not be understood: then nobody knows which one that was.
        """
        here = {d.id for d in listing.children}
        with self._absorption(listing_pass) as absorption:
            if folder == ROOT:
                absorption.bind_root(listing.folder)
            elif listing.folder.deleted:
                absorption.take([listing.folder])
            absorption.take(self._admitted(listing.children, request, absorption))
            if not listing.refused:
                absorption.remove(
                    node
                    for node in self._store.children(folder)
                    if node.document_id is not None
                    and node.document_id not in here
                    and self.order.admit(node.document_id, request)
                )
            self._store.set_listed(folder, True)
        return absorption.result

    def apply_deleted(self, documents: Iterable[Document], *, request: Request) -> Applied:
        """Take up a page of the recycle bin's list.

        Only what says of itself that it is deleted, or lies right in the bin, is removed: a server that ignores the
        filter must not empty the tree.
        """
        with self._absorption(0) as absorption:
            absorption.bury(
                known
                for document in documents
                if (document.deleted or absorption.in_bin(document))
                and (known := self._store.known(document.id)) is not None
                and self.order.admit(document.id, request)
            )
        return absorption.result

    def remove(self, nodes: Iterable[Node]) -> Applied:
        """Take out of the tree what a full listing did not see; what lies below goes with it, and would return so."""
        with self._absorption(0) as absorption:
            absorption.bury(
                known
                for node in nodes
                if node.document_id is not None and (known := self._store.known(node.document_id)) is not None
            )
        return absorption.result

    @contextmanager
    def _absorption(self, listing_pass: int, changes_since_s: int | None = None) -> Iterator["_Absorption"]:
        with self._store.transaction():
            absorption = _Absorption(self._store, self._local, listing_pass, changes_since_s)
            yield absorption
            absorption.settle_names()


class _Absorption:
    """One transaction: what was changed so far, and the folders it met."""

    def __init__(
        self,
        store: TreeStore,
        local: LocalChanges,
        listing_pass: int,
        changes_since_s: int | None,
    ) -> None:
        self._store = store
        self._local = local
        self._pass = listing_pass
        self._changes_since_s = changes_since_s
        self._folders: dict[DocumentId, Inode] = {}
        self._told: set[Inode] = set()
        self._made: set[Inode] = set()
        """Folders that came with this answer."""
        self._moved: set[Inode] = set()
        """Folders whose times are now."""
        self._freed: list[tuple[Inode, bytes]] = []
        self.result = Applied()

    def take(self, documents: Iterable[Document]) -> None:
        deleted: list[tuple[Document, Known]] = []
        changed: list[tuple[Document, Known | None]] = []
        for document in {d.id: d for d in documents}.values():
            known = self._store.known(document.id)
            if known is not None:
                document = _completed(document, known.node)
            if known is not None and known.node.inode == ROOT:
                self._store.see(ROOT, self._pass, None)
            elif document.recycle_bin:
                self._take_bin(document, known)
            elif document.deleted and (known is None or known.node.state is State.EXPECTED):
                self._note_deleted(document, known)
            elif document.deleted and known is not None:
                deleted.append((document, known))
            elif known is None or not self._unchanged(document, known):
                changed.append((document, known))
        self.bury(known for _, known in deleted)
        for document, known in deleted:
            self._see_deleted(document, known.node)
        for document, known in changed:
            if known is not None and self._moves(document, known):
                self._let_go(known.node)
        for document, known in sorted(changed, key=lambda pair: pair[0].id):
            self._place(document, known)

    def pass_over(self, document: Document) -> None:
        """The answer does not speak for the document, but it is there."""
        known = self._store.known(document.id)
        if known is not None and not document.deleted and not document.recycle_bin:
            version = known.node.version
            self._store.see(known.node.inode, self._pass, version.url if version is not None else None)
        self.result.overtaken.append(document)

    def bury(self, deleted: Iterable[Known]) -> None:
        """Take what was deleted out of the tree, folders before what lies in them.

        What a deleted folder holds stays in it, unreachable: it comes back with its folder, of which nobody may tell.
        """
        depths = [(self._store.depth(known.node.inode), known.node) for known in deleted]
        for _, node in sorted(((depth, node) for depth, node in depths if depth), key=lambda pair: pair[0]):
            if self._store.reachable(node.inode):
                self.remove([node])

    def remove(self, nodes: Iterable[Node]) -> None:
        for node in list(nodes):
            self._local.removing(node)
            self._let_go(node)
            self._store.detach(node.inode, State.DELETED)
            self.result.invalidations.append(InodeChanged(node.inode, data=False))  # it has no link any more
            if node.document_id is not None:
                self.result.changed.add(node.document_id)

    def bind_root(self, document: Document) -> None:
        """Tell the root its document; one that came in a page before, as a folder like any other, gives way."""
        known = self._store.known(document.id)
        if known is not None and known.node.inode != ROOT:
            self._store.adopt(known.node.inode, ROOT)
            self._store.orphan(known.node.inode)
            _free_own_entry(self._store)
        self._store.bind_root(document.id, document.created_at_s, document.updated_at_s)

    def in_bin(self, document: Document) -> bool:
        if document.parent_id is None:
            return False
        parent = self._store.known(document.parent_id)
        return parent is not None and parent.node.state is State.BIN

    def settle_names(self) -> None:
        """Give entries that became free to those that have the name and could not have it as long as a sibling did."""
        while self._freed:
            folder, shown = self._freed.pop()
            node = self._store.give_entry(folder, shown)
            if node is not None:
                self._forget_entry(folder, node.shown)

    def _take_bin(self, document: Document, known: Known | None) -> None:
        if known is None:
            inode = self._store.insert(self._row(document, None, b"", State.BIN, None))
        else:
            inode = known.node.inode
            if known.node.state is not State.BIN:
                self._let_go(known.node)
                self._store.detach(inode, State.BIN)
        self._store.see(inode, self._pass, None)

    def _note_deleted(self, document: Document, known: Known | None) -> None:
        """A deleted document that was never in the tree gets a row, so that it counts among the deleted ones."""
        row = self._row(document, None, b"", State.DELETED, None)
        if known is None:
            self._store.insert(row)
        else:
            self._store.update(known.node.inode, row)
        self.result.changed.add(document.id)

    def _see_deleted(self, document: Document, node: Node) -> None:
        self._store.see(node.inode, self._pass, None)
        if document.updated_at_s != node.updated_at_s:
            self._store.touch(node.inode, document.updated_at_s)
            self.result.changed.add(document.id)

    def _unchanged(self, document: Document, known: Known) -> bool:
        """Whether the row says already what the item says; then it is only noted as seen."""
        node = known.node
        same = (
            node.state is State.LIVE
            and node.parent is not None
            and not self._moves(document, known)
            and node.kind is document.kind
            and node.updated_at_s == document.updated_at_s
            and node.created_at_s == document.created_at_s
            and same_bytes(node.version, document.version)
            and node.defect == document.defect
            and node.read_only == document.read_only
            and known.detail == encode_detail(document, known.detail)
        )
        if same:
            self._store.see(node.inode, self._pass, document.version.url if document.version else None)
        return same

    def _moves(self, document: Document, known: Known) -> bool:
        """Whether the document's entry is another than the node's, in name or folder."""
        return known.name != document.name or known.node.parent != self._folder_of(document)

    def _folder_of(self, document: Document) -> Inode | None:
        """The inode of a document's folder; a row that expects the folder when it is not known yet.

        Only the root and the bin have no parent, so anything else without one lies in the root. None: what it names as
        its parent can't hold anything, so it is nowhere until an answer says otherwise.
        """
        parent_id = document.parent_id
        if parent_id is None:
            return ROOT
        if parent_id == document.id:
            return None
        inode = self._folders.get(parent_id)
        if inode is None:
            known = self._store.known(parent_id)
            if known is not None and not known.node.is_folder:
                return None
            inode = self._folders[parent_id] = known.node.inode if known else self._store.expect(parent_id)
        return inode

    def _let_go(self, node: Node) -> None:
        """Free a node's entry; its inode and what lies below stay."""
        if node.parent is None:
            return
        self._forget_entry(node.parent, node.shown)
        self._store.detach(node.inode, node.state)

    def _place(self, document: Document, known: Known | None) -> None:
        """Write a new or changed document; decides whether its inode goes on."""
        folder = self._folder_of(document)
        known = known or self._store.known(document.id)  # something that moved into it may expect it by now
        detail = known.detail if known is not None else None
        old = self._store.by_inode(known.node.inode) if known is not None else None  # as _let_go left it
        predecessor: Inode | None = None
        self.result.changed.add(document.id)
        if old is not None and old.is_folder and document.kind is Kind.FILE:
            self._store.release_children(old.inode)
        if old is not None and self._succeeds(document, old):
            self._let_go(old)
            self._store.orphan(old.inode)
            self.result.invalidations.append(InodeChanged(old.inode, data=False))  # it has no link any more
            predecessor, old = old.inode, None
        stays = old is not None and old.parent == folder
        shown = old.shown if old is not None and stays else self._free_entry(document, folder)
        row = self._row(document, folder, shown, State.LIVE, detail)
        if folder is not None and not stays:
            self._listing_changed(folder)
            if not full_width.is_plain(
                document.name
            ):  # with invalid_names=encode another may show under that name
                self.result.invalidations.append(EntryGone(folder, shown))
            if self._is_news(folder):
                self._move_times(folder)
        if old is None:
            inode = self._store.insert(row)
            self._made.add(inode)
            if predecessor is not None:
                self._local.succeeded(predecessor, inode)
        else:
            inode = old.inode
            self._store.update(inode, row)
            self._move_kept_ctime(document, old)
            is_newer, is_covered = not same_bytes(old.version, document.version), self._local.has_bytes(inode)
            if is_newer and is_covered and old.version is not None:
                self._local.covered(inode, old.version)
            data = is_newer and not is_covered
            self.result.invalidations.append(InodeChanged(inode, data=data))
        if document.kind is Kind.FOLDER and (old is None or old.state is not State.LIVE):
            self._store.set_listed(inode, self._holds_only_changes(document))
            if old is not None and old.state is State.DELETED:
                self._store.unlist_below(inode)
        self._folders.pop(document.id, None)

    def _move_kept_ctime(self, document: Document, old: Node) -> None:
        """Something else than the bytes changed in Procore: a ctime that was kept is now."""
        kept = old.kept
        if kept is not None and kept.ctime_ns is not None and same_bytes(old.version, document.version):
            ctime_ns = max(kept.ctime_ns, clocks.file_ns())
            self._store.keep(old.inode, msgspec.structs.replace(kept, ctime_ns=ctime_ns))

    def _holds_only_changes(self, document: Document) -> bool:
        """Whether all that a folder new to the tree holds comes in the same look.

        Not so for one that was restored or opened to us: what lies in it need not have changed.
        """
        return self._changes_since_s is not None and document.created_at_s >= self._changes_since_s

    def _succeeds(self, document: Document, node: Node) -> bool:
        """Whether the document goes on under a new inode: other bytes while somebody reads the old, or another kind."""
        if node.state is State.EXPECTED:
            return False
        if node.kind is not document.kind:
            return True
        if same_bytes(node.version, document.version) or self._local.has_bytes(node.inode):
            return False
        return self._local.is_open(node.inode)

    def _free_entry(self, document: Document, folder: Inode | None) -> bytes:
        if folder is None:
            return marked(document.name, str(document.id))
        return shown_name(document.name, document.id, lambda entry: _is_taken(self._store, folder, entry))

    def _row(
        self, document: Document, folder: Inode | None, shown: bytes, state: State, detail: bytes | None
    ) -> Row:
        return Row(
            parent=folder,
            shown=shown,
            name=document.name,
            document_id=document.id,
            kind=document.kind,
            state=state,
            read_only=bool(document.read_only),
            created_at_s=document.created_at_s,
            updated_at_s=document.updated_at_s,
            version=document.version,
            defect=document.defect,
            detail=encode_detail(document, detail),
            listing_pass=self._pass,
        )

    def _forget_entry(self, folder: Inode, shown: bytes) -> None:
        self._freed.append((folder, shown))
        self.result.invalidations.append(EntryGone(folder, shown))
        self._listing_changed(folder)
        self._move_times(folder)

    def _is_news(self, folder: Inode) -> bool:
        """Whether an entry that was not known is new in Procore, and not only new to the tree."""
        if folder in self._made:
            return False
        node = self._store.by_inode(folder)
        return node is not None and (node.listed or self._store.sync.read().is_complete)

    def _move_times(self, folder: Inode) -> None:
        """A folder's entries changed: both its times are now, as on a disk, for whoever scans by them."""
        if folder in self._moved:
            return
        self._moved.add(folder)
        node = self._store.by_inode(folder)
        if node is not None and node.state is State.LIVE:
            self._store.keep(folder, with_times(node.kept, clocks.file_ns()))
            self._local.entries_changed(folder)

    def _listing_changed(self, folder: Inode) -> None:
        """Note it once a folder."""
        if folder not in self._told:
            self._told.add(folder)
            self.result.invalidations.append(ListingChanged(folder))


def _is_taken(store: TreeStore, folder: Inode, entry: bytes) -> bool:
    return is_own_entry(folder, entry) or store.has_entry(folder, entry)


def _free_own_entry(store: TreeStore) -> None:
    """Show a document that got the mount's own entry under a marked one: it had it before that was the mount's."""
    node = store.child(ROOT, OWN_ENTRY)
    if node is not None:
        mark = node.document_id or node.inode
        store.show(
            node.inode, shown_name(OWN_ENTRY.decode(), mark, lambda entry: _is_taken(store, ROOT, entry))
        )


def _completed(document: Document, node: Node) -> Document:
    """The document with what this kind of answer does not say as it was known."""
    if document.read_only is not None and document.created_at_s and document.updated_at_s:
        return document
    return msgspec.structs.replace(
        document,
        read_only=node.read_only if document.read_only is None else document.read_only,
        created_at_s=document.created_at_s or node.created_at_s,
        updated_at_s=document.updated_at_s or node.updated_at_s,
    )
