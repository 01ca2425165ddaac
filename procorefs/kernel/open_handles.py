"""Open files and folders: what each handle reads and writes, and whether it uses direct I/O.

The kernel caches pages of a mount, in addition to the pages of the staged file or the chunk cache. A handle that only
writes does not need this copy, which is the most expensive part of a large write, so it gets direct I/O. Cached pages
and direct writes do not stay consistent, so a file has handles with cached pages or handles that write directly, never
both. Since Linux 6.6 a direct write drops pages that a closed handle has left; an older kernel would continue to read
them, so no handle gets direct I/O there. (fuse_direct_io in fs/fuse/file.c)
"""

import os
import re
from collections import Counter
from dataclasses import dataclass

import cachetools

from procorefs.cache.reader import Reader
from procorefs.cache.sibling_read_ahead import Position
from procorefs.kernel.attributes import VALID_S
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.project import Projects
from procorefs.tree.nodes import Inode, Node

REMEMBERED = 65_536
"""How many folders have a remembered listing time; another one costs a round trip."""

LISTING_MARGIN_S = 5.0
"""The kernel's cached listing is dropped this long before its attributes expire: a walk through it needs no getattr."""


_DROPS_CACHED_PAGES = (6, 6)


def writes_drop_pages(release: str) -> bool:
    """Whether a kernel of that release (uname -r) drops the cached pages that a direct write makes stale."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= _DROPS_CACHED_PAGES


class DirectIo:
    """Decides for each handle whether it uses direct I/O; counts the handles of each inode."""

    def __init__(self, release: str | None = None) -> None:
        self._is_allowed = writes_drop_pages(os.uname().release if release is None else release)
        self._cached: Counter[Inode] = Counter()
        self._writing_directly: Counter[Inode] = Counter()

    def enter(self, inode: Inode, *, reads: bool, writes: bool) -> bool:
        """Count a new handle; returns whether it uses direct I/O."""
        only_writes = writes and not reads and self._is_allowed
        is_direct = inode in self._writing_directly or (only_writes and inode not in self._cached)
        if not is_direct:
            self._cached[inode] += 1
        elif writes:
            self._writing_directly[inode] += 1
        return is_direct

    def leave(self, inode: Inode, *, is_direct: bool, writes: bool) -> None:
        """Count a released handle."""
        if not is_direct:
            _less(self._cached, inode)
        elif writes:
            _less(self._writing_directly, inode)


def _less(counter: Counter[Inode], inode: Inode) -> None:
    counter[inode] -= 1
    if not counter[inode]:
        del counter[inode]


@dataclass(frozen=True, slots=True)
class Text:
    """The content of a read-only file that this mount makes; has the methods of a Reader."""

    content: bytes

    def read_now(self, offset: int, size_bytes: int) -> bytes:
        return self.content[offset : offset + size_bytes]

    async def read(self, offset: int, size_bytes: int) -> bytes:
        return self.read_now(offset, size_bytes)

    def close(self) -> None:
        """There is nothing to release."""


@dataclass(slots=True)
class OpenFile:
    """One open(2). Unless bytes were written here, it reads the version that the file had when it was opened."""

    inode: Inode
    reader: Reader | Text | None
    """None: Procore had no version of it; its bytes are in a dirty file while it is open."""
    writes: bool
    is_direct: bool
    """The handle uses direct I/O: the kernel caches no pages of it."""
    is_privileged: bool = True
    """Whether its writes keep set-id bits."""
    is_flushed: bool = False
    """Whether a descriptor of it was closed."""


class OpenFiles:
    """File handles. Tells the project's dirty files which inodes are open: these take over no new version."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects
        self._direct_io = DirectIo()
        self._files: dict[int, OpenFile] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._files)

    def open(
        self, node: Node, *, reads: bool = True, writes: bool = False, is_privileged: bool = True
    ) -> int:
        """Open a handle.

        No await between the lookup of the version and this call, or the inode could have another version meanwhile.
        """
        handle = self._next
        self._next += 1
        inode = node.inode
        project = self._projects.of(inode)
        project.changes.dirty_files.enter(inode, writes=writes)  # the only call here that may fail (EMFILE)
        reader = project.content.reader.open(node.version) if node.version is not None else None
        is_direct = self._direct_io.enter(inode, reads=reads, writes=writes)
        self._files[handle] = OpenFile(inode, reader, writes, is_direct, is_privileged)
        if node.parent is not None and reader is not None and not writes:
            project.content.read_ahead.opened(Position(node.parent, inode, node.shown), reader)
        return handle

    def open_text(self, inode: Inode, content: bytes) -> int:
        """Open a handle of a read-only file that this mount makes."""
        handle = self._next
        self._next += 1
        self._projects.of(inode).changes.dirty_files.enter(inode, writes=False)
        self._files[handle] = OpenFile(inode, Text(content), writes=False, is_direct=True)
        return handle

    def get(self, handle: int) -> OpenFile:
        return self._files[handle]

    def handles(self) -> list[int]:
        """All open handles."""
        return list(self._files)

    def inode_of(self, handle: int) -> Inode | None:
        """For the log: None when the handle is not open."""
        file = self._files.get(handle)
        return file.inode if file is not None else None

    def info(self, handle: int) -> pyfuse3.FileInfo:
        """The reply to the kernel for a handle."""
        return pyfuse3.FileInfo(fh=handle, keep_cache=True, direct_io=self._files[handle].is_direct)

    async def release_when_still(self, handle: int) -> OpenFile:
        """Release the handle once no write of its file is under way."""
        inode = self.get(handle).inode
        await self._projects.of(inode).changes.dirty_files.still(inode)
        return self.release(handle)

    def release(self, handle: int) -> OpenFile:
        """Release the handle; `finish` must follow."""
        file = self._files.pop(handle)
        if file.reader is not None:
            file.reader.close()
        self._direct_io.leave(file.inode, is_direct=file.is_direct, writes=file.writes)
        self._projects.of(file.inode).changes.dirty_files.leave(file.inode, writes=file.writes)
        return file

    def finish(self, file: OpenFile) -> None:
        """Journal the writes of a released handle, and drop what only open handles need. Raises OSError."""
        changes = self._projects.of(file.inode).changes
        try:
            if file.writes:
                if file.is_flushed:
                    changes.edits.sessions.handle_released(file.inode)
                changes.edits.sessions.flushed(file.inode)
        finally:
            try:
                if file.writes and not changes.dirty_files.is_written(file.inode):
                    changes.edits.sessions.released(file.inode)
            finally:
                changes.drop_if_closed(file.inode)


