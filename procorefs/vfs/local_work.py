"""Protects local changes when an answer of Procore removes or updates a document: nothing unsent is lost."""

from collections.abc import Iterator

from procorefs.journal.change import Change, Failed, Location, Open, Placed
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.procore.wire.models import DocumentId, Kind, Version
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode, Node, State, bound_to
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View


class LocalWork:
    """Implements tree.own_changes.LocalChanges, and recreates documents that Procore no longer has."""

    def __init__(
        self,
        store: TreeStore,
        view: View,
        dirty_files: DirtyFiles,
        calls: InFlightCalls,
        changes: ChangeStore,
    ) -> None:
        self._store = store
        self._view = view
        self._dirty_files = dirty_files
        self._calls = calls
        self._changes = changes

    def is_open(self, inode: Inode) -> bool:
        return self._dirty_files.is_open(inode)

    def has_bytes(self, inode: Inode) -> bool:
        change = self._view.change(inode)
        return self._dirty_files.has(inode) or (
            change is not None and (change.has_bytes or change.shown is not None)
        )

    def is_unconfirmed(self, document: DocumentId) -> bool:
        return any(call.upload is None for call in self._calls.given_up(ROOT, document))

    def entries_changed(self, folder: Inode) -> None:
        self._view.entries_changed(folder)

    def same_bytes(self, inode: Inode, old: Version, new: Version) -> None:
        """Move kept times and a removal to a new version that has the same bytes."""
        change = self._view.change(inode)
        if change is None:
            return
        if change.kept.version_id == old.id:
            change.kept = bound_to(change.kept, new)
        if change.seen is not None and change.seen.id == old.id:
            change.seen = new
        self._changes.save_if_current(change)

    def covered(self, inode: Inode, old: Version, new: Version | None) -> None:
        """Note that local bytes become the version after another user's; a removal does not delete that one."""
        change = self._view.change(inode)
        if change is None or change.seen is not None or change.is_removed or change.kept.is_bound_to(new):
            return
        change.seen = old
        self._changes.save_if_current(change)

    def succeeded(self, inode: Inode, successor: Inode) -> None:
        """Move the unsent change of an open file to the inode that the document has now."""
        self._changes.move_to_inode(inode, successor)

    def removing(self, node: Node) -> None:
        """Keep the places of files with local bytes at or below the node, and of the folders between: they are
        created again.

        The tree still has the node in its place.
        """
        pinned: set[Inode] = set()
        precious = self._precious_below(node.inode) if node.is_folder else self._precious_itself(node.inode)
        # Find all paths before the first place is kept: after that, documents in the folder no longer show.
        for way in [list(self._way(inode, node.inode)) for inode in precious]:
            for step, place in way:
                if step not in pinned:
                    pinned.add(step)
                    self._pin(step, place, node.inode)

    def _precious_below(self, top: Inode) -> Iterator[Inode]:
        """All changes that wait in or below a folder, with their paths. The path of each folder is looked up once."""
        is_within: dict[Inode, bool] = {}
        for inode in self._precious():
            step = self._view.parent(inode)
            if step is None:
                continue
            folder = step[0]
            if folder not in is_within:
                is_within[folder] = self._view.is_within(folder, top)
            if is_within[folder] or inode == top:
                yield inode

    def _precious_itself(self, inode: Inode) -> Iterator[Inode]:
        change = self._view.change(inode)
        if self._dirty_files.is_written(inode) or (change is not None and _is_precious(change)):
            yield inode

    def _precious(self) -> Iterator[Inode]:
        for change in self._view.changes():
            if _is_precious(change):
                yield change.inode
        yield from self._dirty_files.written

    def _way(self, inode: Inode, top: Inode) -> Iterator[tuple[Inode, Location]]:
        """The node and the folders above it up to `top`, with their places; empty if `top` is not above it."""
        if not self._view.is_within(inode, top):
            return
        at = inode
        while at != ROOT:
            step = self._view.parent(at)
            if step is None:
                return
            yield at, Location(step[0], step[1].decode("utf-8", "replace"))
            if at == top:
                return
            at = step[0]

    def _pin(self, inode: Inode, place: Location, top: Inode) -> None:
        change = self._view.change(inode)
        if change is not None and change.document is None:
            return  # it has a place of its own, and no document that could be removed
        if inode != top and all(above != top for above, _ in self._store.place(inode) or ()):
            return  # a program moved it there, and Procore has it elsewhere
        node = self._view.by_inode(inode)
        if node is not None:
            self.pin(node, place)

    def pin(self, node: Node, place: Location) -> None:
        """Keep the place of a changed document that Procore is removing, to create it again there."""
        change = self._changes.change_of(node)
        self._view.hide(change)
        if change.is_following:
            change.place = Placed(self._changes.free_place(place, node.inode))
        if change.document is not None:
            self._calls.forget_document(change.document)
        change.document = change.seen = None
        change.drop_upload()
        self._keep_unclosed(change)
        if not change.has_bytes and not change.is_folder:
            change.step(Open(change.reason))
        self._view.show(change)
        self._changes.update(change)

    def lose_document(self, change: Change) -> None:
        """Turn what is wanted of a document that is gone into a new document at the place where it shows."""
        place = change.location
        if place is None:
            at = self._view.parent(change.inode)
            name = self._changes.node(change.inode).shown.decode("utf-8", "replace") or "recovered"
            place = self._changes.free_place(Location(at[0] if at is not None else ROOT, name), change.inode)
        if change.document is not None:
            self._calls.forget_document(change.document)
        self._view.hide(change)
        change.drop_upload()
        change.place, change.document, change.seen = change.placed_at(place), None, None
        self._view.show(change)
        self._keep_unclosed(change)
        self._changes.update(change)

    def recover_folder(self, folder: Inode) -> bool:
        """Show a folder that something waits in and that nothing else shows or creates; False if there is no need.

        If its document was never listed, only `retry` sends it; if that was deleted, it is created again in the root.
        """
        node = self._store.by_inode(folder)
        if node is None or self._view.change(folder) is not None:
            return False
        if node.state is State.EXPECTED:
            with self._store.transaction():
                self._store.move_row(folder, self._store.reserve(1))
            self._changes.add(lost_folder(folder))
            self._changes.touched(folder)
            return True
        if not node.is_folder or node.in_tree:
            return False
        self.pin(node, Location(ROOT, node.shown.decode("utf-8", "replace") or "recovered"))
        return True

    def _keep_unclosed(self, change: Change) -> None:
        """Make the bytes that a crash cut off the content of the change, because the document is gone."""
        if (
            change.unclosed is not None
            and not change.has_bytes
            and not self._dirty_files.is_written(change.inode)
        ):
            change.be_incomplete()


def _is_precious(change: Change) -> bool:
    """Whether the change has something that Procore lacks. Junk is removed with its folder."""
    if change.is_junk and change.document is None:
        return False
    wants_more = change.has_bytes or change.shown is not None or change.document is None
    return wants_more and (change.is_placed or change.is_following)


def lost_folder(inode: Inode, name: str = "", reason: str = "") -> Change:
    """The change of a folder that rows name and that is lost: it is shown, and not sent before `retry`."""
    now_s = clocks.unix_s()
    reason = reason or "the original folder of its content is unknown: move the content to where it belongs"
    return Change(
        inode,
        Kind.FOLDER,
        Placed(Location(ROOT, f"Recovered folder {name or inode}")),
        progress=Failed(reason, now_s),
        created_at_s=now_s,
        touched_at_s=now_s,
    )
