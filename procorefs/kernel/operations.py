"""The FUSE requests: each handler checks, awaits one call into a room and builds the reply."""

import contextlib
import errno
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from procorefs.cache.reader import Reader
from procorefs.kernel.attributes import FIRST_SHOWN_ONLY, Ownership, attributes
from procorefs.kernel.bridge.interrupts import interruptible
from procorefs.kernel.bridge.native import Bridge, pyfuse3
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.errno_table import (
    Interrupted,
    NameTooLong,
    NoEntry,
    NoThumbnails,
    ReadOnly,
    Stale,
    Unreadable,
    answer_of,
)
from procorefs.kernel.lock_files import LockFiles
from procorefs.kernel.open_handles import OpenFile, OpenFiles, OpenFolders, Text
from procorefs.kernel.procore_directory import ProcoreDirectory
from procorefs.kernel.stale_opens import Retries, Retry
from procorefs.kernel.thumbnailers import asks_for_thumbnail
from procorefs.procore.api.brief_wait import BriefWait, NoAnswerYet
from procorefs.service.refused_calls import RefusedCalls
from procorefs.staging.staging_area import StagedFile
from procorefs.storage.failures import Episode, first_cause
from procorefs.storage.sqlite_files import is_damage
from procorefs.tree.document_counts import Sizes
from procorefs.tree.naming.shown_names import MAX_COMPONENT_BYTES
from procorefs.tree.nodes import OWN_ENTRY, ROOT, Inode, Node
from procorefs.tree.sync.follower import Follower
from procorefs.versions.virtual_inodes import FIRST_VIRTUAL
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.find_child import find_child
from procorefs.vfs.refusals import ChangeRefused, NotPermitted
from procorefs.vfs.view import View
from procorefs.xattr.handlers import Attributes, Caller

log = logging.getLogger(__name__)

DOT, DOT_DOT = 1, 2
"""Offsets of '.' and '..' in a listing; every other entry's is its inode, which is larger and never another's."""

FIRST_ENTRIES, MORE_ENTRIES = 32, 192
"""Rows read at a time for a listing: one getdents(2) of 32 KiB holds some 170 entries."""

STATFS_BLOCK_BYTES = 4096
SIZES_VALID_S = 60.0
FREE_INODES = 1 << 31
"""There is no limit that we know of, and a filesystem without free inodes counts as full."""

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
S = TypeVar("S", bound="Operations")
_Operation = Callable[Concatenate[S, A, P], Coroutine[Any, Any, T]]


