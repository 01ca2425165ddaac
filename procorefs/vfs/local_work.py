"""What is going on here, for whoever takes up Procore's answers: nothing that waits goes with what Procore removes."""

from collections.abc import Callable, Iterator

from procorefs.journal.change import FOLLOW, GONE, Change, Location
from procorefs.procore.wire.models import Version
from procorefs.tree.nodes import ROOT, Inode, Node, bound_to
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.view import View


class LocalWork:
    """Answers tree.absorb.Local."""

    def __init__(self, view: View, drafts: DirtyFiles) -> None:
        self._view = view
        self._drafts = drafts
        self.pin: Callable[[Node, Location], None] = _nobody_pins
        """Edits.pin: the edits are built later, on top of what asks here."""
        self.note: Callable[[Change], None] = _nobody_notes
        """Edits.note, likewise."""
        self.succeeded: Callable[[Inode, Inode], None] = _nobody_succeeds
        """Edits.succeed."""

    def is_open(self, inode: Inode) -> bool:
        return self._drafts.is_open(inode)

    def has_bytes(self, inode: Inode) -> bool:
        change = self._view.change(inode)
        return self._drafts.has(inode) or (
            change is not None and (change.has_bytes or change.shown is not None)
        )

    def entries_changed(self, folder: Inode) -> None:
        self._view.entries_changed(folder)

    def same_bytes(self, inode: Inode, old: Version, new: Version) -> None:
        """Kept times go on, and so does a removal: what was seen of the old version is all of the new one."""
        change = self._view.change(inode)
        if change is None:
            return
        if change.kept.version_id == old.id:
            change.kept = bound_to(change.kept, new)
        if change.seen is not None and change.seen.id == old.id:
            change.seen = new
        self.note(change)

    def covered(self, inode: Inode, seen: Version) -> None:
        """What is written here comes on top of the newer version; a removal does not take it along."""
        change = self._view.change(inode)
        if change is not None and change.seen is None and change.place is not GONE:
            change.seen = seen
            self.note(change)

    def removing(self, node: Node) -> None:
        """Keep the places of files with bytes at or below the node, and of the folders between.

        They are made anew. The store still has the node in its place.
        """
        pinned: set[Inode] = set()
        precious = self._precious_below(node.inode) if node.is_folder else self._precious_itself(node.inode)
        for inode in list(precious):
            way = list(self._way(inode, node.inode))
            for step, place in way:
                if step not in pinned:
                    pinned.add(step)
                    self._pin(step, place)

    def _precious_below(self, top: Inode) -> Iterator[Inode]:
        """All that wait in a folder, or somewhere below it; each folder's way up is gone once."""
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
        if self._drafts.is_written(inode) or (change is not None and _is_precious(change)):
            yield inode

    def _precious(self) -> Iterator[Inode]:
        for change in self._view.changes():
            if _is_precious(change):
                yield change.inode
        yield from self._drafts.written

    def _way(self, inode: Inode, top: Inode) -> Iterator[tuple[Inode, Location]]:
        """The node and the folders above it up to `top`, with their places; nothing if it does not lie there."""
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

    def _pin(self, inode: Inode, place: Location) -> None:
        change = self._view.change(inode)
        if change is not None and change.document is None:
            return  # it has a place of its own, and no document that could go
        node = self._view.by_inode(inode)
        if node is not None:
            self.pin(node, place)


def _nobody_notes(_change: Change) -> None:
    """As long as nothing can be written."""


def _is_precious(change: Change) -> bool:
    """Whether something is wanted of it that Procore does not have. Junk goes with its folder."""
    if change.is_junk and change.document is None:
        return False
    wants_more = change.has_bytes or change.shown is not None or change.document is None
    return wants_more and (change.is_placed or change.place is FOLLOW)


def _nobody_succeeds(_inode: Inode, _successor: Inode) -> None:
    """As long as nothing can be written."""


def _nobody_pins(_node: Node, _place: Location) -> None:
    """As long as nothing can be written."""
