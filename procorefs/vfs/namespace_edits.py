"""Creates, renames and removes entries, and sets metadata: checks the request, then journals the change.

    namespace_edits (entries) ─▶ document_takeover (which document) ─▶ change_store (view and journal)
                          write_sessions (bytes) ─────────────────────▶

Each call is one transaction, journaled before it returns; none waits for the network.
"""

from collections.abc import Collection
from dataclasses import dataclass

import msgspec

from procorefs.journal.change import Change, Location, MetadataPatch, Open, Pending, Placed
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.metadata_patch import lacking
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import Kind
from procorefs.storage import clocks
from procorefs.tree.document_detail import Detail, decode_detail
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.naming.name_rules import entry_refusal, name_refusal
from procorefs.tree.nodes import ROOT, Inode, Kept, Node
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.document_takeover import DocumentTakeover
from procorefs.vfs.local_work import LocalWork
from procorefs.vfs.refusals import (
    Exists,
    IntoItself,
    IsAFolder,
    NameRefused,
    NoSuchEntry,
    NotAFolder,
    NotEmpty,
    NotPermitted,
    WriteAccess,
    check_own,
    encoded_name,
    needed_to_rename,
    needed_to_set,
)
from procorefs.vfs.view import View
from procorefs.vfs.write_sessions import WriteSessions


