"""Answers the requests below `.procore`, which the decorator of every operation routes here by inode or handle.

Nothing there can be changed: a request without a method here gets EROFS, as in a snapshot. EPERM would mean that
another user may. The kernel caches little, because nothing invalidates entries below `versions`: each path is looked up
again, and attributes are valid for a second. Only the pages of a version stay cached, because they never change.
"""

import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from procorefs.cache.reader import Reader
from procorefs.kernel.attributes import VALID_S, Ownership, attributes, set_size
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.kernel.errno_table import NoEntry, ReadOnly
from procorefs.procore.api.brief_wait import NoAnswerYet
from procorefs.project import Projects
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT
from procorefs.versions.procore_inodes import FIRST_HANDLE, ProcoreInode, folder_for
from procorefs.versions.version_tree import OWN, Entry, NotThere, VersionTree
from procorefs.xattr.attribute_names import NoAttribute

VERSIONS_VALID_S = 1.0
DOT, DOT_DOT, FIRST_ENTRY = 1, 2, 3
"""Offsets in a listing; those of entries below `versions` are the inodes of their nodes, which are larger."""

ENTRIES_AT_ONCE = 192
_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The content of the status file at one moment."""

    text: bytes
    made_ns: int


@dataclass(frozen=True, slots=True)
class _Open:
    """An open file or folder; one of the three below is set, or none for a folder below `versions`."""

    entry: Entry
    entries: list[Entry] | None = None
    reader: Reader | None = None
    snapshot: _Snapshot | None = None


class ProcoreDirectory:
    """One method for each operation, with the name and arguments of Operations."""

    def __init__(
        self,
        projects: Projects,
        status: Callable[[], bytes],
        update_status: Callable[[], Awaitable[None]],
        ownership: Ownership,
    ) -> None:
        """`status` makes the content of `.procore/status`; `update_status` updates the values that take time first."""
        self._projects = projects
        self._status = status
        self._update_status = update_status
        self._ownership = ownership
        self._handles: dict[int, _Open] = {}
        self._next = FIRST_HANDLE
        self._since_ns = clocks.file_ns()

    def handler(self, operation: str) -> Callable[..., Awaitable[Any]]:
        return getattr(self, operation, self._refuse)

    async def _refuse(self, *_args: object, **_kwargs: object) -> None:
        raise ReadOnly

    def _versions(self, number: int) -> VersionTree:
        """The version tree of the project of an inode or handle."""
        return self._projects.of(number).versions

    def path(self, number: int) -> str:
        """The path of an inode or a handle, for people."""
        try:
            return self._versions(number).path(self._entry(number))
        except NotThere:
            return f"inode {number}"

    def _entry(self, number: int) -> Entry:
        """The entry of an inode or handle; an open entry exists until it is released. Raises NotThere."""
        if number in self._handles:
            return self._handles[number].entry
        try:
            return self._versions(number).find(ProcoreInode(number))
        except NotThere:
            for handle in self._handles.values():
                if handle.entry.inode == number:
                    return handle.entry
            raise

    # Names and attributes

    def own_entry(self) -> pyfuse3.EntryAttributes:
        """Attributes of `.procore` itself, for its lookup in the root."""
        return self._attributes(OWN)

    async def lookup(self, folder: int, name: bytes, ctx: object) -> pyfuse3.EntryAttributes:
        if name == b".":
            return await self.getattr(folder, ctx)
        if name == b"..":
            return await self._folder_of(folder, ctx)
        above = ProcoreInode(folder)
        entry: Entry | None = None
        try:
            entry = await self._projects.of(folder).brief_wait.of(
                partial(self._versions(folder).child, above, name)
            )
        except NoAnswerYet:
            if not self._versions(folder).is_listed(above):
                raise
        if entry is None:
            raise NoEntry
        return self._attributes(entry)

    async def _folder_of(self, inode: int, ctx: object) -> pyfuse3.EntryAttributes:
        above = self._versions(inode).above(self._entry(inode))
        root = self._entry(folder_for(ROOT)).node
        return attributes(root, self._ownership) if above == ROOT and root else await self.getattr(above, ctx)

    async def getattr(self, inode: int, _ctx: object) -> pyfuse3.EntryAttributes:
        return self._attributes(self._entry(inode))

    async def getxattr(self, _inode: int, _name: bytes, _ctx: object) -> bytes:
        raise NoAttribute

    async def listxattr(self, _inode: int, _ctx: object) -> list[bytes]:
        return []

    def _attributes(self, entry: Entry) -> pyfuse3.EntryAttributes:
        """The attributes; modes follow the document's, so a user who may not read it may not read its versions."""
        if entry.node is None:
            return self._own_attributes(entry)
        shown = attributes(entry.node, self._ownership)
        shown.st_ino, shown.st_nlink = entry.inode, 1
        shown.attr_timeout = VERSIONS_VALID_S
        readable = shown.st_mode & 0o444
        if entry.version is not None:
            shown.st_mode = stat.S_IFREG | readable
            set_size(shown, entry.version.size_bytes)
            _set_times(shown, entry.version.created_at_s * _NS)
            shown.entry_timeout = VERSIONS_VALID_S
            return shown
        passable = shown.st_mode & 0o111 if entry.node.is_folder else readable >> 2
        shown.st_mode = stat.S_IFDIR | readable | passable
        set_size(shown, 0)
        shown.entry_timeout = 0
        return shown

    def _own_attributes(self, entry: Entry) -> pyfuse3.EntryAttributes:
        shown = pyfuse3.EntryAttributes()
        shown.st_ino, shown.st_nlink = entry.inode, 1
        shown.st_uid, shown.st_gid = self._ownership.uid, self._ownership.gid
        shown.entry_timeout = VALID_S
        shown.attr_timeout = 0
        if entry.is_folder:
            shown.st_mode = stat.S_IFDIR | 0o555 & ~self._ownership.umask
            _set_times(shown, self._since_ns)
            return shown
        # Only for its owner, like the control socket: it contains paths that other users may not see.
        shown.st_mode = stat.S_IFREG | 0o400
        snapshot = self._newest_snapshot()
        set_size(shown, len(snapshot.text))
        _set_times(shown, snapshot.made_ns)
        return shown

    def _newest_snapshot(self) -> _Snapshot:
        """The newest open snapshot, so that fstat right after the open returns the size of the content."""
        for handle in reversed(self._handles.values()):
            if handle.snapshot is not None:
                return handle.snapshot
        return self._snapshot()

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(self._status(), clocks.file_ns())

    # Folders

    async def opendir(self, inode: int, _ctx: object) -> int:
        """Wait for Procore here."""
        versions = self._versions(inode)
        entry = versions.find(ProcoreInode(inode))
        return self._open(_Open(entry, entries=await versions.listing(entry.inode)))

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """Reply without an await, as in Operations."""
        for name, shown, offset in self._listing(self._handles[fh], start_id):
            if not pyfuse3.readdir_reply(token, name, shown, offset):
                return

    def _listing(self, folder: _Open, start: int) -> Iterator[tuple[bytes, pyfuse3.EntryAttributes, int]]:
        for name, offset, inode in (
            (b".", DOT, folder.entry.inode),
            (b"..", DOT_DOT, self._versions(folder.entry.inode).above(folder.entry)),
        ):
            if start < offset:
                here = self._attributes(folder.entry)
                here.st_ino = inode
                yield name, here, offset
        for entry, offset in self._entries(folder, start):
            yield entry.shown, self._attributes(entry), offset

    def _entries(self, folder: _Open, start: int) -> Iterator[tuple[Entry, int]]:
        if folder.entries is not None:
            first = max(start - FIRST_ENTRY + 1, 0)
            yield from zip(folder.entries[first:], range(FIRST_ENTRY + first, 1 << 62), strict=False)
            return
        versions = self._versions(folder.entry.inode)
        while batch := list(versions.children(folder.entry.inode, after=start, limit=ENTRIES_AT_ONCE)):
            yield from batch
            start = batch[-1][1]

    async def releasedir(self, fh: int) -> None:
        del self._handles[fh]

    async def fsyncdir(self, _fh: int, _datasync: bool) -> None:
        """There is nothing to sync."""

    # Files

    async def open(self, inode: int, flags: int, _ctx: object) -> pyfuse3.FileInfo:
        """Open a version, or the status file with a new snapshot."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise ReadOnly
        entry = self._entry(inode)
        if entry.version is not None:
            reader = self._projects.of(inode).content.reader.open(entry.version)
            return pyfuse3.FileInfo(fh=self._open(_Open(entry, reader=reader)), keep_cache=True)
        await self._update_status()
        handle = self._open(_Open(entry, snapshot=self._snapshot()))
        return pyfuse3.FileInfo(fh=handle, direct_io=True, keep_cache=False)

    def _open(self, opened: _Open) -> int:
        handle = self._next
        self._next += 1
        self._handles[handle] = opened
        return handle

    async def read(self, fh: int, off: int, size: int) -> bytes | bytearray | memoryview:
        opened = self._handles[fh]
        if opened.reader is not None:
            data = opened.reader.read_now(off, size)
            return data if data is not None else await opened.reader.read(off, size)
        return opened.snapshot.text[off : off + size] if opened.snapshot is not None else b""

    async def flush(self, _fh: int) -> None:
        """There is nothing to write."""

    async def fsync(self, _fh: int, _datasync: bool) -> None:
        """There is nothing to sync."""

    async def release(self, fh: int) -> None:
        opened = self._handles.pop(fh)
        if opened.reader is not None:
            opened.reader.close()


def _set_times(shown: pyfuse3.EntryAttributes, time_ns: int) -> None:
    shown.st_mtime_ns = shown.st_atime_ns = shown.st_ctime_ns = time_ns
