"""Absorbing what Procore lists: documents become rows, and out comes what the kernel must forget.

One `absorb` is one transaction. Within it every node that moves lets go of its entry first, so that two documents
that swapped names don't stand in each other's way. A document whose item names a folder that was not listed yet hangs
below a row in state EXPECTED, which no path reaches until the folder's own item comes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from procorefs.procore.models import Document, DocumentId, FolderListing, Person, Version
from procorefs.tree.names import shown_name
from procorefs.tree.nodes import ROOT, EntryGone, Forget, Inode, InodeChanged, ListingChanged, Node, State
from procorefs.tree.store import Known, Row, TreeStore


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Procore says of a document beyond what file operations need."""

    created_by: Person | None = None
    version_by: Person | None = None
    description: str = ""
    file_type: str = ""
    tracked: bool | None = None
    private: bool | None = None
    checked_out_by: Person | None = None
    checked_out_until_s: int | None = None
    custom_fields: dict[str, object] = {}


@dataclass(slots=True)
class Absorbed:
    """What one answer changed."""

    forget: list[Forget] = field(default_factory=list)
    removed: list[DocumentId] = field(default_factory=list)
    """Documents that left the tree by themselves, in their folder's place what lay below them."""
    apart: int = 0
    """Listed items that are no live document: the root, the recycle bin, deleted ones."""
    first_seen: int = 0
    """Documents that this pass of the full listing had not met before."""

    def add(self, other: "Absorbed") -> None:
        self.forget += other.forget
        self.removed += other.removed
        self.apart += other.apart
        self.first_seen += other.first_seen


class Turnstile:
    """Which of two answers is newer, by when each was asked for.

    Answers overtake each other: a page asked for before a look must not undo what the look told. So every request takes
    a number before it is sent, and each document remembers the number of the answer it was last taken from, as long as
    an older request is still under way.
    """

    def __init__(self) -> None:
        self._next = 1
        self._under_way: set[int] = set()
        self._taken: dict[DocumentId, int] = {}

    def enter(self) -> int:
        number = self._next
        self._next += 1
        self._under_way.add(number)
        return number

    def leave(self, number: int) -> None:
        self._under_way.discard(number)
        oldest = min(self._under_way, default=self._next)
        if oldest == self._next:
            self._taken.clear()

    def admit(self, document_id: DocumentId, number: int) -> bool:
        """Whether the answer to request `number` may still speak for the document; if so, it does from now on."""
        if self._taken.get(document_id, 0) > number:
            return False
        if len(self._under_way) > 1:
            self._taken[document_id] = number
        return True


class Absorber:
    """Writes documents into the store; the only writer of nodes that come from Procore."""

    def __init__(self, store: TreeStore, is_open: Callable[[Inode], bool]) -> None:
        self._store = store
        self._is_open = is_open
        self.turnstile = Turnstile()

    def absorb(self, documents: Iterable[Document], *, asked: int, listing_pass: int) -> Absorbed:
        """Take up a page of the project's list. `asked`: the request's number from the turnstile."""
        admitted = [d for d in documents if self.turnstile.admit(d.id, asked)]
        with self._absorption(listing_pass) as absorption:
            absorption.take(admitted)
        return absorption.result

    def absorb_folder(
        self, listing: FolderListing, folder: Inode, *, asked: int, listing_pass: int
    ) -> Absorbed:
        """Take up one folder with all its children: what is not among them is not there any more."""
        admitted = [d for d in listing.children if self.turnstile.admit(d.id, asked)]
        here = {d.id for d in listing.children}
        with self._absorption(listing_pass) as absorption:
            if folder == ROOT:
                absorption.bind_root(listing.folder)
            absorption.take(admitted)
            absorption.remove(
                node
                for node in self._store.children(folder)
                if node.document_id is not None
                and node.document_id not in here
                and self.turnstile.admit(node.document_id, asked)
            )
            self._store.set_listed(folder)
        return absorption.result

    def absorb_deleted(self, documents: Iterable[Document], *, asked: int) -> Absorbed:
        """Take up a page of the recycle bin's list.

        Only what says of itself that it is deleted, or lies right in the bin, is removed: what lies below a deleted
        folder went with it, and a server that ignores the filter must not empty the tree.
        """
        with self._absorption(0) as absorption:
            absorption.remove(
                known.node
                for document in documents
                if (known := self._store.known(document.id)) is not None
                and known.node.in_tree
                and known.node.inode != ROOT
                and (document.deleted or absorption.in_bin(document))
                and self.turnstile.admit(document.id, asked)
            )
        return absorption.result

    def remove(self, nodes: Iterable[Node]) -> Absorbed:
        """Take documents out of the tree that a full listing did not see."""
        with self._absorption(0) as absorption:
            absorption.remove(nodes)
        return absorption.result

    @contextmanager
    def _absorption(self, listing_pass: int) -> Iterator["_Absorption"]:
        with self._store.transaction():
            yield _Absorption(self._store, self._is_open, listing_pass)


