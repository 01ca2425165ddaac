"""Handles the requests that change a file: open for writing, write, flush, fsync, setattr, setxattr.

With `write_mode=through` or `fsync=remote` a handler waits until Procore has the change (`UploadWait`).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import trio

from procorefs.kernel.attributes import (
    Ownership,
    attributes,
    kept_after_setattr,
    without_set_id_bits,
)
from procorefs.kernel.bridge.callers import is_exiting
from procorefs.kernel.bridge.interrupts import interruptible
from procorefs.kernel.bridge.native import Bridge, pyfuse3
from procorefs.kernel.errno_table import Interrupted, NoProgress
from procorefs.kernel.node_lookup import NodeLookup
from procorefs.kernel.open_handles import OpenFile, OpenHandles
from procorefs.kernel.read_handlers import ReadHandlers
from procorefs.procore.api.brief_wait import NoAnswerYet
from procorefs.project import Projects
from procorefs.storage import clocks
from procorefs.tree.nodes import ROOT, Inode, Node, kept_of
from procorefs.vfs.dirty_files import DirtyFile
from procorefs.xattr.attributes import Caller

STANDSTILL_S = 600.0
"""A request that waits for Procore without a directory's lock gets ETIMEDOUT after this time without progress."""

EXIT_S = 10.0
"""The same for a program that exits without closing the file: it gets no signal and sees no error."""


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """Which requests wait for Procore (options `write_mode` and `fsync`)."""

    is_through: bool
    """Whether close, rename, mkdir and unlink wait."""
    syncs_remotely: bool
    """Whether fsync waits."""


class UploadWait:
    """Makes a request wait until Procore has a change, according to the write policy."""

    def __init__(self, projects: Projects, policy: WritePolicy) -> None:
        self._projects = projects
        self.policy = policy

    async def until_sent(self, inode: Inode, standstill_s: float = STANDSTILL_S) -> None:
        """Wait while there is progress; the upload continues in any case. Raises NoProgress, or the upload's error."""
        uploads = self._projects.of(inode).changes.uploads
        while True:
            before = uploads.progress(inode)
            with trio.move_on_after(standstill_s):
                await uploads.reached(inode)
                return
            if uploads.progress(inode) == before:
                raise NoProgress

    async def if_through(self, inode: Inode) -> None:
        """`until_sent`, with write_mode=through."""
        if self.policy.is_through:
            await self.until_sent(inode)

    async def if_through_briefly(self, inode: Inode) -> None:
        """`if_through` under a directory's lock: wait briefly, then return as with write_mode=back."""
        if self.policy.is_through:
            with suppress(NoAnswerYet):
                await self._projects.of(inode).brief_wait.of(partial(self.until_sent, inode))


class SetIdBits:
    """Removes set-id bits before a write without privileges: with libfuse the kernel leaves that to the filesystem."""

    def __init__(self, projects: Projects, nodes: NodeLookup) -> None:
        self._projects = projects
        self._nodes = nodes
        self._bearers: set[Inode] = set()
        """Files with set-id bits that are open for writing or got the bits in this run."""

    def note(self, node: Node) -> None:
        """Check later writes if the file has set-id bits; call it after an open for writing and after a chmod."""
        mode = node.kept.mode if node.kept is not None else None
        if mode is not None and mode & (stat.S_ISUID | stat.S_ISGID):
            self._bearers.add(node.inode)

    def before_write(self, file: OpenFile) -> None:
        """Call before each write through this handle."""
        if file.is_privileged or file.inode not in self._bearers:
            return
        self._bearers.discard(file.inode)
        kept = kept_of(self._nodes.node(file.inode))
        self._projects.of(file.inode).changes.edits.changes.keep(file.inode, without_set_id_bits(kept))


