"""The FUSE requests that change something: checked, handed to the outbox's edits, answered when they are journaled.

Whoever holds a directory's kernel lock (create, mkdir, unlink, rmdir, rename) waits no longer than `BriefWait` lets it,
and only with `write_mode=through` or for the lock file of an office program.
"""

import errno
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import msgspec
import trio

from procorefs.journal.durability import Durability
from procorefs.kernel.attributes import FIRST_SHOWN_ONLY, attributes
from procorefs.kernel.bridge.interrupts import interruptible, is_exiting
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.kernel.errno_table import Interrupted, ReadOnly
from procorefs.kernel.open_handles import OpenFile
from procorefs.kernel.operations import Operations, Rooms, by_file_at_once, by_inode, by_inode_at_once
from procorefs.procore.api.brief_wait import NoAnswerYet
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode, Kept, Node, kept_of
from procorefs.upload.commands import Commands
from procorefs.versions.virtual_inodes import FIRST_VIRTUAL
from procorefs.vfs.dirty_files import DirtyFile
from procorefs.vfs.namespace_edits import LocalEdits
from procorefs.vfs.refusals import ChangeRefused, Exists, NotPermitted, NotSupported
from procorefs.xattr.handlers import Caller

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
"""renameat2(2)."""

STANDSTILL_S = 600.0
"""Who waits for Procore outside of a directory's lock gets ETIMEDOUT when nothing of the file has moved for so long."""

EXIT_S = 10.0
"""The same for a program that ends without having closed the file: it can't be killed, and nobody is told anything."""

_MODE_BITS = 0o7777


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """How changes are answered."""

    is_through: bool
    """close, rename, mkdir and unlink wait for Procore."""
    syncs_remotely: bool
    """fsync waits for Procore."""


