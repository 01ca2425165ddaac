"""The tree as programs see it: what Procore has, with the local changes applied to it.

    store (Procore's) + changes (ours) ─▶ nodes, entries, listings, paths

A change with a place of its own hides its document's entry and shows its own; a removed one hides it. An entry of
ours shadows one of Procore's with the same name: the two become one when ours is sent. All calls are synchronous: what
one of them reads is one moment.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import cachetools
import msgspec

from procorefs.journal.change import Change, Location
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.procore.wire.models import DocumentId, Version
from procorefs.tree.naming.full_width import EntryNames
from procorefs.tree.nodes import ROOT, Inode, Kept, Node, State
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.folder_times import FolderTimes

DEAD_FOLDERS = 4096
"""How many removed folders keep their attributes for programs that may still have them open."""


@dataclass(slots=True)
class _FolderEntries:
    """The entries that changes add to one folder."""

    names: dict[bytes, Inode] = field(default_factory=dict)
    order: list[Inode] = field(default_factory=list)
    """The same inodes in ascending order, the order of a listing."""


class View:
    """Reads the tree with the changes applied to it. Only the change store calls `show` and `hide`."""

    def __init__(
        self, store: TreeStore, dirty_files: DirtyFiles, calls: InFlightCalls, *, encodes_names: bool = False
    ) -> None:
        self.store = store
        self.names = EntryNames(self._has_name, encodes=encodes_names)
        self._dirty_files = dirty_files
        self._calls = calls
        self._changes: dict[Inode, Change] = {}
        self._entries: dict[Inode, _FolderEntries] = {}
        self._pending_copies: dict[DocumentId, set[Inode]] = {}
        self._hidden: dict[Inode, Change] | None = None  # in the open transaction
        self._detached: dict[Inode, Node] = {}  # unlinked here, never in Procore, still open
        self._dead_folders: cachetools.LRUCache[Inode, Node] = cachetools.LRUCache(DEAD_FOLDERS)
        """Folders that were removed here and never in Procore. A program may be in there, and no request tells when
        it leaves."""
        self._moves = 0
        self.folder_times = FolderTimes()

    # Changes

    def change(self, inode: Inode) -> Change | None:
        return self._changes.get(inode)

    def changes(self) -> list[Change]:
        return list(self._changes.values())

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def moves(self) -> tuple[int, int]:
        """A count that grows whenever a folder may show at another place."""
        return self._moves, self.store.moves

    def show(self, change: Change) -> None:
        """Show a hidden change. Its place and content source may change only while it is hidden."""
        self._changes[change.inode] = change
        if change.content_source is not None:
            self._pending_copies.setdefault(change.content_source, set()).add(change.inode)
        self._moves += change.is_folder
        location = change.location
        if location is not None:
            own = self._entries.get(location.folder)
            if own is None:
                own = self._entries[location.folder] = _FolderEntries()
            own.names[location.shown] = change.inode
            insort(own.order, change.inode)

    def hide(self, change: Change) -> None:
        """Hide a change."""
        self._moves += change.is_folder
        del self._changes[change.inode]
        if self._hidden is not None:
            self._hidden.setdefault(change.inode, change)
        if change.content_source is not None:
            self._pending_copies[change.content_source].discard(change.inode)
            if not self._pending_copies[change.content_source]:
                del self._pending_copies[change.content_source]
        if change.location is not None:
            own = self._entries[change.location.folder]
            if own.names.get(change.location.shown) == change.inode:
                del own.names[change.location.shown]
            del own.order[bisect_right(own.order, change.inode) - 1]
            if not own.order:
                del self._entries[change.location.folder]

    def begin_transaction(self) -> None:
        """Keep the changes that are hidden from now on, for `restore`."""
        self._hidden = {}

    def end_transaction(self) -> None:
        self._hidden = None

    def restore(self, rows: list[Change]) -> set[Inode]:
        """Show exactly these rows of the journal. Each change stays the same object, because a call may be sent for
        it.

        Returns the inodes of all that were altered, including those that have no change any more.
        """
        before, self._changes, self._entries, self._pending_copies = self._changes, {}, {}, {}
        originals, self._hidden = before | (self._hidden or {}), None
        altered = set()
        for row in rows:
            change = originals.get(row.inode, row)
            if change != row or before.get(row.inode) is not change:
                altered.add(row.inode)
                _set_fields(change, row)
            self.show(change)
        return altered | (before.keys() - self._changes.keys())

    def pending_copy_of(self, document: DocumentId) -> Inode | None:
        """A change that still needs bytes of the document's versions."""
        needing = (
            inode for inode in self._pending_copies.get(document, ()) if self._changes[inode].needs_version
        )
        return next(needing, None)

    def filled_folders(self) -> list[Inode]:
        """The folders that changes add entries to."""
        return list(self._entries)

    def shown_in(self, folder: Inode) -> list[Inode]:
        """The inodes that changes add to a folder."""
        own = self._entries.get(folder)
        return list(own.order) if own is not None else []

    def detach(self, inode: Inode) -> None:
        """Keep the attributes of a removed node that Procore never had, for programs that have it open."""
        node = self.by_inode(inode)
        if node is not None:
            detached = self._dead_folders if node.is_folder else self._detached
            detached[inode] = msgspec.structs.replace(node, parent=None)

    def forget_detached(self, inode: Inode) -> None:
        self._detached.pop(inode, None)

    def keep_detached(self, inode: Inode, kept: Kept) -> bool:
        """Keep attributes of a detached node; False if it is not detached."""
        for detached in (self._detached, self._dead_folders):
            node = detached.get(inode)
            if node is not None:
                detached[inode] = msgspec.structs.replace(node, kept=kept)
                return True
        return False

    def entries_changed(self, folder: Inode) -> None:
        """Set the mtime of a folder to now, because its entries changed."""
        self.folder_times.changed(folder)

    # Nodes

    def by_inode(self, inode: Inode) -> Node | None:
        change = self._changes.get(inode)
        is_local = change is not None and change.document is None
        node = None if is_local else self.store.by_inode(inode)
        if change is not None:
            node = self._with_change(node, change)
        if node is None:
            node = self._detached.get(inode) or self._dead_folders.get(inode)
            if node is None:
                return None
        return self._with_local(node)

    def _with_change(self, node: Node | None, change: Change) -> Node:
        location = change.location
        if node is None or change.document is None or node.document_id != change.document:
            node = _local_node(change, location)
        elif location is not None:
            node = msgspec.structs.replace(
                node, parent=location.folder, shown=location.shown, state=State.LIVE, kept=change.kept
            )
        elif change.is_removed:
            node = msgspec.structs.replace(node, parent=None, kept=change.kept)
        else:
            node = msgspec.structs.replace(node, kept=change.kept)
        if change.pending_copy is not None:
            node = msgspec.structs.replace(node, version=change.pending_copy, defect="")
        return node

    def _with_local(self, node: Node) -> Node:
        if node.is_folder:
            changed_ns = self.folder_times.of(node.inode)
            if changed_ns is None:
                return node
            kept = msgspec.structs.replace(node.kept or Kept(), mtime_ns=changed_ns, ctime_ns=changed_ns)
            return msgspec.structs.replace(node, kept=kept)
        dirty_file = self._dirty_files.get(node.inode)
        if dirty_file is None:
            change = self._changes.get(node.inode)
            if change is None or change.shown is None:
                return node
            return msgspec.structs.replace(node, local_size_bytes=change.shown.size_bytes)
        if dirty_file.mtime_ns is None:
            if node.version is not None and dirty_file.clean == node.version.id and not dirty_file.is_changed:
                return node  # it is only open for writing
            return msgspec.structs.replace(node, local_size_bytes=dirty_file.file.size_bytes)
        kept = msgspec.structs.replace(
            node.kept or Kept(), mtime_ns=dirty_file.mtime_ns, ctime_ns=dirty_file.mtime_ns
        )
        return msgspec.structs.replace(node, local_size_bytes=dirty_file.file.size_bytes, kept=kept)

    def child(self, folder: Inode, shown: bytes) -> Node | None:
        own = self._entries.get(folder)
        if own is not None and (inode := own.names.get(shown)) is not None:
            return self.by_inode(inode)
        if not self.lists_store(folder):
            return None
        node = self.store.child(folder, shown)
        if node is None:
            return None
        return self._visible(node)

    def _has_name(self, folder: Inode, name: bytes) -> bool:
        """Whether an entry has the name, or a document in Procore that is to leave it.

        That document does not count any more when a new entry, which is not its successor, shows under the name.
        """
        if self.child(folder, name) is not None:
            return True
        if not self.lists_store(folder) or self.store.child(folder, name) is None:
            return False
        own = self._entries.get(folder)
        return own is None or self.names.encoded(name) not in own.names

    def entry(self, folder: Inode, name: bytes) -> Node | None:
        """The node that programs see under a name."""
        return self.child(folder, self.names.to_procore(folder, name))

    def _visible(self, node: Node) -> Node | None:
        """A node of the tree as it shows in its folder; None if a change has moved it elsewhere."""
        change = self._changes.get(node.inode)
        if change is not None:
            if not change.is_following:
                return None
            return self._with_local(self._with_change(node, change))
        return None if self._calls.may_have_made(node) else self._with_local(node)

    def lists_store(self, folder: Inode) -> bool:
        """Whether the folder shows what the tree has in it: not if Procore removed it and only local entries remain."""
        change = self._changes.get(folder)
        return change is None or change.document is not None

    def children(self, folder: Inode, *, after: int = 0, limit: int = -1) -> list[Node]:
        """The entries in the order of their inodes; `limit` of them, and fewer only at the end."""
        own = self._entries.get(folder)
        if not self._changes:
            return [self._with_local(node) for node in self.store.children(folder, after=after, limit=limit)]
        found: list[Node] = []
        for node in self._merged(folder, own, after, limit):
            found.append(node)
            if len(found) == limit:
                break
        return found

    def _merged(self, folder: Inode, own: _FolderEntries | None, after: int, limit: int) -> Iterator[Node]:
        ours = own.order[bisect_right(own.order, after) :] if own is not None else []
        position = 0
        for node in self._stored(folder, own, after, limit):
            while position < len(ours) and ours[position] < node.inode:
                yield from self._own(ours[position])
                position += 1
            yield node
        for inode in ours[position:]:
            yield from self._own(inode)

    def _own(self, inode: Inode) -> Iterator[Node]:
        node = self.by_inode(inode)
        if node is not None:
            yield node

    def _stored(self, folder: Inode, own: _FolderEntries | None, after: int, limit: int) -> Iterator[Node]:
        if not self.lists_store(folder):
            return
        while batch := self.store.children(folder, after=after, limit=limit):
            for node in batch:
                shadowed = own is not None and node.shown in own.names
                if not shadowed and (visible := self._visible(node)) is not None:
                    yield visible
            if limit < 0 or len(batch) < limit:
                return
            after = batch[-1].inode

    def is_empty(self, folder: Inode) -> bool:
        """Whether the folder shows no entry."""
        return not self.children(folder, limit=1)

    # Paths

    def parent(self, inode: Inode) -> tuple[Inode, bytes] | None:
        """Folder and node of a node that shows; None if it has no place or is the root."""
        change = self._changes.get(inode)
        if change is not None and not change.is_following:
            return (change.location.folder, change.location.shown) if change.location is not None else None
        node = self.store.by_inode(inode)
        if node is None or not node.in_tree or node.parent is None:
            return None
        return node.parent, node.shown

    def place(self, inode: Inode) -> tuple[tuple[Inode, bytes], ...] | None:
        """Folder and name of a node and of each folder above it; None if no path leads to it from the root."""
        if not self._changes:
            return self.store.place(inode)
        chain: list[tuple[Inode, bytes]] = []
        at = inode
        while at != ROOT and len(chain) < DEEPEST:
            step = self.parent(at)
            if step is None or (step[0] != ROOT and self._hides_entry(step, at)):
                return None
            chain.append(step)
            at = step[0]
        return tuple(chain) if at == ROOT else None

    def _hides_entry(self, step: tuple[Inode, bytes], inode: Inode) -> bool:
        """Whether a node without a local place is in a folder that shows only local entries."""
        change = self._changes.get(inode)
        return (change is None or change.is_following) and not self.lists_store(step[0])

    def reachable(self, inode: Inode) -> bool:
        return self.place(inode) is not None

    def path(self, inode: Inode) -> str:
        """The path below the mount point, for people; '' for the root, and only the name of a node without a place."""
        if not self._changes and not self.names.encodes:
            return self.store.path(inode)
        place = self.place(inode)
        if place is None:
            node = self.by_inode(inode)
            return node.shown.decode("utf-8", "replace") if node is not None else ""
        return self._joined(place)

    def location_in_procore(self, node: Node) -> Location | None:
        """Where Procore has a node's document, or gets it by a call that is open; None: nowhere."""
        change = self.change(node.inode)
        document = change.document if change is not None else node.document_id
        known = self.store.known(document) if document is not None else None
        if known is not None:
            return Location(known.node.parent or ROOT, known.name)
        return change.location if change is not None and self._calls.makes(node.inode) else None

    def path_in_procore(self, inode: Inode) -> str:
        """The path at which Procore has a document, which may be hidden here or show elsewhere."""
        place = self.store.place(inode) if self.names.encodes else None
        return self.store.path(inode) if place is None else self._joined(place)

    def path_of_entry(self, folder: Inode, shown: bytes) -> str:
        """The path of an entry that need not exist."""
        return (
            f"{self.path(folder)}/{self.names.to_programs(folder, shown).decode('utf-8', 'replace')}".lstrip(
                "/"
            )
        )

    def _joined(self, place: tuple[tuple[Inode, bytes], ...]) -> str:
        names = (self.names.to_programs(folder, shown) for folder, shown in reversed(place))
        return "/".join(name.decode("utf-8", "replace") for name in names)

    def is_within(self, inode: Inode, folder: Inode) -> bool:
        """Whether a node is the folder or is below it."""
        if inode == folder:
            return True
        place = self.place(inode)
        return place is not None and any(above == folder for above, _ in place)

    def descendants(self, folder: Inode) -> Iterator[Node]:
        """All nodes that show below a folder, each folder before its entries."""
        for node in self.children(folder):
            yield node
            if node.is_folder:
                yield from self.descendants(node.inode)

    def version(self, inode: Inode) -> Version | None:
        """The version of Procore that the inode shows, or that is the base of what is written."""
        node = self.by_inode(inode)
        return node.version if node is not None else None


