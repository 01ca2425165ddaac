"""Writes the documents of one answer into the tree, in one transaction.

A node that moves gives up its entry first, so that two documents that swap names don't block each other. A document
whose folder was not listed yet gets a row in state EXPECTED as its folder; no path leads there until the folder's own
item comes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from procorefs.procore.wire.models import Document, DocumentId, Kind
from procorefs.storage import clocks
from procorefs.tree.document_detail import encode_detail, is_private, same_bytes
from procorefs.tree.naming import full_width
from procorefs.tree.naming.name_rules import marked, shown_name
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
from procorefs.tree.own_changes import LocalChanges
from procorefs.tree.rows import Known, Row
from procorefs.tree.tree_store import TreeStore


@dataclass(slots=True)
class Applied:
    """What one answer changed."""

    invalidations: list[Invalidation] = field(default_factory=list)
    changed: set[DocumentId] = field(default_factory=set)
    """Documents that are new, changed or removed."""
    overtaken: list[Document] = field(default_factory=list)
    """Documents that the answer does not speak for: a later request must ask for them."""

    def add(self, other: "Applied") -> None:
        self.invalidations += other.invalidations
        self.changed |= other.changed
        self.overtaken += other.overtaken


class DocumentWriter:
    """One transaction: what it has changed so far, and the folders it has met."""

    def __init__(
        self,
        store: TreeStore,
        local: LocalChanges,
        listing_pass: int,
        changes_since_s: int | None,
    ) -> None:
        """`changes_since_s`: all changes since then are being applied; None: they are not."""
        self._store = store
        self._local = local
        self._pass = listing_pass
        self._changes_since_s = changes_since_s
        self._folders: dict[DocumentId, Inode] = {}
        self._changed_listings: set[Inode] = set()
        """Folders whose listings are among the invalidations."""
        self._new_folders: set[Inode] = set()
        """Folders that came with this answer."""
        self._touched_folders: set[Inode] = set()
        """Folders whose times were set to now."""
        self._is_complete = store.sync.read().is_complete
        self._freed: list[tuple[Inode, bytes]] = []
        """Entries that were given up."""
        self.result = Applied()

    def write(self, documents: Iterable[Document]) -> None:
        deleted: list[tuple[Document, Known]] = []
        changed: list[tuple[Document, Known | None]] = []
        for document in {d.id: d for d in documents}.values():
            known = self._store.known(document.id)
            if known is not None:
                document = _completed(document, known.node)
            if known is not None and known.node.inode == ROOT:
                self._store.see(ROOT, self._pass, None)
            elif document.recycle_bin:
                self._write_bin(document, known)
            elif document.deleted and (known is None or known.node.state is State.EXPECTED):
                self._write_deleted(document, known)
            elif document.deleted and known is not None:
                deleted.append((document, known))
            elif known is None or not self._unchanged(document, known):
                changed.append((document, known))
        self.remove_deleted(known for _, known in deleted)
        for document, known in deleted:
            self._note_deleted(document, known.node)
        for document, known in changed:
            if known is not None and self._moves(document, known):
                self._give_up_entry(known.node)
        for document, known in sorted(changed, key=lambda pair: pair[0].id):
            self._place(document, known)

    def note_overtaken(self, documents: Iterable[Document]) -> None:
        """Note documents that the answer does not speak for: it shows only that they exist."""
        for document in documents:
            known = self._store.known(document.id)
            if known is not None and not document.deleted and not document.recycle_bin:
                version = known.node.version
                self._store.see(known.node.inode, self._pass, version.url if version is not None else None)
            self.result.overtaken.append(document)

    def remove_deleted(self, deleted: Iterable[Known]) -> None:
        """Remove deleted documents from the tree, folders before what is in them.

        What a deleted folder holds stays in it, unreachable: when the folder is restored, Procore need not list its
        contents as changed.
        """
        depths = [(self._store.depth(known.node.inode), known.node) for known in deleted]
        for _, node in sorted(((depth, node) for depth, node in depths if depth), key=lambda pair: pair[0]):
            if self._store.reachable(node.inode):
                self.remove([node])

    def remove(self, nodes: Iterable[Node]) -> None:
        for node in list(nodes):
            self._local.removing(node)
            self._give_up_entry(node)
            self._store.detach(node.inode, State.DELETED)
            self.result.invalidations.append(InodeChanged(node.inode, data=False))  # its link count is 0 now
            if node.document_id is not None:
                self.result.changed.add(node.document_id)

    def bind_root(self, document: Document) -> None:
        """Bind the root to its document; replaces a row that an earlier page made of it as of any folder."""
        known = self._store.known(document.id)
        if known is not None and known.node.inode != ROOT:
            self._store.adopt(known.node.inode, ROOT)
            self._store.orphan(known.node.inode)
            free_own_entry(self._store)
        self._store.bind_root(document.id, document.created_at_s, document.updated_at_s)

    def is_in_bin(self, document: Document) -> bool:
        if document.parent_id is None:
            return False
        parent = self._store.known(document.parent_id)
        return parent is not None and parent.node.state is State.BIN

    def give_freed_entries(self) -> None:
        """Give entries that became free to documents of that name, which were shown under a marked one."""
        while self._freed:
            folder, shown = self._freed.pop()
            node = self._store.give_entry(folder, shown)
            if node is not None:
                self._forget_entry(folder, node.shown)

    def _write_bin(self, document: Document, known: Known | None) -> None:
        if known is None:
            inode = self._store.insert(self._row(document, None, b"", State.BIN, None))
        else:
            inode = known.node.inode
            if known.node.state is not State.BIN:
                self._give_up_entry(known.node)
                self._store.detach(inode, State.BIN)
        self._store.see(inode, self._pass, None)

    def _write_deleted(self, document: Document, known: Known | None) -> None:
        """A deleted document that was never in the tree gets a row, so that it counts as deleted."""
        row = self._row(document, None, b"", State.DELETED, None)
        if known is None:
            self._store.insert(row)
        else:
            self._store.update(known.node.inode, row)
        self.result.changed.add(document.id)

    def _note_deleted(self, document: Document, node: Node) -> None:
        self._store.see(node.inode, self._pass, None)
        if document.updated_at_s != node.updated_at_s:
            self._store.touch(node.inode, document.updated_at_s)
            self.result.changed.add(document.id)

    def _unchanged(self, document: Document, known: Known) -> bool:
        """Whether the row equals the item; then it is only marked as seen."""
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
            and document.private in (None, node.private)
            and known.detail == encode_detail(document, known.detail)
        )
        if same:
            self._store.see(node.inode, self._pass, document.version.url if document.version else None)
        return same

    def _moves(self, document: Document, known: Known) -> bool:
        """Whether the document has another name or folder than its node."""
        return known.name != document.name or known.node.parent != self._folder_of(document)

    def _folder_of(self, document: Document) -> Inode | None:
        """The inode of a document's folder; a new row in state EXPECTED when the folder is not known yet.

        Only the root and the bin have no parent, so any other document without one is in the root. None: the parent
        that it names is no folder, so it is in no folder until an answer says otherwise.
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

    def _give_up_entry(self, node: Node) -> None:
        """Take a node out of its folder; its inode and what is below it stay."""
        if node.parent is None:
            return
        self._forget_entry(node.parent, node.shown)
        self._store.detach(node.inode, node.state)

    def _place(self, document: Document, known: Known | None) -> None:
        """Write a new or changed document; decides whether it keeps its inode."""
        folder = self._folder_of(document)
        known = known or self._store.known(
            document.id
        )  # a document that moved into it may have made an EXPECTED row
        detail = known.detail if known is not None else None
        old = (
            self._store.by_inode(known.node.inode) if known is not None else None
        )  # as _give_up_entry left it
        predecessor: Inode | None = None
        self.result.changed.add(document.id)
        if old is not None and old.is_folder and document.kind is Kind.FILE:
            self._store.release_children(old.inode)
        if old is not None and self._needs_new_inode(document, old):
            self._give_up_entry(old)
            self._store.orphan(old.inode)
            self.result.invalidations.append(InodeChanged(old.inode, data=False))  # its link count is 0 now
            predecessor, old = old.inode, None
        stays = old is not None and old.parent == folder
        shown = old.shown if old is not None and stays else self._entry_for(document, folder)
        row = self._row(document, folder, shown, State.LIVE, detail)
        if folder is not None and not stays:
            self._listing_changed(folder)
            if not full_width.is_plain(document.name):  # with invalid_names=encode another may show under it
                self.result.invalidations.append(EntryGone(folder, shown))
            if self._is_new_entry(folder):
                self._set_times(folder)
        if old is None:
            inode = self._store.insert(row)
            self._new_folders.add(inode)
            if predecessor is not None:
                self._local.succeeded(predecessor, inode)
        else:
            inode = old.inode
            self._store.update(inode, row)
            self._move_kept_ctime(document, old)
            is_newer, is_covered = not same_bytes(old.version, document.version), self._local.has_bytes(inode)
            if is_newer and is_covered and old.version is not None:
                self._local.covered(inode, old.version, document.version)
            data = is_newer and not is_covered
            self.result.invalidations.append(InodeChanged(inode, data=data))
        if document.kind is Kind.FOLDER and (old is None or old.state is not State.LIVE):
            self._store.set_listed(inode, self._holds_only_changes(document))
            if old is not None and old.state is State.DELETED:
                self._store.unlist_below(inode)
        self._folders.pop(document.id, None)

    def _move_kept_ctime(self, document: Document, old: Node) -> None:
        """Something else than the bytes changed in Procore: a ctime that was set here becomes now."""
        kept = old.kept
        if kept is not None and kept.ctime_ns is not None and same_bytes(old.version, document.version):
            ctime_ns = max(kept.ctime_ns, clocks.file_ns())
            self._store.keep(old.inode, msgspec.structs.replace(kept, ctime_ns=ctime_ns))

    def _holds_only_changes(self, document: Document) -> bool:
        """Whether the same poll brings everything that a folder new to the tree holds.

        Not so for a folder that was restored, or made visible to this user: what is in it need not have changed.
        """
        return self._changes_since_s is not None and document.created_at_s >= self._changes_since_s

    def _needs_new_inode(self, document: Document, node: Node) -> bool:
        """Whether the document continues under a new inode: other bytes while the old are open, or another kind."""
        if node.state is State.EXPECTED:
            return False
        if node.kind is not document.kind:
            return True
        if same_bytes(node.version, document.version) or self._local.has_bytes(node.inode):
            return False
        return self._local.is_open(node.inode)

    def _entry_for(self, document: Document, folder: Inode | None) -> bytes:
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
            private=is_private(document, detail),
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
        self._set_times(folder)

    def _is_new_entry(self, folder: Inode) -> bool:
        """Whether an entry of the folder that is new to the tree is new in Procore too."""
        if folder in self._new_folders:
            return False
        node = self._store.by_inode(folder)
        return node is not None and (node.listed or self._is_complete)

    def _set_times(self, folder: Inode) -> None:
        """A folder's entries changed: its mtime and ctime become now, as on a local disk."""
        if folder in self._touched_folders:
            return
        self._touched_folders.add(folder)
        node = self._store.by_inode(folder)
        if node is not None and node.state is State.LIVE:
            self._store.keep(folder, with_times(node.kept, clocks.file_ns()))
            self._local.entries_changed(folder)

    def _listing_changed(self, folder: Inode) -> None:
        """Add the invalidation once a folder."""
        if folder not in self._changed_listings:
            self._changed_listings.add(folder)
            self.result.invalidations.append(ListingChanged(folder))


def _is_taken(store: TreeStore, folder: Inode, entry: bytes) -> bool:
    return is_own_entry(folder, entry) or store.has_entry(folder, entry)


def free_own_entry(store: TreeStore) -> None:
    """Show a document named as the mount's own entry under a marked name: an earlier version gave it that entry."""
    node = store.child(ROOT, OWN_ENTRY)
    if node is not None:
        mark = node.document_id or node.inode
        store.show(
            node.inode, shown_name(OWN_ENTRY.decode(), mark, lambda entry: _is_taken(store, ROOT, entry))
        )


def _completed(document: Document, node: Node) -> Document:
    """The document, completed from the node with what this kind of answer does not say."""
    if document.read_only is not None and document.created_at_s and document.updated_at_s:
        return document
    return msgspec.structs.replace(
        document,
        read_only=node.read_only if document.read_only is None else document.read_only,
        created_at_s=document.created_at_s or node.created_at_s,
        updated_at_s=document.updated_at_s or node.updated_at_s,
    )