class FileChanges:
    """One method a request, named as in Operations."""

    def __init__(
        self,
        bridge: Bridge,
        projects: Projects,
        nodes: NodeLookup,
        handles: OpenHandles,
        reads: ReadHandlers,
        ownership: Ownership,
        set_id_bits: SetIdBits,
        upload_wait: UploadWait,
    ) -> None:
        self._bridge = bridge
        self._projects = projects
        self._nodes = nodes
        self._files = handles.files
        self._reads = reads
        self._ownership = ownership
        self._set_id_bits = set_id_bits
        self._upload_wait = upload_wait

    @property
    def free_bytes(self) -> int:
        """How many bytes can be written now."""
        return self._projects.of(ROOT).changes.dirty_files.staging.quota.left_bytes()

    # Open, write, close

    async def open(self, inode: Inode, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Open for writing or with O_TRUNC: start a dirty file over the newest version, and fetch nothing."""
        await self._projects.of(inode).changes.edits.sessions.save_tail(inode)
        with self._nodes.stale_opens.second_try(ctx.pid) as second_try:
            self._reads.check_thumbnailer(ctx.pid)
            node = await self._nodes.to_open(inode, ctx.pid, second_try)
            return self._files.info(await self._open(node, flags, is_privileged=is_privileged(ctx)))

    async def _open(self, node: Node, flags: int, *, is_privileged: bool) -> int:
        """Open the handle without an await."""
        edits, truncates = self._projects.of(node.inode).changes.edits, bool(flags & os.O_TRUNC)
        dirty = edits.sessions.open_for_writing(node.inode, truncates=truncates)
        with self._refusing_if_raised(node.inode):
            handle = self._files.open(
                node,
                reads=flags & os.O_ACCMODE != os.O_WRONLY,
                writes=True,
                is_privileged=is_privileged,
            )
        self._set_id_bits.note(node)
        if truncates:
            try:
                if dirty.file.size_bytes:
                    await self._resize_dirty(dirty, 0)
                self._set_id_bits.before_write(self._files.get(handle))
                edits.sessions.modified(dirty)
            except BaseException:
                self._files.finish(self._files.release(handle))
                raise
        return handle

    def write_at_once(self, handle: int, offset: int, data: memoryview) -> bool:
        """Write without waiting and without a coroutine; the bridge calls it first. True: all bytes are written."""
        file = self._files.get(handle)
        dirty = self._projects.of(file.inode).changes.dirty_files.get(file.inode)
        self._set_id_bits.before_write(file)
        if dirty is None or offset < dirty.promised_bytes or not dirty.file.write_now(offset, data):
            return False
        dirty.mtime_ns = clocks.file_ns()
        return True

    async def write(self, handle: int, offset: int, data: bytes) -> int:
        """The writes that `write_at_once` refuses: start the dirty file, and wait for quota or for the journal.

        Bytes that the journal has as closed are overwritten only after the journal has recorded it.
        """
        file = self._files.get(handle)
        changes = self._projects.of(file.inode).changes
        dirty = changes.dirty_files.get(file.inode)
        self._set_id_bits.before_write(file)
        if dirty is None:
            dirty = changes.edits.sessions.open_for_writing(file.inode, truncates=False)
        if offset < dirty.promised_bytes or not dirty.file.write_now(offset, data):
            with interruptible(self._bridge.take_request()):
                await changes.edits.sessions.write(dirty, offset, data)
                return len(data)
            raise Interrupted
        dirty.mtime_ns = clocks.file_ns()
        return len(data)

    async def flush(self, file: OpenFile) -> None:
        """Journal the written bytes before close returns: from then on they survive the daemon."""
        edits = self._projects.of(file.inode).changes.edits
        is_first, file.is_flushed = not file.is_flushed, True
        if not self._upload_wait.policy.is_through:
            await edits.sessions.handle_flushed(file.inode, is_first=is_first, is_final=False)
            return
        request = self._bridge.take_request()
        with interruptible(request):
            await edits.sessions.handle_flushed(file.inode, is_first=is_first, is_final=True)
            is_last_act = request is not None and is_exiting(request.tid)
            await self._upload_wait.until_sent(file.inode, EXIT_S if is_last_act else STANDSTILL_S)
            return
        raise Interrupted

    async def fsync(self, file: OpenFile) -> None:
        changes, policy = self._projects.of(file.inode).changes, self._upload_wait.policy
        with interruptible(self._bridge.take_request()):
            await changes.edits.sessions.flush(file.inode)
            await changes.durability.reached()
            if policy.syncs_remotely or policy.is_through:
                await self._upload_wait.until_sent(file.inode)
            return
        raise Interrupted

    async def fsyncdir(self) -> None:
        await self._projects.of(ROOT).changes.durability.reached()

    @contextmanager
    def _refusing_if_raised(self, inode: Inode) -> Iterator[None]:
        """Drop a dirty file that was started for an open that fails."""
        try:
            yield
        except BaseException:
            self._projects.of(inode).changes.edits.sessions.refused(inode)
            raise

    # Attributes

    async def setattr(
        self,
        inode: Inode,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        ctx: pyfuse3.RequestContext,
        *,
        has_handle: bool,
    ) -> pyfuse3.EntryAttributes:
        node = self._nodes.node(inode)
        if fields.update_size:
            await self._resize_interruptibly(node, attr.st_size, has_handle=has_handle)
            node = self._nodes.node(inode)
        before = kept_of(node)
        kept = kept_after_setattr(before, attr, fields)
        is_cut = fields.update_size and not is_privileged(ctx)
        is_owner_set = fields.update_uid or fields.update_gid
        if not node.is_folder and not fields.update_mode and (is_owner_set or is_cut):
            kept = without_set_id_bits(kept)
        if kept != before:
            self._projects.of(inode).changes.edits.changes.keep(inode, kept)
            node = self._nodes.node(inode)
            self._set_id_bits.note(node)
        return attributes(node, self._ownership)

    async def _resize_interruptibly(self, node: Node, size_bytes: int, *, has_handle: bool) -> None:
        """Resize; without a handle and with write_mode=through wait for Procore."""
        if has_handle or not self._upload_wait.policy.is_through:
            await self._resize(node, size_bytes, has_handle=has_handle)
            return
        with interruptible(self._bridge.take_request()):
            await self._resize(node, size_bytes, has_handle=has_handle)
            return
        raise Interrupted

    async def _resize(self, node: Node, size_bytes: int, *, has_handle: bool) -> None:
        inode = node.inode
        changes = self._projects.of(inode).changes
        edits, dirty_files = changes.edits, changes.dirty_files
        await edits.sessions.save_tail(inode)
        size_before = node.local_size_bytes
        if size_before is None and node.version is not None:
            size_before = node.version.size_bytes
        dirty = edits.sessions.open_for_writing(inode, truncates=size_bytes == 0)
        with self._refusing_if_raised(inode):
            dirty_files.enter(inode, writes=True)
        try:
            if dirty.file.size_bytes != size_bytes:
                await self._resize_dirty(dirty, size_bytes)
            if has_handle or size_before != size_bytes:  # truncate(2) to the present size changes nothing
                edits.sessions.modified(dirty)
        finally:
            dirty_files.leave(inode, writes=True)
            if not has_handle and not dirty_files.is_written(inode):
                try:
                    edits.sessions.flushed(inode)
                finally:
                    try:
                        edits.sessions.released(inode)
                    finally:
                        changes.drop_if_closed(inode)
        if not has_handle:
            await self._upload_wait.if_through(inode)

    async def _resize_dirty(self, dirty: DirtyFile, size_bytes: int) -> None:
        """Change the size; the journal never promises more bytes than exist."""
        changes = self._projects.of(dirty.inode).changes
        is_emptied = dirty.is_frozen and not size_bytes
        with changes.dirty_files.beginning_empty(dirty) if is_emptied else nullcontext():
            await changes.edits.sessions.truncate(dirty, size_bytes)

    # Extended attributes

    async def setxattr(self, inode: Inode, name: bytes, value: bytes, tid: int) -> None:
        flags = self._bridge.setxattr_flags()
        caller = Caller(tid, makes=bool(flags & os.XATTR_CREATE), replaces=bool(flags & os.XATTR_REPLACE))
        await self._projects.of(inode).xattrs.set(inode, name, value, caller)

    async def removexattr(self, inode: Inode, name: bytes, tid: int) -> None:
        await self._projects.of(inode).xattrs.remove(inode, name, Caller(tid))


def is_privileged(ctx: pyfuse3.RequestContext) -> bool:
    """Whether the caller has CAP_FSETID, as far as the request tells."""
    return ctx.uid == 0