def _answering(
    inode_of: Callable[["Operations", A], Inode], *, waits: bool = True, is_numbered: bool = True
) -> Callable[[_Operation[S, A, P, T]], _Operation[S, A, P, T]]:
    """Around every operation: its interrupts, its errno, its line in the log.

    Only FUSEError leaves it: with any other exception pyfuse3 would end the mount. `inode_of` says for the log whom the
    operation's first argument names. One that does not wait, or only inside an `interruptible` of its own, need not pay
    for one: that is a tenth of a small request. The bridge's slot then stays full until the next request.
    `is_numbered`: the first argument is an inode or a handle, and a virtual one goes to who answers for these.
    """

    def decorate(operation: _Operation[S, A, P, T]) -> _Operation[S, A, P, T]:
        @functools.wraps(operation)
        async def handle(self: S, named: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                if is_numbered and named >= FIRST_VIRTUAL:  # type: ignore[operator]  # A is int then
                    answer: T = await self.answer_virtual(operation.__name__, named, *args, **kwargs)
                    return answer
                if not waits:
                    return await operation(self, named, *args, **kwargs)
                with interruptible(self.bridge.take_request()):
                    return await operation(self, named, *args, **kwargs)
                raise Interrupted
            except trio.Cancelled:
                # The mount ends. Without an answer the caller would hang where nobody can abort the connection; and
                # the worker meets the cancellation again at its next checkpoint.
                raise pyfuse3.FUSEError(errno.ENOTCONN) from None
            except Exception as error:
                raise self.answer(operation.__name__, inode_of(self, named), args, error) from None

        return handle

    return decorate


def _named(_operations: "Operations", inode: int) -> Inode:
    return Inode(inode)


def _of_file(operations: "Operations", handle: int) -> Inode:
    return operations.files.inode_of(handle) or _virtual_or_root(handle)


def _of_folder(operations: "Operations", handle: int) -> Inode:
    return operations.folders.inode_of(handle) or _virtual_or_root(handle)


def _virtual_or_root(handle: int) -> Inode:
    """A virtual handle is as good as an inode: it is no other's number."""
    return Inode(handle) if handle >= FIRST_VIRTUAL else ROOT


def _of_all(_operations: "Operations", _ctx: pyfuse3.RequestContext) -> Inode:
    return ROOT


by_inode = _answering(_named)
of_all = _answering(_of_all, is_numbered=False)
by_inode_at_once = _answering(_named, waits=False)
by_file_at_once = _answering(_of_file, waits=False)
by_folder_at_once = _answering(_of_folder, waits=False)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Whom the handlers call."""

    bridge: Bridge
    view: View
    drafts: DirtyFiles
    follower: Follower
    files: OpenFiles
    xattrs: Attributes
    lock_files: LockFiles
    brief: BriefWait
    notifier: Notifier
    ownership: Ownership
    refusals: RefusedCalls
    virtual: ProcoreDirectory
    thumbnails: bool = True
    """False: who reads only to make thumbnails is refused."""


class Operations(pyfuse3.Operations):
    """Answers the kernel from the tree and the content; knows no HTTP and no SQL."""

    def __init__(self, rooms: Rooms) -> None:
        super().__init__()
        self.bridge = rooms.bridge
        self._thumbnails = rooms.thumbnails
        self.files = rooms.files
        self._xattrs = rooms.xattrs
        self._lock_files = rooms.lock_files
        self._brief = rooms.brief
        self._view = rooms.view
        self._store = rooms.view.store
        self._drafts = rooms.drafts
        self._names = rooms.view.names
        self._follower = rooms.follower
        self.folders = OpenFolders()
        self._notifier = rooms.notifier
        self._ownership = rooms.ownership
        self._refusals = rooms.refusals
        self._virtual = rooms.virtual
        self.no_room = Episode(log, "There is room for what is written again")
        self._sizes: tuple[float, bool, Sizes] | None = None
        self._retries = Retries(rooms.view, rooms.drafts, self._nobody_inside)

    def may_keep_listing(self, folder: int) -> bool:
        """The bridge's question at each opendir."""
        return self.folders.may_keep_listing(Inode(folder), trio.current_time())

    def names_affected(self, folder: Inode, shown: bytes) -> Iterable[bytes]:
        """The names that lead elsewhere when an entry has come or gone."""
        return self._names.affected(folder, shown)

    def answer(
        self, operation: str, inode: Inode, args: tuple[object, ...], error: Exception
    ) -> pyfuse3.FUSEError:
        """What the kernel gets for an error; whatever asks somebody to act is logged with its path."""
        if isinstance(error, pyfuse3.FUSEError):
            return error
        cause = first_cause(error)
        error = cause if isinstance(cause, Exception) else error
        answer = answer_of(error)
        if answer.level >= logging.INFO:
            named = error.path if isinstance(error, ChangeRefused) else ""
            path = named or self._name(inode)
            if answer.errno == errno.ENOSPC:
                self.no_room.refused(answer.level, "%s of %s: %s", operation, path, error)
            else:
                log.log(answer.level, "%s of %s: %s", operation, path, error)
            self._refusals.add(path, str(error))
        if answer.level >= logging.CRITICAL:
            log.error("%s(%d, %r)", operation, inode, args, exc_info=error)
        if is_damage(error):
            with contextlib.suppress(OSError):  # a full disk has nothing to do with the answer
                self._store.mark_damaged()
        return pyfuse3.FUSEError(answer.errno)

    def errno_of_flock(self, inode: Inode, error: Exception) -> int:
        """The same for what is no handler here."""
        return int(self.answer("flock", inode, (), error).errno)

    def _name(self, inode: Inode) -> str:
        """The path of what is in the tree, and the last name of what was removed while somebody has it open."""
        if inode == ROOT:
            return "the root"
        path = self._path(inode)
        node = self._view.by_inode(inode) if not path and inode < FIRST_SHOWN_ONLY else None
        if node is not None:
            return f"{node.shown.decode('utf-8', 'replace')} (deleted)"
        return path or f"inode {inode}"

    def _path(self, inode: Inode) -> str:
        """For people; a tree that can't be read must not keep an error from being answered."""
        try:
            if inode >= FIRST_VIRTUAL:
                return self._virtual.path(inode)
            return self._lock_files.path(inode) if inode >= FIRST_SHOWN_ONLY else self._view.path(inode)
        except sqlite3.Error:
            return f"inode {inode}"

    async def answer_virtual(  # each operation has its own arguments and its own reply
        self,
        operation: str,
        number: Any,  # noqa: ANN401 - the same
        *args: Any,  # noqa: ANN401 - the same
        **kwargs: Any,  # noqa: ANN401 - the same
    ) -> Any:  # noqa: ANN401 - the same
        """A request about what lies below `.procore`, named by inode or handle; it may have to wait."""
        with interruptible(self.bridge.take_request()):
            return await self._virtual.handler(operation)(number, *args, **kwargs)
        raise Interrupted

    # Names and attributes

    @by_inode
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Answers what is known at once; only for an entry that is not its folder is listed, or a due look made."""
        if len(name) > MAX_COMPONENT_BYTES:
            raise NameTooLong
        if name in (b".", b".."):
            return attributes(self._by_number(Inode(parent_inode), name), self._ownership)
        if parent_inode == ROOT and name == OWN_ENTRY:
            return self._virtual.own_entry()
        folder = Inode(parent_inode)
        node = self._view.entry(folder, name)
        if node is None:
            node = await self._find(folder, name)
        if not node.is_folder:
            self._retries.found(ctx.pid, node.inode)
        return attributes(node, self._ownership)

    def _by_number(self, inode: Inode, name: bytes) -> Node:
        """What an inode itself is, or its folder: file servers know documents by number, and start anew."""
        node = self._node(inode)
        if inode >= FIRST_SHOWN_ONLY:
            return node
        if not self._view.reachable(inode) and not self._drafts.is_open(inode):
            raise Stale
        if name == b".":
            return node
        above = self._view.parent(inode)
        return self._node(above[0] if above is not None else ROOT)

    async def _find(self, folder: Inode, name: bytes) -> Node:
        """An entry that is not known. Raises NoEntry; NoAnswerYet when nobody knows yet what lies in the folder."""
        late: NoAnswerYet | None = None
        try:
            node = await self._brief.of(partial(find_child, self._view, self._follower, folder, name))
        except NoAnswerYet as error:
            node, late = self._view.entry(folder, name), error
        node = node or self._lock_files.find(folder, self._names.to_procore(folder, name))
        if node is None and late is not None and not self._follower.is_listed(folder):
            raise late
        if node is None:
            raise NoEntry
        return node

    @by_inode_at_once
    async def getattr(self, inode: int, _ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return attributes(self._node(inode), self._ownership)

    def _node(self, inode: int) -> Node:
        """The node, in the tree or only open; Stale when it is neither."""
        node = self._view.by_inode(Inode(inode)) or self._lock_files.node(Inode(inode))
        if node is None:
            raise Stale
        return node

    # Folders

    @by_inode
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        """All waiting for Procore happens here, where the kernel holds no lock of the folder."""
        folder = Inode(inode)
        if not self._view.reachable(folder):
            raise NoEntry
        await self._follower.children_known(folder)
        await self._freshen_place(folder, ctx.pid)
        return self.folders.open(folder)

    async def _freshen_place(self, inode: Inode, tid: int) -> None:
        """Wait for a look that is due; the second try of who was sent back needs none. Raises Stale as `_look` does."""
        with self._retries.coming(tid) as retry:
            if retry is None:
                await self._look(inode, tid, opens=False)

    async def _look(self, inode: Inode, tid: int, *, opens: bool) -> None:
        """Wait for a look that is due. Raises Stale when the inode is elsewhere then, or gone.

        The kernel came by a name that it remembered: told so, it looks the whole path up again, once.
        """
        if self._follower.poll_is_due():
            before = self._view.place(inode)
            await self._follower.poll_if_due()
            if self._view.place(inode) != before:
                self._retries.send_back(tid, opens=opens)
                raise Stale

    @by_folder_at_once
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """No await: rows, attributes and reply are one moment, so no reply is older than a notification."""
        folder = self.folders.get(fh)
        if start_id == 0:
            self.folders.listing_begins(folder, trio.current_time())
        for name, node, offset in self._entries(folder, start_id):
            if not pyfuse3.readdir_reply(token, name, attributes(node, self._ownership), offset):
                return

    def _entries(self, folder: Inode, start: int) -> Iterator[tuple[bytes, Node, int]]:
        here = self._node(folder)
        if start < DOT:
            yield b".", here, DOT
        if start < DOT_DOT:
            yield b"..", self._view.by_inode(here.parent or ROOT) or here, DOT_DOT
        limit = FIRST_ENTRIES
        while batch := self._view.children(folder, after=start, limit=limit):
            for node in batch:
                yield self._names.to_programs(folder, node.shown), node, node.inode
            if len(batch) < limit:
                break
            start = batch[-1].inode
            limit = MORE_ENTRIES

    @by_folder_at_once
    async def releasedir(self, fh: int) -> None:
        self.folders.release(fh)

    # Files

    @by_inode
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        """Binds the handle to the newest version known: first a look that is due, then what the kernel must forget.

        A file that turns out to be replaced is Stale: the kernel looks its name up and opens what it finds, once. Its
        second try has looked already, and may be given what was the newest a moment ago.
        """
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly
        if inode >= FIRST_SHOWN_ONLY:
            return await self._open_shown(Inode(inode), flags)
        with self._retries.coming(ctx.pid) as retry:
            node = await self._current(Inode(inode), ctx.pid, retry)
            # The kernel's pages are this version's: those of another went when it was replaced (`settled`). Without
            # keep_cache the kernel would throw them away itself, and to do so wait for each that somebody else is just
            # reading, past every signal.
            return self._opened(self.open_to_read(node))

    def _opened(self, handle: int) -> pyfuse3.FileInfo:
        """What the kernel is told of a handle."""
        return pyfuse3.FileInfo(fh=handle, keep_cache=True, direct_io=self.files.get(handle).goes_past_pages)

    async def _open_shown(self, inode: Inode, flags: int) -> pyfuse3.FileInfo:
        """A lock file of somebody else's program."""
        await self._lock_files.will_open(inode)
        content = self._lock_files.content(inode)
        if content is None:
            raise Stale
        if flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise NotPermitted("it is the lock file of another user")
        return self._opened(self.files.open_text(inode, content))

    async def _current(self, inode: Inode, tid: int, retry: Retry | None) -> Node:
        """The node of a file that is being opened; no await from its return to the handle."""
        if not self._thumbnails and asks_for_thumbnail(tid):
            raise NoThumbnails
        if retry is None:
            await self._look(inode, tid, opens=True)
        await self._notifier.settled(inode)
        # No await from here on: the version must not be replaced between looking it up and counting as open.
        node = self._view.by_inode(inode)
        is_there = node is not None and self._view.reachable(inode)
        was_found = retry is not None and retry.found == inode
        if node is None or not (is_there or was_found):
            if retry is not None:
                raise NoEntry
            self._retries.send_back(tid, opens=True)
            raise Stale
        return node

    def open_to_read(self, node: Node) -> int:
        """A handle: bytes that are here go before those of a version."""
        change = self._view.change(node.inode)
        draft = self._drafts.find(node.inode, change.shown if change is not None else None)
        if draft is None and node.version is None:
            raise Unreadable(node.defect or "Procore names no version of it.")
        return self.files.open(node)

    @by_file_at_once
    async def read(  # type: ignore[override]  # pyfuse3 takes any contiguous buffer
        self, fh: int, off: int, size: int
    ) -> bytes | bytearray | memoryview:
        """What is at hand is answered at once; only a read that waits can be interrupted."""
        source = self._source(self.files.get(fh))
        data = source.read_now(off, size)
        if data is not None:
            return data
        with interruptible(self.bridge.take_request()):
            return await source.read(off, size)
        raise Interrupted

    def _source(self, file: OpenFile) -> Reader | Text | StagedFile:
        """Where an open file is read from: bytes that were written here go before those of its version."""
        draft = self._drafts.get(file.inode)
        if draft is not None:
            return draft.file
        if file.reader is None:
            raise Unreadable("its bytes are not there any more")
        return file.reader

    async def flush(self, fh: int) -> None:
        """Nothing is written, so nothing is flushed; the kernel sends it where it does not know noflush."""

    @by_file_at_once
    async def release(self, fh: int) -> None:
        self.let_go(self.files.release(fh))

    def let_go(self, file: OpenFile) -> None:
        """A handle is closed; what only those inside had is dropped with the last one."""
        self._leave(file.inode)

    def _leave(self, inode: Inode) -> None:
        if not self._drafts.is_open(inode):
            self._nobody_inside(inode)

    def _nobody_inside(self, inode: Inode) -> None:
        self._drafts.park(inode)

    async def release_all(self) -> None:
        """The mount point was taken away, so every file is closed: releases that waited in the kernel never come."""
        for handle in self.files.handles():
            with contextlib.suppress(pyfuse3.FUSEError):  # it is in the log
                await self.release(handle)

    # Extended attributes

    @by_inode
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        await self._freshen_place(Inode(inode), ctx.pid)
        self._node(inode)
        return await self._xattrs.names(Inode(inode), Caller(ctx.pid))

    @by_inode
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        """Procore is asked for nothing but its own attributes: programs try many names."""
        if self._xattrs.needs_procore(name):
            await self._freshen_place(Inode(inode), ctx.pid)
        self._node(inode)
        return await self._xattrs.get(Inode(inode), name, Caller(ctx.pid))

    # The filesystem

    @of_all
    async def statfs(self, _ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Sizes are those of the newest versions, up to a minute old: counting a million rows takes a while."""
        sizes = await self._known_sizes()
        answer = pyfuse3.StatvfsData()
        answer.f_bsize = answer.f_frsize = STATFS_BLOCK_BYTES
        room_bytes = self._room_bytes()
        answer.f_blocks = -(-(sizes.size_bytes + room_bytes) // STATFS_BLOCK_BYTES)
        answer.f_bfree = answer.f_bavail = room_bytes // STATFS_BLOCK_BYTES
        answer.f_files = sizes.documents + FREE_INODES
        answer.f_ffree = answer.f_favail = FREE_INODES
        answer.f_namemax = MAX_COMPONENT_BYTES
        return answer

    def _room_bytes(self) -> int:
        """How much more can be written now."""
        return 0

    async def _known_sizes(self) -> Sizes:
        """Counted anew when they are old, and once the project is listed whole."""
        now_s, complete = trio.current_time(), self._follower.complete
        if self._sizes is not None:
            counted_at_s, was_complete, sizes = self._sizes
            if now_s - counted_at_s < SIZES_VALID_S and was_complete == complete:
                return sizes
        sizes = await trio.to_thread.run_sync(self._store.counts.sizes)
        self._sizes = (now_s, complete, sizes)
        return sizes
