"""Open files and folders: what each handle reads, and which inodes somebody is inside of."""

from dataclasses import dataclass

import cachetools

from procorefs.cache.reader import ContentReader, Reader
from procorefs.cache.sibling_read_ahead import Position, SiblingReadAhead
from procorefs.kernel.attributes import VALID_S
from procorefs.kernel.direct_io import DirectIo
from procorefs.tree.nodes import Inode, Node
from procorefs.vfs.dirty_files import DirtyFiles

REMEMBERED = 65_536
"""Folders of which the last listing is remembered; to have forgotten one costs a round trip."""

LISTING_MARGIN_S = 5.0
"""A kept listing is given up this long before its attributes end: a walk through it stays free of stat calls."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is read of a file that has no bytes anywhere: read like a Reader."""

    content: bytes

    def read_now(self, offset: int, size_bytes: int) -> bytes:
        return self.content[offset : offset + size_bytes]

    async def read(self, offset: int, size_bytes: int) -> bytes:
        return self.read_now(offset, size_bytes)

    def close(self) -> None:
        """Nothing is kept."""


@dataclass(slots=True)
class OpenFile:
    """One open(2). Without a draft it reads the version that the file had then, whatever comes."""

    inode: Inode
    reader: Reader | Text | None
    """None: Procore had no version of it yet, and its bytes are in its draft as long as somebody is inside."""
    writes: bool
    goes_past_pages: bool
    """The kernel keeps nothing of what goes through it (direct_io.py)."""
    is_privileged: bool = True
    """Who opened it may write without taking set-id bits away."""
    is_flushed: bool = False
    """A descriptor of it was closed."""


class OpenFiles:
    """File handles; the drafts are told who is inside, which decides whether a new version may take over an inode."""

    def __init__(self, content: ContentReader, siblings: SiblingReadAhead, drafts: DirtyFiles) -> None:
        self._content = content
        self._siblings = siblings
        self._drafts = drafts
        self._pages = DirectIo()
        self._files: dict[int, OpenFile] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._files)

    def open(
        self, node: Node, *, reads: bool = True, writes: bool = False, is_privileged: bool = True
    ) -> int:
        """A handle.

        No await from looking up the version to here, or it could have been replaced in the inode meanwhile.
        """
        handle = self._next
        self._next += 1
        inode = node.inode
        self._drafts.enter(inode, writes=writes)  # which alone may fail, for want of a descriptor
        reader = self._content.open(node.version) if node.version is not None else None
        goes_past = self._pages.enter(inode, reads=reads, writes=writes)
        self._files[handle] = OpenFile(inode, reader, writes, goes_past, is_privileged)
        if node.parent is not None and reader is not None and not writes:
            self._siblings.opened(Position(node.parent, inode, node.shown), reader)
        return handle

    def open_text(self, inode: Inode, content: bytes) -> int:
        """A handle of a file that is shown only."""
        handle = self._next
        self._next += 1
        self._drafts.enter(inode, writes=False)
        self._files[handle] = OpenFile(inode, Text(content), writes=False, goes_past_pages=True)
        return handle

    def get(self, handle: int) -> OpenFile:
        return self._files[handle]

    def handles(self) -> list[int]:
        """All that are open."""
        return list(self._files)

    def inode_of(self, handle: int) -> Inode | None:
        """For the log: None when the handle is not open."""
        file = self._files.get(handle)
        return file.inode if file is not None else None

    def release(self, handle: int) -> OpenFile:
        file = self._files.pop(handle)
        if file.reader is not None:
            file.reader.close()
        self._pages.leave(file.inode, goes_past=file.goes_past_pages, writes=file.writes)
        self._drafts.leave(file.inode, writes=file.writes)
        return file


class OpenFolders:
    """Folder handles, and until when the kernel may list a folder from its own cache."""

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
        """The first entries, and their attributes, are being sent now."""
        self._sent_at_s[folder] = now_s

    def listing_changed(self, folder: Inode) -> None:
        """The folder has other entries than when they were sent.

        The kernel was told to forget them, but a program that has its reply and was not yet scheduled may put the old
        entries into the kernel's cache after that: the next opendir must have them thrown away again.
        """
        self._sent_at_s.pop(folder, None)

    def may_keep_listing(self, folder: Inode, now_s: float) -> bool:
        """Whether the attributes that came with the kernel's listing are still valid.

        After that the kernel would ask for each entry's attributes one by one; listing anew brings them all at once.
        """
        sent_at_s = self._sent_at_s.get(folder)
        return sent_at_s is not None and now_s - sent_at_s < VALID_S - LISTING_MARGIN_S
