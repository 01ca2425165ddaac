"""Handles the requests that change nothing: attributes, listings, opens for reading, reads, xattrs, statfs."""

import os
from collections.abc import Iterator

import trio

from procorefs.cache.reader import Reader
from procorefs.kernel.attributes import Ownership, attributes
from procorefs.kernel.bridge.callers import asks_for_thumbnail
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.kernel.errno_table import NoEntry, NoThumbnails, Stale, Unreadable
from procorefs.kernel.node_lookup import NodeLookup
from procorefs.kernel.open_handles import OpenFile, OpenHandles, Text
from procorefs.project import Projects
from procorefs.staging.staging_area import StagedFile
from procorefs.tree.document_counts import Sizes
from procorefs.tree.naming.name_rules import MAX_COMPONENT_BYTES
from procorefs.tree.nodes import ROOT, Inode, Node
from procorefs.vfs.refusals import NotPermitted
from procorefs.xattr.attributes import Caller

DOT, DOT_DOT = 1, 2
"""Offsets of '.' and '..' in a listing; the offset of any other entry is its inode, which is larger and unique."""

FIRST_ENTRIES, MORE_ENTRIES = 32, 192
"""Rows read at a time for a listing: one getdents(2) of 32 KiB holds some 170 entries."""

STATFS_BLOCK_BYTES = 4096
SIZES_VALID_S = 60.0
FREE_INODES = 1 << 31
"""Procore documents no limit, and programs take a filesystem without free inodes for full."""


