"""The class whose methods pyfuse3 calls, one a FUSE request: each checks and awaits one call into a collaborator.

A decorator around every method routes requests below `.procore` (procore_directory.py), ends an interrupted request
with EINTR, and turns errors into errno and log lines (errno_table.py).
"""

import contextlib
import errno
import functools
import logging
import os
import sqlite3
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

import trio

from procorefs.kernel.bridge.interrupts import interruptible
from procorefs.kernel.bridge.native import Bridge, pyfuse3
from procorefs.kernel.entry_changes import EntryChanges, ReadOnlyMount
from procorefs.kernel.errno_table import Interrupted, ReadOnly, answer_of
from procorefs.kernel.file_changes import FileChanges
from procorefs.kernel.open_handles import OpenHandles
from procorefs.kernel.procore_directory import ProcoreDirectory
from procorefs.kernel.read_handlers import ReadHandlers
from procorefs.locks.lock_files import FIRST_LOCK_FILE
from procorefs.project import Projects
from procorefs.staging.staging_area import StagedFile
from procorefs.storage.failures import Episode, first_cause
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.storage.sqlite_files import is_damage
from procorefs.tree.nodes import OWN_ENTRY, ROOT, Inode
from procorefs.versions.procore_inodes import FIRST_PROCORE_INODE
from procorefs.vfs.refusals import ChangeRefused, NotSupported

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
_Operation = Callable[Concatenate["Operations", A, P], Coroutine[Any, Any, T]]


def _answering(
    inode_of: Callable[["Operations", A], Inode], *, waits: bool = True, is_numbered: bool = True
) -> Callable[[_Operation[A, P, T]], _Operation[A, P, T]]:
    """The decorator of every operation: handles interrupts, errno and log line.

    It raises only FUSEError: any other exception would end the mount. `inode_of` returns the inode of the operation's
    first argument, for the log. An operation that does not wait, or only inside its own `interruptible`, has `waits`
    False, which saves a tenth of a small request; the bridge's slot then stays full until the next request.
    `is_numbered`: the first argument is an inode or a handle, which may be below `.procore`.
    """

    def decorate(operation: _Operation[A, P, T]) -> _Operation[A, P, T]:
        @functools.wraps(operation)
        async def handle(self: "Operations", named: A, /, *args: P.args, **kwargs: P.kwargs) -> T:
            try:
                if is_numbered and named >= FIRST_PROCORE_INODE:  # type: ignore[operator]  # A is int then
                    answer: T = await self.answer_below_procore(operation.__name__, named, *args, **kwargs)
                    return answer
                if not waits:
                    return await operation(self, named, *args, **kwargs)
                with interruptible(self.bridge.take_request()):
                    return await operation(self, named, *args, **kwargs)
                raise Interrupted
            except trio.Cancelled:
                # The mount ends. Without an answer the caller would hang if the connection cannot be aborted. The
                # worker is cancelled again at its next checkpoint.
                raise pyfuse3.FUSEError(errno.ENOTCONN) from None
            except Exception as error:
                raise self.errors.answer(operation.__name__, inode_of(self, named), args, error) from None

        return handle

    return decorate


def _named(_operations: "Operations", inode: int) -> Inode:
    return Inode(inode)


def _of_file(operations: "Operations", handle: int) -> Inode:
    return operations.handles.files.inode_of(handle) or _below_procore_or_root(handle)


def _of_folder(operations: "Operations", handle: int) -> Inode:
    return operations.handles.folders.inode_of(handle) or _below_procore_or_root(handle)


def _below_procore_or_root(handle: int) -> Inode:
    """A handle below `.procore` can be used as an inode, because no inode has its number."""
    return Inode(handle) if handle >= FIRST_PROCORE_INODE else ROOT


def _of_all(_operations: "Operations", _ctx: pyfuse3.RequestContext) -> Inode:
    return ROOT


by_inode = _answering(_named)
of_all = _answering(_of_all, is_numbered=False)
by_inode_at_once = _answering(_named, waits=False)
by_file_at_once = _answering(_of_file, waits=False)
by_folder_at_once = _answering(_of_folder, waits=False)


