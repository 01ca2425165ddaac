"""What exists below `.procore`, as a tree of its own.

    .procore/status              what the mount says of itself
    .procore/versions/           mirrors the root
                      A/         mirrors a folder
                        x.pdf/   mirrors a file: its entries are the file's versions

The mirror is the tree as programs see it: a folder in it costs no call that the folder itself would not. A file's
versions cost one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cachetools

from procorefs.procore.wire.models import Version, VersionId
from procorefs.tree.nodes import OWN_ENTRY, ROOT, Inode, Node
from procorefs.versions.version_entries import version_entries
from procorefs.versions.version_lists import VersionLists
from procorefs.versions.virtual_inodes import (
    PROCORE,
    STATUS,
    VERSIONS,
    VirtualInode,
    inode_of,
    is_version,
    mirror_of,
    mirrored,
    version_of,
)
from procorefs.vfs.find_child import Following, find_child
from procorefs.vfs.view import View

REMEMBERED_VERSIONS = 16_384
"""Versions that programs have met; one that was forgotten is found again by its path."""


class NotThere(Exception):
    """No path leads there any more, or none is known; the kernel looks it up again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below `.procore`, or itself."""

    inode: VirtualInode
    shown: bytes
    """The name that programs see."""
    node: Node | None = None
    """What it mirrors, or whose version it is; None: it is one of the mount's own."""
    version: Version | None = None

    @property
    def is_folder(self) -> bool:
        return self.version is None and self.inode != STATUS


OWN = Entry(PROCORE, OWN_ENTRY)
_STATUS = Entry(STATUS, b"status")


class VersionTree:
    """Finds entries and lists folders; knows no FUSE."""

    def __init__(self, view: View, follower: Following, histories: VersionLists) -> None:
        self._view = view
        self._follower = follower
        self._histories = histories
        self._met: cachetools.LRUCache[VersionId, Entry] = cachetools.LRUCache(REMEMBERED_VERSIONS)

    def find(self, inode: VirtualInode) -> Entry:
        """What has that number. Raises NotThere."""
        if inode == PROCORE:
            return OWN
        if inode == STATUS:
            return _STATUS
        if not is_version(inode):
            return self._mirror(self._node(mirrored(inode)))
        met = self._met.get(version_of(inode))
        if met is None or met.node is None:
            raise NotThere
        return Entry(inode, met.shown, self._node(met.node.inode), met.version)

    def _node(self, inode: Inode) -> Node:
        node = self._view.by_inode(inode)
        if node is None or not self._view.reachable(inode):
            raise NotThere
        return node

    def above(self, entry: Entry) -> int:
        """The inode of the folder that an entry lies in."""
        if entry.inode == PROCORE:
            return ROOT
        if entry.node is None or entry.node.inode == ROOT:
            return PROCORE
        return mirror_of(entry.node.parent or ROOT if entry.version is None else entry.node.inode)

    def path(self, entry: Entry) -> str:
        """The path below the mount point, for people."""
        parts = [OWN_ENTRY.decode()]
        if entry.node is not None:
            parts += ["versions", self._view.path(entry.node.inode)]
        if entry.node is None or entry.version is not None:
            parts += [entry.shown.decode("utf-8", "replace")] if entry != OWN else []
        return "/".join(filter(None, parts))

    async def child(self, folder: VirtualInode, shown: bytes) -> Entry | None:
        """An entry by its name. Raises NotThere, ProcoreError."""
        if folder == PROCORE:
            return next((entry for entry in self._own_entries() if entry.shown == shown), None)
        node = self._node(mirrored(folder))
        if not node.is_folder:
            return await self._version(node, shown)
        found = await find_child(self._view, self._follower, node.inode, shown)
        return self._mirror(found) if found is not None else None

    def is_listed(self, folder: VirtualInode) -> bool:
        """Whether a name that is not known is not there, unless Procore has news. Raises NotThere."""
        if folder == PROCORE:
            return True
        node = self._node(mirrored(folder))
        return node.is_folder and self._follower.is_listed(node.inode)

    async def _version(self, file: Node, shown: bytes) -> Entry | None:
        """Of those known; only for an entry that is not among them a due look is made, and a list asked for."""
        entries = self._entries(file, self._histories.known(file.inode) or ())
        if shown not in entries:
            entries = await self._newest_entries(file.inode)
        entry = entries.get(shown)
        return self._meet(entry) if entry is not None else None

    async def listing(self, folder: VirtualInode) -> list[Entry] | None:
        """All that is needed to list a folder: its entries, or None where `children` has them from now on.

        Raises NotThere, ProcoreError.
        """
        if folder == PROCORE:
            return self._own_entries()
        node = self._node(mirrored(folder))
        if not node.is_folder:
            return [self._meet(entry) for entry in (await self._newest_entries(node.inode)).values()]
        await self._follower.children_known(node.inode)
        await self._freshen_place(node.inode)
        return None

    async def _freshen_place(self, inode: Inode) -> None:
        """Wait for a look that is due. Raises NotThere when the node is elsewhere then, or gone."""
        before = self._view.place(inode)
        await self._follower.poll_if_due()
        if before is None or self._view.place(inode) != before:
            raise NotThere

    async def _newest_entries(self, file: Inode) -> dict[bytes, Entry]:
        await self._freshen_place(file)
        versions = await self._histories.of(file)
        return self._entries(self._node(file), versions)

    def children(self, folder: VirtualInode, *, after: int, limit: int) -> Iterator[tuple[Entry, int]]:
        """Entries of a mirrored folder, each with the number to go on after, in the order of these numbers."""
        for node in self._view.children(mirrored(folder), after=after, limit=limit):
            yield self._mirror(node), node.inode

    def _own_entries(self) -> list[Entry]:
        return [_STATUS, Entry(VERSIONS, b"versions", self._view.by_inode(ROOT))]

    def _entries(self, file: Node, versions: tuple[Version, ...]) -> dict[bytes, Entry]:
        """The entries of a file's versions."""
        return {
            shown: Entry(inode_of(version.id), shown, file, version)
            for shown, version in version_entries(versions, self._shown(file)).items()
        }

    def _meet(self, entry: Entry) -> Entry:
        """The kernel will ask for the version by its number."""
        self._met[version_of(entry.inode)] = entry
        return entry

    def _mirror(self, node: Node) -> Entry:
        return Entry(mirror_of(node.inode), self._shown(node), node)

    def _shown(self, node: Node) -> bytes:
        """The name that programs see."""
        return node.shown if node.parent is None else self._view.names.to_programs(node.parent, node.shown)