class ReadHandlers:
    """One method a request, named as in Operations."""

    def __init__(
        self,
        projects: Projects,
        nodes: NodeLookup,
        handles: OpenHandles,
        ownership: Ownership,
        *,
        thumbnails: bool,
    ) -> None:
        """Without `thumbnails` an open by a thumbnailer is refused."""
        self._projects = projects
        self._nodes = nodes
        self._handles = handles
        self._ownership = ownership
        self._thumbnails = thumbnails
        self._sizes: tuple[float, bool, Sizes] | None = None

    # Names and attributes

    def lookup_now(self, folder: Inode, name: bytes, tid: int) -> pyfuse3.EntryAttributes | None:
        """The reply to a lookup that need not wait, as most do; None: `lookup` waits for Procore."""
        node = self._nodes.entry_now(folder, name, tid)
        return attributes(node, self._ownership) if node is not None else None

    async def lookup(self, folder: Inode, name: bytes, tid: int) -> pyfuse3.EntryAttributes:
        return attributes(await self._nodes.entry(folder, name, tid), self._ownership)

    def getattr(self, inode: Inode) -> pyfuse3.EntryAttributes:
        return attributes(self._nodes.node(inode), self._ownership)

    # Folders

    async def opendir(self, folder: Inode, tid: int) -> int:
        """Wait for Procore here, where the kernel holds no lock of the folder."""
        project = self._projects.of(folder)
        if not project.view.reachable(folder):
            raise NoEntry
        await project.follower.children_known(folder)
        await self._nodes.poll_if_due(folder, tid)
        return self._handles.folders.open(folder)

    def readdir(self, handle: int, start: int, token: pyfuse3.ReaddirToken) -> None:
        """Read rows and reply without an await, so that no reply is older than a notification sent before it."""
        folder = self._handles.folders.get(handle)
        if start == 0:
            self._handles.folders.listing_begins(folder, trio.current_time())
        for name, node, offset in self._entries(folder, start):
            if not pyfuse3.readdir_reply(token, name, attributes(node, self._ownership), offset):
                return

    def _entries(self, folder: Inode, start: int) -> Iterator[tuple[bytes, Node, int]]:
        view, here = self._projects.of(folder).view, self._nodes.node(folder)
        if start < DOT:
            yield b".", here, DOT
        if start < DOT_DOT:
            yield b"..", view.by_inode(here.parent or ROOT) or here, DOT_DOT
        limit = FIRST_ENTRIES
        while batch := view.children(folder, after=start, limit=limit):
            for node in batch:
                yield view.names.to_programs(folder, node.shown), node, node.inode
            if len(batch) < limit:
                break
            start = batch[-1].inode
            limit = MORE_ENTRIES

    # Files

    def open_now(self, inode: Inode, tid: int) -> pyfuse3.FileInfo | None:
        """The reply to an open that need not wait, as most do; None: `open` waits."""
        node = self._nodes.to_open_now(inode)
        if node is None:
            return None
        self.check_thumbnailer(tid)
        return self._handles.files.info(self._open_to_read(node))

    async def open(self, inode: Inode, tid: int) -> pyfuse3.FileInfo:
        """Bind the handle to the newest known version, or to bytes that were written here."""
        with self._nodes.stale_opens.second_try(tid) as second_try:
            self.check_thumbnailer(tid)
            node = await self._nodes.to_open(inode, tid, second_try)
            # The kernel's cached pages belong to this version: `to_open` waits until other pages are dropped. Without
            # keep_cache the kernel would drop all pages, and wait for each page that is being read.
            return self._handles.files.info(self._open_to_read(node))

    def check_thumbnailer(self, tid: int) -> None:
        """Raise NoThumbnails if the mount fetches no bytes for thumbnails and the thread is a thumbnailer's."""
        if not self._thumbnails and asks_for_thumbnail(tid):
            raise NoThumbnails

    def _open_to_read(self, node: Node) -> int:
        """Open a handle; bytes that were written here take precedence over a version."""
        project = self._projects.of(node.inode)
        change = project.view.change(node.inode)
        dirty = project.changes.dirty_files.find(node.inode, change.shown if change is not None else None)
        if dirty is None and node.version is None:
            raise Unreadable(node.defect or "Procore names no version of it.")
        return self._handles.files.open(node)

    async def open_lock_file(self, inode: Inode, flags: int) -> pyfuse3.FileInfo:
        """Open the read-only lock file of another user's program."""
        lock_files = self._projects.of(inode).locks.lock_files
        await lock_files.will_open(inode)
        content = lock_files.content(inode)
        if content is None:
            raise Stale
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise NotPermitted("it is the lock file of another user")
        return self._handles.files.info(self._handles.files.open_text(inode, content))

    def source(self, handle: int) -> Reader | Text | StagedFile:
        """The source of a handle's reads: bytes that were written here take precedence over its version."""
        file: OpenFile = self._handles.files.get(handle)
        dirty = self._projects.of(file.inode).changes.dirty_files.get(file.inode)
        if dirty is not None:
            return dirty.file
        if file.reader is None:
            raise Unreadable("its bytes are not there any more")
        return file.reader

    # Extended attributes

    async def listxattr(self, inode: Inode, ctx: pyfuse3.RequestContext) -> list[bytes]:
        await self._nodes.poll_if_due(inode, ctx.pid)
        self._nodes.node(inode)
        return await self._projects.of(inode).xattrs.names(inode, Caller(ctx.pid))

    async def getxattr(self, inode: Inode, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Return an attribute; only Procore's attributes wait for a due poll, because programs try many names."""
        xattrs = self._projects.of(inode).xattrs
        if xattrs.needs_procore(name):
            await self._nodes.poll_if_due(inode, ctx.pid)
        self._nodes.node(inode)
        caller = Caller(ctx.pid, is_mounter=ctx.uid in (0, os.getuid()))
        return await xattrs.get(inode, name, caller)

    # The filesystem

    async def statfs(self, free_bytes: int) -> pyfuse3.StatvfsData:
        """The sizes of the newest versions, up to a minute old, because counting a million rows takes time."""
        sizes = await self._known_sizes()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = STATFS_BLOCK_BYTES
        answer.f_blocks = -(-(sizes.size_bytes + free_bytes) // STATFS_BLOCK_BYTES)
        answer.f_bfree = answer.f_bavail = free_bytes // STATFS_BLOCK_BYTES
        answer.f_files = sizes.documents + FREE_INODES
        answer.f_ffree = answer.f_favail = FREE_INODES
        answer.f_namemax = MAX_COMPONENT_BYTES
        return answer

    async def _known_sizes(self) -> Sizes:
        """The sizes; counted again when they are old, and once the first full listing is done."""
        project = self._projects.of(ROOT)
        now_s, complete = trio.current_time(), project.follower.complete
        if self._sizes is not None:
            counted_at_s, was_complete, sizes = self._sizes
            if now_s - counted_at_s < SIZES_VALID_S and was_complete == complete:
                return sizes
        sizes = await trio.to_thread.run_sync(project.view.store.counts.sizes)
        self._sizes = (now_s, complete, sizes)
        return sizes