class ChangingOperations(Operations):
    """Operations of a mount that takes changes."""

    def __init__(
        self,
        rooms: Rooms,
        *,
        edits: LocalEdits,
        commands: Commands,
        durability: Durability,
        manners: WritePolicy,
    ) -> None:
        super().__init__(rooms)
        self._edits = edits
        self._commands = commands
        self._durability = durability
        self._manners = manners
        self._set_id: set[Inode] = set()
        """Files with set-id bits that were opened for writing or got the bits in this run."""

    # Entries

    @by_inode_at_once
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        folder = Inode(parent_inode)
        node = await self._create(folder, self._new_name(folder, name), self._kept(mode, ctx))
        access = flags & os.O_ACCMODE
        with self._taking_back(folder, node.shown, node.inode):
            handle = self.files.open(
                node,
                reads=access != os.O_WRONLY,
                writes=access != os.O_RDONLY,
                is_privileged=_is_privileged(ctx),
            )
        self._note_set_id(node)
        return self._opened(handle), attributes(self._node(node.inode), self._ownership)

    def _new_name(
        self, folder: Inode, name: bytes, moved: Node | None = None, *, is_folder: bool = False
    ) -> bytes:
        """What an entry is called in Procore that gets a name: what it is called already if that goes on as this."""
        known = self._names.to_procore(folder, name)
        if self._view.child(folder, known) is not None:
            return known
        source = moved.inode if moved is not None else None
        is_folder = is_folder or (moved is not None and moved.is_folder)
        is_kept = self._edits.entries.is_leaving(folder, known, is_folder=is_folder, source=source)
        return known if is_kept else self._names.encoded(name)

    async def _create(self, folder: Inode, name: bytes, kept: Kept) -> Node:
        """A file, which may be the lock file of an office program; no await from its return to the handle."""
        await self._lock_files.will_create(folder, name)
        if self._lock_files.shows(folder, name):
            raise Exists("another user's program has the document open")
        node = self._edits.entries.create(folder, name, kept)
        self._entries_changed(folder, name)
        self._lock_files.created(folder, name, node.inode)
        return node

    @by_inode_at_once
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, _rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if not stat.S_ISREG(mode):
            raise NotSupported("Procore has files and folders only")
        folder = Inode(parent_inode)
        node = await self._create(folder, self._new_name(folder, name), self._kept(mode, ctx))
        with self._taking_back(folder, node.shown, node.inode):
            self._edits.sessions.flushed(node.inode)
        self._edits.sessions.left(node.inode)
        await self._went_through_soon(node.inode)
        return attributes(self._node(node.inode), self._ownership)

    @by_inode_at_once
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        folder = Inode(parent_inode)
        name = self._new_name(folder, name, is_folder=True)
        node = self._edits.entries.make_folder(folder, name, self._kept(mode, ctx))
        self._entries_changed(folder, name)
        await self._went_through_soon(node.inode)
        return attributes(self._node(node.inode), self._ownership)

    @by_inode_at_once
    async def unlink(self, parent_inode: int, name: bytes, _ctx: pyfuse3.RequestContext) -> None:
        folder = Inode(parent_inode)
        name = self._names.to_procore(folder, name)
        if self._view.child(folder, name) is None and self._lock_files.shows(folder, name):
            raise NotPermitted(
                "it is the lock file of another user", path=self._view.path_of_entry(folder, name)
            )
        inode = self._edits.entries.unlink(folder, name)
        self._lock_files.removed(folder, name)
        self._entries_changed(folder, name)
        await self._went_through_soon(inode)

    @by_inode_at_once
    async def rmdir(self, parent_inode: int, name: bytes, _ctx: pyfuse3.RequestContext) -> None:
        folder = Inode(parent_inode)
        name = self._names.to_procore(folder, name)
        inode = self._edits.entries.remove_folder(folder, name)
        self._entries_changed(folder, name)
        await self._went_through_soon(inode)

    @by_inode_at_once
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        _ctx: pyfuse3.RequestContext,
    ) -> None:
        if parent_inode_new >= FIRST_VIRTUAL:
            raise ReadOnly
        old, new = Inode(parent_inode_old), Inode(parent_inode_new)
        name = self._names.to_procore(old, name_old)
        moved = self._view.child(old, name)
        new_name = self._new_name(new, name_new, moved)
        if flags == RENAME_EXCHANGE:
            self._edits.entries.exchange(old, name, new, new_name)
        elif flags in (0, RENAME_NOREPLACE):
            self._edits.entries.rename(old, name, new, new_name, replaces=not flags)
        else:
            raise pyfuse3.FUSEError(errno.EINVAL)
        self._renamed(old, name, new, new_name)
        if moved is not None:
            await self._went_through_soon(moved.inode)

    @by_inode_at_once
    async def link(
        self, _inode: int, _new_parent_inode: int, _new_name: bytes, _ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise NotSupported("Procore has no hard links")

    @by_inode_at_once
    async def symlink(
        self, _parent_inode: int, _name: bytes, _target: bytes, _ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise NotSupported("Procore has files and folders only: no symbolic links")

    def _kept(self, mode: int, ctx: pyfuse3.RequestContext) -> Kept:
        """Mode and owner of something new; the owner only if it is not the one that everything has."""
        owner = self._ownership
        return Kept(
            mode=mode & _MODE_BITS & ~ctx.umask,
            uid=ctx.uid if ctx.uid != owner.uid else None,
            gid=ctx.gid if ctx.gid != owner.gid else None,
        )

    def _renamed(self, old: Inode, name: bytes, new: Inode, new_name: bytes) -> None:
        for folder, entry in ((old, name), (new, new_name)):
            self._entries_changed(folder, entry)
            self._lock_files.removed(folder, entry)
            node = self._view.child(folder, entry)
            if node is not None and not node.is_folder:
                self._lock_files.created(folder, entry, node.inode)

    def _entries_changed(self, folder: Inode, name: bytes) -> None:
        """The kernel knows of its own changes, but a listing that it got before may be put into its cache after.

        And where names are mapped, another entry may show under another name now.
        """
        self.folders.listing_changed(folder)
        for shown in self._names.affected(folder, name):
            if shown != name:
                self._notifier.entry(folder, shown)

    async def _went_through(self, inode: Inode) -> None:
        """With write_mode=through wait until Procore has it; raises why it has not."""
        if self._manners.is_through:
            await self._reached(inode)

    async def _reached(self, inode: Inode, standstill_s: float = STANDSTILL_S) -> None:
        """Wait until Procore has it, as long as something moves; what is journaled goes on in any case."""
        while True:
            before = self._commands.progress(inode)
            with trio.move_on_after(standstill_s):
                await self._commands.reached(inode)
                return
            if self._commands.progress(inode) == before:
                raise pyfuse3.FUSEError(errno.ETIMEDOUT)

    async def _went_through_soon(self, inode: Inode) -> None:
        """The same under a directory's lock: what takes longer goes on as with write_mode=back."""
        with suppress(NoAnswerYet):
            await self._brief.of(partial(self._went_through, inode))

    # Files

    @by_inode
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """As for reading; who writes gets a draft over the newest version, of which nothing is fetched yet."""
        if inode >= FIRST_SHOWN_ONLY:
            return await self._open_shown(Inode(inode), flags)
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            await self._edits.sessions.save_tail(Inode(inode))
        with self._retries.coming(ctx.pid) as retry:
            node = await self._current(Inode(inode), ctx.pid, retry)
            if flags & os.O_ACCMODE == os.O_RDONLY and not flags & os.O_TRUNC:
                return self._opened(self.open_to_read(node))
            return await self._open_to_write(node, flags, ctx)

    async def _open_to_write(self, node: Node, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """No await before the handle is there."""
        truncates = bool(flags & os.O_TRUNC)
        draft = self._edits.sessions.open_draft(node.inode, truncates=truncates)
        with self._leaving_if_refused(node.inode):
            handle = self.files.open(
                node,
                reads=flags & os.O_ACCMODE != os.O_WRONLY,
                writes=True,
                is_privileged=_is_privileged(ctx),
            )
        self._note_set_id(node)
        if truncates:
            try:
                if draft.file.size_bytes:
                    await self._cut(draft, 0)
                self._will_modify(self.files.get(handle))
                self._edits.sessions.modified(draft)
            except BaseException:
                self._released(self.files.release(handle))
                raise
        return self._opened(handle)

    def write_at_once(self, fh: int, offset: int, data: memoryview) -> bool:
        """The bridge's question at each write: the common one needs no coroutine."""
        file = self.files.get(fh)
        draft = self._drafts.get(file.inode)
        self._will_modify(file)
        if draft is None or offset < draft.promised_bytes or not draft.file.write_now(offset, data):
            return False
        draft.mtime_ns = clocks.file_ns()
        return True

    @by_file_at_once
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        """What `write_at_once` left: waits for what must be done before, or for room, or begins the draft.

        What the journal has as closed is not written over before it is told so.
        """
        file = self.files.get(fh)
        draft = self._drafts.get(file.inode)
        self._will_modify(file)
        if draft is None:
            draft = self._edits.sessions.open_draft(file.inode, truncates=False)
        if off < draft.promised_bytes or not draft.file.write_now(off, buf):
            with interruptible(self.bridge.take_request()):
                await self._edits.sessions.write(draft, off, buf)
                return len(buf)
            raise Interrupted
        draft.mtime_ns = clocks.file_ns()
        return len(buf)

    @by_file_at_once
    async def flush(self, fh: int) -> None:
        """What was written is journaled before close returns; it survives the daemon from then on."""
        file = self.files.get(fh)
        if file.writes:
            await self._flush(file)
            if self.no_room.goes_on:
                self.no_room.went_well()

    async def _flush(self, file: OpenFile) -> None:
        is_first, file.is_flushed = not file.is_flushed, True
        is_through = self._manners.is_through
        if not is_through:
            await self._edits.sessions.handle_flushed(file.inode, is_first=is_first, is_final=False)
            return
        request = self.bridge.take_request()
        with interruptible(request):
            await self._edits.sessions.handle_flushed(file.inode, is_first=is_first, is_final=True)
            is_last_act = request is not None and is_exiting(request.tid)
            await self._reached(file.inode, EXIT_S if is_last_act else STANDSTILL_S)
            return
        raise Interrupted

    @by_file_at_once
    async def fsync(self, fh: int, _datasync: bool) -> None:
        inode = self.files.get(fh).inode
        with interruptible(self.bridge.take_request()):
            await self._edits.sessions.flush(inode)
            await self._durability.reached()
            if self._manners.syncs_remotely or self._manners.is_through:
                await self._reached(inode)
            return
        raise Interrupted

    @by_inode_at_once
    async def fsyncdir(self, _fh: int, _datasync: bool) -> None:
        await self._durability.reached()

    @by_file_at_once
    async def release(self, fh: int) -> None:
        """An mmap may have written after the last flush. Whatever the disk says, the handle is gone."""
        await self._drafts.still(self.files.get(fh).inode)
        file = self.files.release(fh)
        try:
            self._released(file)
        except Exception as error:  # by its inode: the handle names nobody any more
            raise self.answer("release", file.inode, (fh,), error) from None

    def _released(self, file: OpenFile) -> None:
        try:
            if file.writes:
                if file.is_flushed:
                    self._edits.sessions.handle_released(file.inode)
                self._edits.sessions.flushed(file.inode)
        finally:
            try:
                if file.writes and not self._drafts.is_written(file.inode):
                    self._edits.sessions.released(file.inode)
            finally:
                self.let_go(file)

    def _nobody_inside(self, inode: Inode) -> None:
        self._edits.sessions.left(inode)

    @contextmanager
    def _leaving_if_refused(self, inode: Inode) -> Iterator[None]:
        """A draft that was begun for somebody who could not get in is nobody's."""
        try:
            yield
        except BaseException:
            self._edits.sessions.refused(inode)
            raise

    @contextmanager
    def _taking_back(self, folder: Inode, name: bytes, inode: Inode) -> Iterator[None]:
        """What was just made is not there if its maker is refused."""
        try:
            yield
        except BaseException:
            with suppress(
                OSError, sqlite3.Error, ChangeRefused
            ):  # the disk refuses this, too: it stays, and is empty
                self._edits.entries.unlink(folder, name)
                self._entries_changed(folder, name)
            self._leave(inode)
            raise

    def _note_set_id(self, node: Node) -> None:
        """Have writes to it looked at, if it has set-id bits."""
        mode = node.kept.mode if node.kept is not None else None
        if mode is not None and mode & (stat.S_ISUID | stat.S_ISGID):
            self._set_id.add(node.inode)

    def _will_modify(self, file: OpenFile) -> None:
        """Take set-id bits away before a write without privileges: libfuse has the kernel leave that to us."""
        if file.is_privileged or file.inode not in self._set_id:
            return
        self._set_id.discard(file.inode)
        kept = kept_of(self._node(file.inode))
        self._edits.changes.keep(file.inode, _without_set_id(kept))

    def _room_bytes(self) -> int:
        return self._drafts.staging.room.left_bytes()

    # Attributes

    @by_inode_at_once
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._node(inode)
        if fields.update_size:
            await self._resize_interruptibly(node, attr.st_size, has_handle=fh is not None)
        before = kept_of(self._node(inode))
        kept = _set(before, attr, fields)
        is_cut = fields.update_size and not _is_privileged(ctx)
        if (
            not node.is_folder
            and not fields.update_mode
            and (fields.update_uid or fields.update_gid or is_cut)
        ):
            kept = _without_set_id(kept)
        if kept != before:
            self._edits.changes.keep(node.inode, kept)
            self._note_set_id(self._node(inode))
        return attributes(self._node(inode), self._ownership)

    # Extended attributes

    @by_inode
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        flags = self.bridge.setxattr_flags()
        caller = Caller(ctx.pid, makes=bool(flags & os.XATTR_CREATE), replaces=bool(flags & os.XATTR_REPLACE))
        await self._xattrs.set(Inode(inode), name, value, caller)

    @by_inode
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._xattrs.remove(Inode(inode), name, Caller(ctx.pid))

    async def _resize_interruptibly(self, node: Node, size_bytes: int, *, has_handle: bool) -> None:
        """Without a handle and with write_mode=through it waits for Procore."""
        if has_handle or not self._manners.is_through:
            await self._resize(node, size_bytes, has_handle=has_handle)
            return
        with interruptible(self.bridge.take_request()):
            await self._resize(node, size_bytes, has_handle=has_handle)
            return
        raise Interrupted

    async def _resize(self, node: Node, size_bytes: int, *, has_handle: bool) -> None:
        await self._edits.sessions.save_tail(node.inode)
        size_before = node.local_size_bytes
        if size_before is None and node.version is not None:
            size_before = node.version.size_bytes
        draft = self._edits.sessions.open_draft(node.inode, truncates=size_bytes == 0)
        with self._leaving_if_refused(node.inode):
            self._drafts.enter(node.inode, writes=True)
        try:
            if draft.file.size_bytes != size_bytes:
                await self._cut(draft, size_bytes)
            if has_handle or size_before != size_bytes:  # truncate(2) to the size it has changes nothing
                self._edits.sessions.modified(draft)
        finally:
            self._drafts.leave(node.inode, writes=True)
            if not has_handle and not self._drafts.is_written(node.inode):
                try:
                    self._edits.sessions.flushed(node.inode)
                finally:
                    try:
                        self._edits.sessions.released(node.inode)
                    finally:
                        self._leave(node.inode)
        if not has_handle:
            await self._went_through(node.inode)

    async def _cut(self, draft: DirtyFile, size_bytes: int) -> None:
        """To another size; the journal never promises more than there is."""
        is_emptied = draft.is_frozen and not size_bytes
        with self._drafts.beginning_empty(draft) if is_emptied else nullcontext():
            await self._edits.sessions.truncate(draft, size_bytes)


def _set(kept: Kept, attr: pyfuse3.EntryAttributes, fields: pyfuse3.SetattrFields) -> Kept:
    """What is kept after a setattr."""
    new: dict[str, int] = {}
    if fields.update_mode:
        new["mode"] = attr.st_mode & _MODE_BITS
    if fields.update_uid:
        new["uid"] = attr.st_uid
    if fields.update_gid:
        new["gid"] = attr.st_gid
    if fields.update_mtime:
        new["mtime_ns"] = attr.st_mtime_ns
    if fields.update_atime:
        new["atime_ns"] = attr.st_atime_ns
    if not new:
        return kept
    new["ctime_ns"] = clocks.file_ns()
    return msgspec.structs.replace(kept, **new)


def _without_set_id(kept: Kept) -> Kept:
    """As a write leaves it: set-group-ID without the right of the group to execute means something else, and stays."""
    mode = kept.mode
    if mode is None:
        return kept
    gone = mode & stat.S_ISUID | (mode & stat.S_ISGID if mode & stat.S_IXGRP else 0)
    return msgspec.structs.replace(kept, mode=mode & ~gone, ctime_ns=clocks.file_ns()) if gone else kept


def _is_privileged(ctx: pyfuse3.RequestContext) -> bool:
    """Whether the caller has CAP_FSETID, as far as the request tells."""
    return ctx.uid == 0