class ErrorAnswers:
    """Turns errors of handlers into FUSEError, and logs errors that need attention."""

    def __init__(
        self, projects: Projects, procore_directory: ProcoreDirectory, refusals: RefusedCalls
    ) -> None:
        self._projects = projects
        self._procore_directory = procore_directory
        self._refusals = refusals
        self._no_space = Episode(log, "There is room for what is written again")

    def answer(
        self, operation: str, inode: Inode, args: tuple[object, ...], error: Exception
    ) -> pyfuse3.FUSEError:
        """The error for the kernel; from level INFO on it is logged and shown by `status`, with the path."""
        if isinstance(error, pyfuse3.FUSEError):
            return error
        cause = first_cause(error)
        error = cause if isinstance(cause, Exception) else error
        answer = answer_of(error)
        if answer.level >= logging.INFO:
            named = error.path if isinstance(error, ChangeRefused) else ""
            path = named or self._name(inode)
            if answer.errno == errno.ENOSPC:
                self._no_space.refused(answer.level, "%s of %s: %s", operation, path, error)
            else:
                log.log(answer.level, "%s of %s: %s", operation, path, error)
            self._refusals.add(path, str(error))
        if answer.level >= logging.CRITICAL:
            log.error("%s(%d, %r)", operation, inode, args, exc_info=error)
        if is_damage(error):
            with contextlib.suppress(OSError):  # a full disk must not change the answer
                self._projects.of(inode).view.store.mark_damaged()
        return pyfuse3.FUSEError(answer.errno)

    def errno_of_flock(self, inode: Inode, error: Exception) -> int:
        """The errno for an error of flock(2), which is not a handler of pyfuse3."""
        return int(self.answer("flock", inode, (), error).errno)

    def space_was_there(self) -> None:
        """Note that a write found space."""
        if self._no_space.is_active:
            self._no_space.went_well()

    def _name(self, inode: Inode) -> str:
        """The path of an inode, or the last name of a file that was removed while it is open."""
        if inode == ROOT:
            return "the root"
        path = self._path(inode)
        if not path and inode < FIRST_LOCK_FILE:
            node = self._projects.of(inode).view.by_inode(inode)
            if node is not None:
                return f"{node.shown.decode('utf-8', 'replace')} (deleted)"
        return path or f"inode {inode}"

    def _path(self, inode: Inode) -> str:
        """The path for people; an unreadable tree must not prevent the answer to an error."""
        project = self._projects.of(inode)
        try:
            if inode >= FIRST_PROCORE_INODE:
                return self._procore_directory.path(inode)
            if inode >= FIRST_LOCK_FILE:
                return project.locks.lock_files.path(inode)
            return project.view.path(inode)
        except sqlite3.Error:
            return f"inode {inode}"