class OpenFolders:
    """Folder handles; decides whether the kernel may list a folder from its cache."""

    def __init__(self) -> None:
        self._folders: dict[int, Inode] = {}
        self._next = 1
        self._sent_at_s: cachetools.LRUCache[Inode, float] = cachetools.LRUCache(REMEMBERED)

    def open(self, folder: Inode) -> int:
        handle = self._next
        self._next += 1
        self._folders[handle] = folder
        return handle

    def get(self, handle: int) -> Inode:
        return self._folders[handle]

    def inode_of(self, handle: int) -> Inode | None:
        """For the log: None when the handle is not open."""
        return self._folders.get(handle)

    def release(self, handle: int) -> None:
        del self._folders[handle]

    def listing_begins(self, folder: Inode, now_s: float) -> None:
        """Note that a reply with the first entries and their attributes is being sent."""
        self._sent_at_s[folder] = now_s

    def listing_changed(self, folder: Inode) -> None:
        """Note that the folder's entries have changed since they were sent.

        The kernel gets an invalidation, but a program that has its reply and is not scheduled yet may still put the old
        entries into the kernel's cache. So the next opendir must drop them again.
        """
        self._sent_at_s.pop(folder, None)

    def may_keep_listing(self, folder: Inode, now_s: float) -> bool:
        """Whether the attributes of the kernel's cached listing are still valid.

        Later the kernel would ask for the attributes of each entry separately; a new listing brings all of them.
        """
        sent_at_s = self._sent_at_s.get(folder)
        return sent_at_s is not None and now_s - sent_at_s < VALID_S - LISTING_MARGIN_S


class OpenHandles:
    """The handles of a mount."""

    def __init__(self, projects: Projects) -> None:
        self.files = OpenFiles(projects)
        self.folders = OpenFolders()