def _set_fields(change: Change, row: Change) -> None:
    for name in row.__struct_fields__:
        setattr(change, name, getattr(row, name))


def _local_node(change: Change, location: Location | None) -> Node:
    """The node of a change that has no document."""
    made_s = int(change.created_at_s)
    return Node(
        inode=change.inode,
        parent=location.folder if location is not None else None,
        shown=location.shown if location is not None else b"",
        document_id=None,
        kind=change.kind,
        state=State.LIVE,
        listed=True,
        read_only=False,
        created_at_s=made_s,
        updated_at_s=made_s,
        version=None,
        defect="",
        kept=change.kept,
    )


class Following(Protocol):
    """The calls of the follower that are needed here; they raise ProcoreError."""

    async def children_known(self, folder: Inode, *, soon: bool = False) -> None: ...

    def is_listed(self, folder: Inode) -> bool: ...

    async def poll_if_due(self) -> None: ...


async def find_child(view: View, follower: Following, folder: Inode, name: bytes) -> Node | None:
    """What programs see under a name. Only if there is nothing, the folder is listed or a due poll is made."""
    node = view.entry(folder, name)
    if node is None:
        await follower.children_known(folder, soon=True)
        node = view.entry(folder, name)
    if node is None:
        await follower.poll_if_due()
        node = view.entry(folder, name)
    return node