class Operations(pyfuse3.Operations):
    """The operations of the filesystem; no HTTP and no SQL."""

    def __init__(
        self,
        bridge: Bridge,
        projects: Projects,
        handles: OpenHandles,
        errors: ErrorAnswers,
        reads: ReadHandlers,
        entries: EntryChanges,
        files: FileChanges,
        procore_directory: ProcoreDirectory,
    ) -> None:
        super().__init__()
        self.bridge = bridge
        self.handles = handles
        self.errors = errors
        self._projects = projects
        self._reads = reads
        self._procore_directory = procore_directory
        self._open_files = files
        """For handles that are open for writing: their bytes are taken on a mount that became read-only, too."""
        self._writable = entries, files
        self._entries: EntryChanges | ReadOnlyMount = entries
        self._files: FileChanges | ReadOnlyMount = files
        self.write_at_once = files.write_at_once
        """The bridge calls this first at each write: (handle, offset, bytes) -> whether all bytes are written."""

    def set_read_only(self, is_read_only: bool) -> None:
        """Refuse changes with EROFS from now on, or accept them; handles that are open for writing keep writing."""
        if is_read_only:
            self._entries = self._files = ReadOnlyMount()
        else:
            self._entries, self._files = self._writable

    def may_keep_listing(self, folder: int) -> bool:
        """Whether the kernel may use its cached listing; the bridge calls this at each opendir."""
        return self.handles.folders.may_keep_listing(Inode(folder), trio.current_time())

    def names_affected(self, folder: Inode, shown: bytes) -> Iterable[bytes]:
        """The names whose meaning changes when an entry is added or removed."""
        return self._projects.of(folder).view.names.affected(folder, shown)

    async def answer_below_procore(
        self,
        operation: str,
        number: Any,  # noqa: ANN401 - an inode or a handle, which have types of their own
        *args: Any,  # noqa: ANN401 - each operation has its own arguments
        **kwargs: Any,  # noqa: ANN401 - and these
    ) -> Any:  # noqa: ANN401 - each operation has its own reply
        """Answer a request whose inode or handle is below `.procore`; it may wait."""
        with interruptible(self.bridge.take_request()):
            return await self._procore_directory.handler(operation)(number, *args, **kwargs)
        raise Interrupted

    # Names and attributes

    @by_inode_at_once
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if parent_inode == ROOT and name == OWN_ENTRY:
            return self._procore_directory.own_entry()
        folder = Inode(parent_inode)
        found = self._reads.lookup_now(folder, name, ctx.pid)
        if found is not None:
            return found
        with interruptible(self.bridge.take_request()):
            return await self._reads.lookup(folder, name, ctx.pid)
        raise Interrupted

    @by_inode_at_once
    async def getattr(self, inode: int, _ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._reads.getattr(Inode(inode))

    @by_inode_at_once
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        return await self._files.setattr(Inode(inode), attr, fields, ctx, has_handle=fh is not None)

    # Folders

    @by_inode
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return await self._reads.opendir(Inode(inode), ctx.pid)

    @by_folder_at_once
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        self._reads.readdir(fh, start_id, token)

    @by_folder_at_once
    async def releasedir(self, fh: int) -> None:
        self.handles.folders.release(fh)

    @by_inode_at_once
    async def fsyncdir(self, _fh: int, _datasync: bool) -> None:
        await self._open_files.fsyncdir()

    # Entries

    @by_inode_at_once
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        return await self._entries.create(Inode(parent_inode), name, mode, flags, ctx)

    @by_inode_at_once
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, _rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return await self._entries.mknod(Inode(parent_inode), name, mode, ctx)

    @by_inode_at_once
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return await self._entries.mkdir(Inode(parent_inode), name, mode, ctx)

    @by_inode_at_once
    async def unlink(self, parent_inode: int, name: bytes, _ctx: pyfuse3.RequestContext) -> None:
        await self._entries.unlink(Inode(parent_inode), name)

    @by_inode_at_once
    async def rmdir(self, parent_inode: int, name: bytes, _ctx: pyfuse3.RequestContext) -> None:
        await self._entries.rmdir(Inode(parent_inode), name)

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
        if parent_inode_new >= FIRST_PROCORE_INODE:
            raise ReadOnly
        old, new = Inode(parent_inode_old), Inode(parent_inode_new)
        await self._entries.rename(old, name_old, new, name_new, flags)

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

    # Files

    @by_inode_at_once
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        reads_only = flags & (os.O_ACCMODE | os.O_TRUNC) == os.O_RDONLY
        if reads_only and inode < FIRST_LOCK_FILE:
            opened = self._reads.open_now(Inode(inode), ctx.pid)
            if opened is not None:
                return opened
        with interruptible(self.bridge.take_request()):
            if inode >= FIRST_LOCK_FILE:
                return await self._reads.open_lock_file(Inode(inode), flags)
            if not reads_only:
                return await self._files.open(Inode(inode), flags, ctx)
            return await self._reads.open(Inode(inode), ctx.pid)
        raise Interrupted

    @by_file_at_once
    async def read(  # type: ignore[override]  # pyfuse3 takes any contiguous buffer
        self, fh: int, off: int, size: int
    ) -> bytes | bytearray | memoryview:
        """Return bytes in memory or on disk immediately; only a read that waits can be interrupted.

        The first read of a handle is often its only one. After a later one of a staged file the bridge answers those
        that follow; for chunks of versions that brought nothing.
        """
        source = self._reads.source(fh)
        data = source.read_now(off, size)
        if data is not None:
            if off and isinstance(source, StagedFile) and source.is_at_rest:
                self.bridge.grant_read(fh, source.fd, source.size_bytes)
            return data
        with interruptible(self.bridge.take_request()):
            return await source.read(off, size)
        raise Interrupted

    @by_file_at_once
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self._open_files.write(fh, off, buf)

    @by_file_at_once
    async def flush(self, fh: int) -> None:
        file = self.handles.files.get(fh)
        if file.writes:
            await self._open_files.flush(file)
            self.errors.space_was_there()

    @by_file_at_once
    async def fsync(self, fh: int, _datasync: bool) -> None:
        await self._open_files.fsync(self.handles.files.get(fh))

    @by_file_at_once
    async def release(self, fh: int) -> None:
        """Journal what an mmap wrote after the last flush, and release the handle even if the disk returns an error."""
        file = await self.handles.files.release_when_still(fh)
        try:
            self.handles.files.finish(file)
        except Exception as error:  # reported by inode: the handle is released
            raise self.errors.answer("release", file.inode, (fh,), error) from None

    async def release_all(self) -> None:
        """Release all handles after an unmount from outside: the kernel drops the releases that were waiting."""
        for handle in self.handles.files.handles():
            with contextlib.suppress(pyfuse3.FUSEError):  # the log has it
                await self.release(handle)

    # Extended attributes

    @by_inode
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return await self._reads.listxattr(Inode(inode), ctx)

    @by_inode
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        return await self._reads.getxattr(Inode(inode), name, ctx)

    @by_inode
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._files.setxattr(Inode(inode), name, value, ctx.pid)

    @by_inode
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._files.removexattr(Inode(inode), name, ctx.pid)

    # The filesystem

    @of_all
    async def statfs(self, _ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        return await self._reads.statfs(self._files.free_bytes)