class NamespaceEdits:
    """The operations of programs on entries and their metadata. All raise ChangeRefused."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        calls: InFlightCalls,
        fates: ChangeFate,
        changes: ChangeStore,
        takeover: DocumentTakeover,
        access: WriteAccess,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._calls = calls
        self._fates = fates
        self._changes = changes
        self._takeover = takeover
        self._access = access

    def create(self, folder: Inode, name: bytes, kept: Kept) -> Node:
        """Create an empty file with a dirty file that is not flushed yet."""
        self._check_new(folder, name, is_folder=False)
        inode = self._changes.reserve_inode()
        dirty_file = self._dirty_files.begin(inode, None)
        try:
            dirty_file.promised_bytes = 0  # its row records that it is open
            change = self._new(inode, Kind.FILE, Location(folder, name.decode()), kept)
            change.is_junk = self._fates.may_be_junk(name.decode())
            change.progress = Open()
            change.want_bytes(dirty_file.file.record())
            if self._takeover.departed(change) is None:
                self._changes.add(change)
            else:
                with self._changes.transaction():
                    self._takeover.inherit(change)
                    self._changes.add(change)
        except BaseException:
            self._dirty_files.drop(inode)
            raise
        return self._changes.node(inode)

    def make_folder(self, folder: Inode, name: bytes, kept: Kept) -> Node:
        self._check_new(folder, name, is_folder=True)
        inode = self._changes.reserve_inode()
        change = self._new(inode, Kind.FOLDER, Location(folder, name.decode()), kept)
        with self._changes.transaction():
            departed = self._takeover.departed(change)
            if departed is not None and departed.document is not None:
                return self._takeover.restore_folder(departed, change)
            self._changes.add(change)
        return self._changes.node(inode)

    def _check_new(self, folder: Inode, name: bytes, *, is_folder: bool) -> None:
        """Raise ChangeRefused if the entry cannot be created there."""
        self._check_folder(folder)
        if self._view.child(folder, name) is not None:
            raise Exists
        self._access.check_rights({"write"}, self._path_of(folder, name))
        self._check_entry(folder, name)
        kind = Kind.FOLDER if is_folder else Kind.FILE
        leaving = self._takeover.leaving(Location(folder, name.decode()), kind)
        if leaving is None:  # else the document keeps its name
            self._check_name(folder, name, is_folder=is_folder)

    def _check_folder(self, folder: Inode) -> None:
        node = self._view.by_inode(folder)
        if node is None or not self._view.reachable(folder):
            raise NoSuchEntry
        if not node.is_folder:
            raise NotAFolder
        if node.read_only:
            raise NotPermitted("Procore has this folder read-only", path=self._view.path(folder))
        change = self._view.change(folder)
        if change is not None and change.document is None and change.state is ChangeState.FAILED:
            raise NotPermitted(
                f"Procore refused this folder itself: {change.reason}", path=self._view.path(folder)
            )

    def _check_entry(self, folder: Inode, name: bytes) -> None:
        """The checks for all names, new or not."""
        check_own(folder, name)
        refusal = entry_refusal(name)
        if refusal is not None:
            raise NameRefused(self._path_of(folder, name), refusal)

    def _check_name(
        self,
        folder: Inode,
        name: bytes,
        *,
        is_folder: bool,
        has_document: bool = False,
        longest_below: int = 0,
    ) -> None:
        refusal = self._fates.refusal(
            folder, name, is_folder=is_folder, has_document=has_document, longest_below=longest_below
        )
        if refusal is not None:
            raise NameRefused(self._path_of(folder, name), refusal)

    def _path_of(self, folder: Inode, name: bytes) -> str:
        return self._view.path_of_entry(folder, name)

    def _new(self, inode: Inode, kind: Kind, place: Location, kept: Kept) -> Change:
        now_ns = clocks.file_ns()
        kept = msgspec.structs.replace(kept, mtime_ns=now_ns, ctime_ns=now_ns)
        now_s = clocks.unix_s()
        return Change(inode, kind, Placed(place), kept=kept, created_at_s=now_s, touched_at_s=now_s)

    def unlink(self, folder: Inode, name: bytes) -> Inode:
        node = self._entry(folder, name)
        if node.is_folder:
            raise IsAFolder
        self._access.check(node)
        self._check_removable(node)
        self._takeover.remove(node)
        self._view.entries_changed(folder)
        return node.inode

    def remove_folder(self, folder: Inode, name: bytes) -> Inode:
        """Remove an empty folder. What Procore may still have in it is checked before it is deleted there."""
        node = self._entry(folder, name)
        if not node.is_folder:
            raise NotAFolder
        self._access.check(node)
        self._check_removable(node)
        self._check_empty(node)
        self._takeover.remove(node)
        self._view.entries_changed(folder)
        return node.inode

    def _check_removable(self, node: Node) -> None:
        """Raises NotPermitted for a document that the account may not delete; what Procore lacks can always go."""
        if self._has_document(node):
            self._access.check_rights({"delete"}, self._view.path(node.inode))

    def _check_empty(self, node: Node) -> None:
        if not self._view.is_empty(node.inode):
            raise NotEmpty
        if not node.listed and self._view.change(node.inode) is None:
            raise NotEmpty(f"{self._view.path(node.inode)!r} was never listed: list it first")

    def rename(
        self, folder: Inode, name: bytes, new_folder: Inode, new_name: bytes, *, replaces: bool = True
    ) -> Node | None:
        """Rename an entry and return the one that it replaced. With `replaces` False, raise Exists instead."""
        source = self._entry(folder, name)
        self._check_folder(new_folder)
        target = self._view.child(new_folder, new_name)
        if target is not None and not replaces:
            raise Exists
        if target is not None and target.inode == source.inode:
            return None
        self._check_move(source, target, new_folder, new_name)
        place = Location(new_folder, new_name.decode())
        with self._changes.transaction():
            change = self._changes.change_of(source)
            if target is not None:
                self._takeover.take_over(change, source, target)
            elif self._takes_name_of_leaving(source, place):
                self._takeover.give_up_document(change, source)
            self._move(change, place)
        self._view.entries_changed(folder)
        self._view.entries_changed(new_folder)
        return target

    def _check_move(self, source: Node, target: Node | None, new_folder: Inode, new_name: bytes) -> None:
        self._access.check(source)
        if source.is_folder and self._view.is_within(new_folder, source.inode):
            raise IntoItself
        if target is not None:
            self._check_replaceable(source, target)
        self._check_new_place(source, new_folder, new_name, target)
        self._check_rename_rights(source, target, Location(new_folder, new_name.decode()))

    def _check_rename_rights(self, source: Node, target: Node | None, place: Location) -> None:
        needed = needed_to_rename(
            self._view.location_in_procore(source),
            place,
            is_folder=source.is_folder,
            replaces_document=target is not None and self._has_document(target),
            is_sent=self._fates.fate(place, is_folder=source.is_folder) is Fate.SENT,
        )
        self._access.check_rights(needed, self._view.path(source.inode))

    def _check_new_place(self, source: Node, folder: Inode, name: bytes, target: Node | None) -> None:
        """Raise NameRefused or NotPermitted if an entry cannot have that place. `target`: what it replaces."""
        self._check_entry(folder, name)
        has_document = self._has_document(source)
        place = Location(folder, name.decode())
        if not self._keeps_name(source, place, target):
            longest = self._longest_below(source.inode) if source.is_folder else 0
            self._check_name(
                folder, name, is_folder=source.is_folder, has_document=has_document, longest_below=longest
            )
        if self._fates.fate(place, is_folder=source.is_folder) is not Fate.LOCAL:
            return
        if has_document or (source.is_folder and self._holds_documents(source)):
            target_path = self._view.path_of_entry(folder, name)
            raise NotPermitted(
                f"what is in Procore cannot move to {target_path!r}, which stays on this machine because of its "
                "name: remove it instead, then it is in Procore's recycle bin",
                path=self._view.path(source.inode),
            )

    def is_leaving(self, folder: Inode, name: bytes, *, is_folder: bool, source: Inode | None = None) -> bool:
        """Whether a new entry takes over the document that Procore has there. `source`: an inode that counts, too."""
        if entry_refusal(name) is not None:
            return False
        there = self._store.child(folder, name)
        if there is not None and there.inode == source:
            return not self._calls.moves(there.inode, there.document_id)
        if is_folder and source is not None:
            return False  # a folder that is moved keeps its own document
        kind = Kind.FOLDER if is_folder else Kind.FILE
        return self._takeover.leaving(Location(folder, name.decode()), kind) is not None

    def _has_document(self, node: Node) -> bool:
        """Whether Procore has it, or an open call makes it: the call cannot be taken back."""
        change = self._view.change(node.inode)
        return (
            node.document_id is not None
            or (change is not None and change.document is not None)
            or self._calls.makes(node.inode)
        )

    def _holds_documents(self, folder: Node) -> bool:
        return any(self._has_document(node) for node in self._view.descendants(folder.inode))

    def _keeps_name(self, source: Node, place: Location, target: Node | None) -> bool:
        """Whether the entry becomes or stays the document that Procore has at the place, so that the name is not a
        new one.

        That is so for a document that gets its own name back, and for a file that replaces another or gets the name
        of one that was just removed or renamed: it becomes a version of that document.
        """
        if not self._view.lists_store(place.folder):
            return False
        there = self._store.child(place.folder, place.shown)
        if there is None or self._calls.moves(there.inode, there.document_id):
            return False
        if there.inode == source.inode:
            return True
        if source.is_folder or there.is_folder:
            return False
        return (
            there.inode == target.inode
            if target is not None
            else self._takeover.leaving(place, Kind.FILE) is not None
        )

    def _takes_name_of_leaving(self, source: Node, place: Location) -> bool:
        """Whether a document must become a version of another one, because Procore would refuse it that name."""
        if source.is_folder or not self._has_document(source):
            return False
        leaving = self._takeover.leaving(place, Kind.FILE)
        is_its_own = leaving is not None and leaving.inode == source.inode
        return leaving is not None and not is_its_own and self._fates.place_refusal(place) is not None

    def _check_replaceable(self, source: Node, target: Node) -> None:
        if target.is_folder and not source.is_folder:
            raise IsAFolder
        if source.is_folder and not target.is_folder:
            raise NotAFolder
        self._access.check(target)
        if target.is_folder:
            self._check_empty(target)

    def _longest_below(self, folder: Inode) -> int:
        """Characters of the longest path below a folder, relative to it, of local entries and of Procore's."""
        longest = self._store.longest_below(folder)
        if len(self._view) == 0:
            return longest
        for child in self._view.children(folder):
            change = self._view.change(child.inode)
            if change is not None and self._fates.fate_of(change) is Fate.LOCAL:
                continue  # Procore's rules do not apply to it
            length = len(child.shown.decode("utf-8", "replace"))
            if child.is_folder:
                below = self._longest_below(child.inode)
                length += 1 + below if below else 0
            longest = max(longest, length)
        return longest

    def _move(self, change: Change, place: Location) -> None:
        before = self._fates.fate_of(change)
        self._changes.set_place(change, place)
        self._moved(change, before)

    def _moved(self, change: Change, before: Fate) -> None:
        self._takeover.inherit(change)
        self._takeover.follow_if_there(change)
        self._judge(change, before)
        change.touch()
        _set_incomplete_aside(change)
        self._changes.settle_or_update(change)

    def _judge(self, change: Change, before: Fate) -> None:
        """After a move, decide again whether a file is junk: its new name, or one of a folder above, may change it."""
        change.is_junk = self._fates.is_junk(change)
        if change.is_folder and self._fates.fate_of(change) is not before:
            for node in self._view.descendants(change.inode):
                self._changes.touched(node.inode)

    def exchange(self, folder: Inode, name: bytes, other_folder: Inode, other_name: bytes) -> None:
        """Swap two entries (RENAME_EXCHANGE)."""
        one, other = self._entry(folder, name), self._entry(other_folder, other_name)
        for node, inside in ((one, other_folder), (other, folder)):
            self._access.check(node)
            if node.is_folder and self._view.is_within(inside, node.inode):
                raise IntoItself
        places = (
            self._check_exchanged(one, other_folder, other_name, other),
            self._check_exchanged(other, folder, name, one),
        )
        for node, place in zip((one, other), places, strict=True):
            self._check_rename_rights(node, None, place)
        with self._changes.transaction():
            changes = self._changes.change_of(one), self._changes.change_of(other)
            fates = [self._fates.fate_of(change) for change in changes]
            for change, place in zip(changes, places, strict=True):
                self._changes.set_place(change, place)
            for change, before in zip(changes, fates, strict=True):
                self._moved(change, before)

    def _check_exchanged(self, node: Node, folder: Inode, name: bytes, other: Node) -> Location:
        """Check one side of an exchange and return its new place. A file without a document becomes a version of the
        other; a document only moves, so it cannot have a name that Procore refuses, and that is encoded."""
        target, names = node if self._has_document(node) else other, self._view.names
        keeps_name = self._keeps_name(node, Location(folder, name.decode()), target)
        if names.encodes and not keeps_name and name_refusal(name) is not None:
            wanted, leaving = names.to_programs(folder, name), (node.inode, other.inode)
            name = encoded_name(self._view, folder, wanted, leaving)
        self._check_new_place(node, folder, name, target)
        return Location(folder, name.decode())

    def set_metadata(
        self, inode: Inode, patch: MetadataPatch, *, tags: Collection[str] | None = None
    ) -> bool:
        """Want exactly this metadata, less what Procore has already. `tags`: those that it has, as far as known.

        Raises ChangeRefused. Returns whether something new is wanted.
        """
        node = self.shown_entry(inode)
        self._access.check(node)
        change = self._view.change(inode)
        document = change.document if change is not None else node.document_id
        if not self._calls.has(inode, document):  # an open call may change what Procore has
            known = self._store.known(document) if document is not None else None
            detail = decode_detail(known.detail) if known is not None else Detail()
            patch = lacking(patch, detail, tags)
        before = change.patch if change is not None else MetadataPatch()
        if patch == before:
            return False
        self._access.check_rights(needed_to_set(patch, before), self._view.path(inode))
        with self._changes.transaction():
            change = self._changes.change_of(node)
            change.patch = patch
            change.touch()
            self._changes.settle_or_update(change)
        return True

    def shown_entry(self, inode: Inode) -> Node:
        """A node that has a place. Raises NoSuchEntry for one that was removed, even if it is open."""
        node = self._changes.node(inode)
        if node.parent is None and inode != ROOT:
            raise NoSuchEntry
        return node

    def _entry(self, folder: Inode, name: bytes) -> Node:
        check_own(folder, name)
        node = self._view.child(folder, name)
        if node is None:
            raise NoSuchEntry
        return node


def _set_incomplete_aside(change: Change) -> None:
    """Let a document's new name be sent on its own; bytes that a crash cut off stay incomplete."""
    if change.state is ChangeState.INCOMPLETE and change.document is not None:
        change.leave_unclosed()
        change.step(Pending(change.reason))


@dataclass(frozen=True, slots=True)
class LocalEdits:
    """All objects that alter changes, one for each kind of operation."""

    changes: ChangeStore
    """Journals, shows and ends a change; keeps attributes."""
    local: LocalWork
    """Decides what happens to a change when Procore removes its document."""
    takeover: DocumentTakeover
    """Decides which document an inode is."""
    sessions: WriteSessions
    """Journals written bytes."""
    entries: NamespaceEdits
    """Creates, renames and removes entries, and sets metadata."""
