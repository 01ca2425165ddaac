"""Finds and lists what exists below `.procore`: the status file, and a folder of versions for each file.

    .procore/status              the mount's status as JSON
    .procore/versions/           the root
                      A/         a folder
                        x.pdf/   a file: a folder with one entry a version, `v003 2026-01-02T03-04-05 x.pdf`

Below `versions` the folders are those that programs see: listing one costs the same calls as listing the folder itself.
A file's versions cost one call. A plain `ls` sorts a file's versions by age. Their names end in the file's extension
and contain no character that another system refuses.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import cachetools

from procorefs.procore.wire.models import Version, VersionId
from procorefs.tree.naming.name_rules import shown_name
from procorefs.tree.nodes import OWN_ENTRY, ROOT, Inode, Node
from procorefs.versions.procore_inodes import (
    PROCORE,
    STATUS,
    VERSIONS,
    ProcoreInode,
    folder_for,
    inode_of,
    is_version,
    node_of,
    version_of,
)
from procorefs.versions.version_lists import VersionLists
from procorefs.vfs.view import Following, View, find_child

REMEMBERED_VERSIONS = 16_384
"""How many versions that were looked up or listed are cached; a dropped one is found again by its path."""


class NotThere(Exception):
    """Nothing has that inode any more; the kernel looks the path up again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`.procore`, or a file or folder below it."""

    inode: ProcoreInode
    shown: bytes
    """The name that programs see."""
    node: Node | None = None
    """The node of this folder, or of the file that this is a version of; None: `.procore` or `status`."""
    version: Version | None = None

    @property
    def is_folder(self) -> bool:
        return self.version is None and self.inode != STATUS


OWN = Entry(PROCORE, OWN_ENTRY)
_STATUS = Entry(STATUS, b"status")


class VersionTree:
    """Finds entries and lists folders; knows no FUSE."""

    def __init__(self, view: View, follower: Following, lists: VersionLists) -> None:
        self._view = view
        self._follower = follower
        self._lists = lists
        self._remembered: cachetools.LRUCache[VersionId, Entry] = cachetools.LRUCache(REMEMBERED_VERSIONS)

    def find(self, inode: ProcoreInode) -> Entry:
        """The entry with that inode. Raises NotThere."""
        if inode == PROCORE:
            return OWN
        if inode == STATUS:
            return _STATUS
        if not is_version(inode):
            return self._folder(self._node(node_of(inode)))
        known = self._remembered.get(version_of(inode))
        if known is None or known.node is None:
            raise NotThere
        return Entry(inode, known.shown, self._node(known.node.inode), known.version)

    def _node(self, inode: Inode) -> Node:
        node = self._view.by_inode(inode)
        if node is None or not self._view.reachable(inode):
            raise NotThere
        return node

    def above(self, entry: Entry) -> int:
        """The inode of an entry's folder."""
        if entry.inode == PROCORE:
            return ROOT
        if entry.node is None or entry.node.inode == ROOT:
            return PROCORE
        return folder_for(entry.node.parent or ROOT if entry.version is None else entry.node.inode)

    def path(self, entry: Entry) -> str:
        """The path below the mount point, for people."""
        parts = [OWN_ENTRY.decode()]
        if entry.node is not None:
            parts += ["versions", self._view.path(entry.node.inode)]
        if entry.node is None or entry.version is not None:
            parts += [entry.shown.decode("utf-8", "replace")] if entry != OWN else []
        return "/".join(filter(None, parts))

    async def child(self, folder: ProcoreInode, shown: bytes) -> Entry | None:
        """An entry by its name. Raises NotThere, ProcoreError."""
        if folder == PROCORE:
            return next((entry for entry in self._own_entries() if entry.shown == shown), None)
        node = self._node(node_of(folder))
        if not node.is_folder:
            return await self._version(node, shown)
        found = await find_child(self._view, self._follower, node.inode, shown)
        return self._folder(found) if found is not None else None

    def is_listed(self, folder: ProcoreInode) -> bool:
        """Whether all names of a folder are known, as of the last poll. Raises NotThere."""
        if folder == PROCORE:
            return True
        node = self._node(node_of(folder))
        return node.is_folder and self._follower.is_listed(node.inode)

    async def _version(self, file: Node, shown: bytes) -> Entry | None:
        """The version of that name: from the known versions, else after a due poll from a new list."""
        entries = self._entries(file, self._lists.known(file.inode) or ())
        if shown not in entries:
            entries = await self._newest_entries(file.inode)
        entry = entries.get(shown)
        return self._remember(entry) if entry is not None else None

    async def listing(self, folder: ProcoreInode) -> list[Entry] | None:
        """Make a folder ready to be listed; returns its entries, or None if `children` returns them from now on.

        Raises NotThere, ProcoreError.
        """
        if folder == PROCORE:
            return self._own_entries()
        node = self._node(node_of(folder))
        if not node.is_folder:
            return [self._remember(entry) for entry in (await self._newest_entries(node.inode)).values()]
        await self._follower.children_known(node.inode)
        await self._poll_if_due(node.inode)
        return None

    async def _poll_if_due(self, inode: Inode) -> None:
        """Wait for a due poll. Raises NotThere if the poll moved or removed the node."""
        before = self._view.place(inode)
        await self._follower.poll_if_due()
        if before is None or self._view.place(inode) != before:
            raise NotThere

    async def _newest_entries(self, file: Inode) -> dict[bytes, Entry]:
        await self._poll_if_due(file)
        versions = await self._lists.of(file)
        return self._entries(self._node(file), versions)

    def children(self, folder: ProcoreInode, *, after: int, limit: int) -> Iterator[tuple[Entry, int]]:
        """Entries of a folder below `versions` in the order of their offsets, each with its offset."""
        for node in self._view.children(node_of(folder), after=after, limit=limit):
            yield self._folder(node), node.inode

    def _own_entries(self) -> list[Entry]:
        return [_STATUS, Entry(VERSIONS, b"versions", self._view.by_inode(ROOT))]

    def _entries(self, file: Node, versions: tuple[Version, ...]) -> dict[bytes, Entry]:
        """The entries of a file's versions."""
        return {
            shown: Entry(inode_of(version.id), shown, file, version)
            for shown, version in version_entries(versions, self._shown(file)).items()
        }

    def _remember(self, entry: Entry) -> Entry:
        """Cache a version by its inode, by which the kernel asks for it."""
        self._remembered[version_of(entry.inode)] = entry
        return entry

    def _folder(self, node: Node) -> Entry:
        return Entry(folder_for(node.inode), self._shown(node), node)

    def _shown(self, node: Node) -> bytes:
        """The name that programs see."""
        return node.shown if node.parent is None else self._view.names.to_programs(node.parent, node.shown)


def version_entries(versions: Iterable[Version], shown: bytes) -> dict[bytes, Version]:
    """The names of all versions of a file with that name, in the order given.

    A name includes the version's id if two versions would have the same name, or if Linux cannot hold the name.
    """
    entries: dict[bytes, Version] = {}
    name = shown.decode("utf-8", "replace")
    for version in versions:
        plain = f"v{version.number:03d} {_moment(version.created_at_s)} {name}"
        entries[shown_name(plain, version.id, entries.__contains__)] = version
    return entries


def _moment(unix_s: int) -> str:
    """In UTC, without the colons that Windows refuses; an unknown time is 1970, as in the entry's mtime."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H-%M-%S")