class _Absorption:
    """One transaction: what was changed so far, and the folders it met."""

    def __init__(self, store: TreeStore, is_open: Callable[[Inode], bool], listing_pass: int) -> None:
        self._store = store
        self._is_open = is_open
        self._pass = listing_pass
        self._folders: dict[DocumentId, Inode] = {}
        self._served: dict[Inode, bool] = {}
        self.result = Absorbed()

    def take(self, documents: Sequence[Document]) -> None:
        changed: list[tuple[Document, Known | None]] = []
        for document in documents:
            known = self._store.known(document.id)
            if document.recycle_bin:
                self._take_bin(document, known)
            elif document.deleted:
                self._take_deleted(known)
            elif known is not None and known.node.inode == ROOT:
                self.result.apart += 1
            else:
                self.result.first_seen += known is None or known.listing_pass < self._pass
                if known is None or not self._unchanged(document, known):
                    changed.append((document, known))
        for document, known in changed:
            if known is not None and self._moves(document, known):
                self._let_go(known.node)
        for document, known in sorted(changed, key=lambda pair: pair[0].id):
            self._place(document, known)

    def remove(self, nodes: Iterable[Node]) -> None:
        for node in list(nodes):
            self._let_go(node)
            self._store.detach(node.inode, State.DELETED)
            self.result.forget.append(InodeChanged(node.inode, data=False))  # it has no link any more
            if node.document_id is not None:
                self.result.removed.append(node.document_id)

    def bind_root(self, document: Document) -> None:
        """Tell the root its document; one that came in a page before, as a folder like any other, gives way."""
        known = self._store.known(document.id)
        if known is not None and known.node.inode != ROOT:
            self._store.adopt(known.node.inode, ROOT)
            self._store.orphan(known.node.inode)
        self._store.bind_root(document.id, document.created_at_s, document.updated_at_s, self._pass)

    def in_bin(self, document: Document) -> bool:
        if document.parent_id is None:
            return False
        parent = self._store.known(document.parent_id)
        return parent is not None and parent.node.state is State.BIN

    def _take_bin(self, document: Document, known: Known | None) -> None:
        self.result.apart += 1
        if known is None:
            self._store.insert(self._row(document, None, b"", State.BIN, None))
        elif known.node.state is not State.BIN:
            self._let_go(known.node)
            self._store.detach(known.node.inode, State.BIN)

    def _take_deleted(self, known: Known | None) -> None:
        self.result.apart += 1
        if known is not None and known.node.state is State.LIVE and known.node.inode != ROOT:
            self.remove([known.node])

    def _unchanged(self, document: Document, known: Known) -> bool:
        """Whether the row says already what the item says; then it is only noted as seen."""
        node = known.node
        same = (
            node.state is State.LIVE
            and not self._moves(document, known)
            and node.kind is document.kind
            and node.updated_at_s == document.updated_at_s
            and same_bytes(node.version, document.version)
            and node.defect == document.defect
            and (document.read_only is None or node.read_only == document.read_only)
            and known.detail == encode_detail(document, known.detail)
        )
        if same:
            self._store.see(node.inode, self._pass, document.version.url if document.version else None)
        return same

    def _moves(self, document: Document, known: Known) -> bool:
        """Whether the document's entry is another than the node's, in name or folder."""
        node = known.node
        return node.parent is None or known.name != document.name or node.parent != self._folder_of(document)

    def _folder_of(self, document: Document) -> Inode:
        """The inode of a document's folder; a row that expects the folder when it is not known yet.

        Only the root and the bin have no parent, so anything else without one lies in the root.
        """
        parent_id = document.parent_id
        if parent_id is None:
            return ROOT
        inode = self._folders.get(parent_id)
        if inode is None:
            known = self._store.known(parent_id)
            inode = known.node.inode if known is not None else self._store.expect(parent_id)
            self._folders[parent_id] = inode
        return inode

    def _let_go(self, node: Node) -> None:
        """Free a node's entry; its inode and what lies below stay."""
        if node.parent is None:
            return
        self.result.forget.append(EntryGone(node.parent, node.shown))
        self._listing_changed(node.parent)
        self._store.detach(node.inode, node.state)

    def _place(self, document: Document, known: Known | None) -> None:
        """Write a new or changed document; decides whether its inode goes on."""
        folder = self._folder_of(document)
        detail = known.detail if known is not None else None
        old = self._store.by_inode(known.node.inode) if known is not None else None  # as _let_go left it
        if old is not None and self._succeeds(document, old):
            self._let_go(old)
            self._store.orphan(old.inode)
            self.result.forget.append(InodeChanged(old.inode, data=False))  # it has no link any more
            self._folders.pop(document.id, None)
            known = old = None
        stays = old is not None and old.parent == folder
        shown = old.shown if old is not None and stays else self._free_entry(document, folder)
        row = self._row(document, folder, shown, State.LIVE, detail, old)
        if not stays:
            self._listing_changed(folder)
        if old is None:
            self._store.insert(row)
            return
        self._store.update(old.inode, row)
        if old.state is State.LIVE:
            data = not same_bytes(old.version, document.version)
            self.result.forget.append(InodeChanged(old.inode, data=data))

    def _succeeds(self, document: Document, node: Node) -> bool:
        """Whether the document goes on under a new inode: other bytes while somebody reads the old, or another kind."""
        if node.state is State.EXPECTED:
            return False
        if node.kind is not document.kind:
            return True
        return not same_bytes(node.version, document.version) and self._is_open(node.inode)

    def _free_entry(self, document: Document, folder: Inode) -> bytes:
        return shown_name(document.name, document.id, lambda entry: self._store.has_entry(folder, entry))

    def _row(
        self,
        document: Document,
        folder: Inode | None,
        shown: bytes,
        state: State,
        detail: bytes | None,
        old: Node | None = None,
    ) -> Row:
        read_only = document.read_only
        if read_only is None:
            read_only = old.read_only if old is not None else False
        return Row(
            parent=folder,
            shown=shown,
            name=document.name,
            document_id=document.id,
            kind=document.kind,
            state=state,
            read_only=read_only,
            created_at_s=document.created_at_s,
            updated_at_s=document.updated_at_s,
            version=document.version,
            defect=document.defect,
            detail=encode_detail(document, detail),
            listing_pass=self._pass,
        )

    def _listing_changed(self, folder: Inode) -> None:
        """Note it once a folder; the kernel can only have cached one that was served, and only listed ones are."""
        if folder in self._served:
            return
        node = self._store.by_inode(folder)
        self._served[folder] = node is not None and node.listed
        if self._served[folder]:
            self.result.forget.append(ListingChanged(folder))


def same_bytes(one: Version | None, other: Version | None) -> bool:
    """Whether two answers speak of the same bytes.

    The number is not compared: it may move with a rename or a check-out (procore-api.md, Open questions).
    """
    if one is None or other is None:
        return one is other
    return (one.id, one.size_bytes, one.created_at_s) == (other.id, other.size_bytes, other.created_at_s)


def encode_detail(document: Document, known: bytes | None) -> bytes:
    """A document's detail as JSON; what this kind of answer does not say stays as it was known."""
    old = msgspec.json.decode(known, type=Detail) if known and known != b"{}" else Detail()
    version_by = document.version.created_by if document.version else None
    return msgspec.json.encode(
        Detail(
            created_by=document.created_by or old.created_by,
            version_by=version_by or old.version_by,
            description=document.description,
            file_type=document.file_type,
            tracked=document.tracked if document.tracked is not None else old.tracked,
            private=document.private if document.private is not None else old.private,
            checked_out_by=document.checked_out_by,
            checked_out_until_s=document.checked_out_until_s,
            custom_fields=document.custom_fields,
        )
    )
