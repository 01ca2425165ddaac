"""The kernel between programs and the product's handlers: it looks paths up, keeps entries, checks, and asks.

What Linux decides itself (fs/namei.c, fs/fuse/dir.c) is decided here; the handlers are the product's own, called
without a mount. All methods raise OSError as system calls do.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import trio

from procorefs.kernel.bridge.native import Flock as BridgeFlock
from procorefs.kernel.bridge.native import pyfuse3
from procorefs.kernel.flocks import Flocks
from procorefs.kernel.operations import Operations
from procorefs.tree.nodes import EntryGone, InodeChanged, Invalidation, ListingChanged
from tests.simulation.requests import (
    TID,
    Attributes,
    Context,
    Fields,
    Flock,
    OpenFile,
    attributes_of,
    open_file,
)

T = TypeVar("T")

ROOT = 1
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

WAITS_S = {"lookup": 40.0, "open": 40.0, "opendir": 40.0, "read": 40.0, "getxattr": 40.0}
"""So long a request may take; all others hold a directory or are close(2), and may not wait for the network."""

HOLDS_S = 2.0
FILE_WAITS_S = 31.0


class Waited(Exception):
    """A request took longer than it may."""


class Notifier:
    """Takes the product's notifications; what they invalidate is invalid at once."""

    drops_entries = False
    """Whether names are still to be dropped: never, as they are dropped at once."""

    def __init__(self) -> None:
        self.kernel: Kernel | None = None

    def entry(self, parent: int, name: bytes) -> None:
        if self.kernel is not None:
            self.kernel.entries.pop((parent, name), None)

    def inode(self, _inode: int) -> trio.Event:
        event = trio.Event()
        event.set()
        return event

    def listing(self, folder: int) -> None:
        """Listings are never kept here."""

    def attributes(self, inode: int) -> None:
        """Attributes are never kept here."""

    def is_settled(self, _inode: int) -> bool:
        """Nothing takes time."""
        return True

    async def settled(self, inode: int) -> None:
        """Nothing takes time."""

    def invalidate(self, changes: Sequence[Invalidation]) -> None:
        """As daemon.py passes on what the kernel must invalidate."""
        if self.kernel is None:
            return
        for change in changes:
            match change:
                case EntryGone(folder, name):
                    for shown in self.kernel.operations.names_affected(folder, name):
                        self.entry(folder, shown)
                case ListingChanged(folder):
                    self.kernel.operations.handles.folders.listing_changed(folder)
                case InodeChanged():
                    pass


def _reply(token: list[tuple[bytes, Any, int]], name: bytes, attributes: Any, offset: int) -> bool:
    token.append((name, attributes, offset))
    return True


pyfuse3.readdir_reply = _reply  # type: ignore[assignment]


class Watcher:
    """Told of what programs see and remove."""

    def removes(self, folder: int, name: bytes) -> None:
        """A request is about to remove, replace or rename an entry."""

    def shows(self, _inode: int) -> bool:
        """Whether a file shows a version of Procore's, and not bytes that were written here."""
        return False

    def saw(self, inode: int) -> None:
        """A program has opened it."""


class Kernel:
    """One mount of one run of the daemon."""

    def __init__(self, operations: Operations, flocks: Flocks) -> None:
        self.operations = operations
        self.flocks = flocks
        self.entries: dict[tuple[int, bytes], int] = {}
        self.context = Context()
        self.watcher = Watcher()

    async def _ask(self, name: str, *args: Any, waits_s: float | None = None) -> Any:
        """A request, timed."""
        began_s = trio.current_time()
        try:
            return await getattr(self.operations, name)(*args)
        except pyfuse3.FUSEError as error:
            raise OSError(error.errno, os.strerror(error.errno)) from None
        finally:
            took_s = trio.current_time() - began_s
            if took_s > (waits_s or WAITS_S.get(name, HOLDS_S)):
                raise Waited(f"{name}{args!r} took {took_s:.1f} s")

    # Paths

    async def lookup(self, parent: int, name: bytes, *, fresh: bool = False) -> Attributes | None:
        """The entry's attributes; None: there is none."""
        known = self.entries.get((parent, name))
        if known is not None and not fresh:
            try:
                return await self.getattr(known)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
        try:
            found = attributes_of(await self._ask("lookup", parent, name, self.context))
        except OSError as error:
            self.entries.pop((parent, name), None)
            if error.errno == errno.ENOENT:
                return None
            raise
        self.entries[parent, name] = found.inode
        return found

    async def getattr(self, inode: int) -> Attributes:
        return attributes_of(await self._ask("getattr", inode, self.context))

    async def _folder(self, path: str, *, fresh: bool) -> tuple[int, bytes]:
        """The inode of the folder that a path leads into, and the last component."""
        *above, last = path.split("/")
        inode = ROOT
        for name in above:
            found = await self.lookup(inode, name.encode(), fresh=fresh)
            if found is None:
                raise _error(errno.ENOENT)
            if not found.is_folder:
                raise _error(errno.ENOTDIR)
            inode = found.inode
        return inode, last.encode()

    async def _again_if_stale(self, work: Callable[[bool], Awaitable[T]]) -> T:
        """A path is looked up anew once, from its beginning, when something on it is stale."""
        try:
            return await work(False)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        return await work(True)

    async def _existing(self, path: str, *, fresh: bool) -> Attributes:
        if not path:
            return await self.getattr(ROOT)
        parent, name = await self._folder(path, fresh=fresh)
        found = await self.lookup(parent, name, fresh=fresh)
        if found is None:
            raise _error(errno.ENOENT)
        return found

    async def stat(self, path: str) -> Attributes:
        return await self._again_if_stale(lambda fresh: self._existing(path, fresh=fresh))

    # Files

    async def open(self, path: str, flags: int) -> OpenFile:
        return await self._again_if_stale(lambda fresh: self._open(path, flags, fresh=fresh))

    async def _open(self, path: str, flags: int, *, fresh: bool) -> OpenFile:
        parent, name = await self._folder(path, fresh=fresh)
        found = await self.lookup(parent, name, fresh=fresh)
        writes = flags & os.O_ACCMODE != os.O_RDONLY
        if found is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT)
            info, entry = await self._ask("create", parent, name, stat.S_IFREG | 0o644, flags, self.context)
            made = attributes_of(entry)
            self.entries[parent, name] = made.inode
            return open_file(info.fh, made.inode, flags)
        if flags & os.O_CREAT and flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        if found.is_folder and (writes or flags & (os.O_CREAT | os.O_TRUNC)):
            raise _error(errno.EISDIR)
        if found.is_folder:
            raise _error(errno.EISDIR)  # nothing here opens folders but listing
        shows = self.watcher.shows(found.inode)
        info = await self._ask("open", found.inode, flags & ~(os.O_CREAT | os.O_EXCL), self.context)
        if shows:
            self.watcher.saw(found.inode)
        return open_file(info.fh, found.inode, flags)

    async def write(self, file: OpenFile, offset: int, data: bytes) -> int:
        if not file.writes:
            raise _error(errno.EBADF)
        if file.appends:
            offset = (await self.getattr(file.inode)).size
        with suppress(Exception):  # as the bridge has it: the handler is asked then
            if self.operations.write_at_once(file.handle, offset, memoryview(data)):
                return len(data)
        return int(await self._ask("write", file.handle, offset, data))

    async def read(self, file: OpenFile, offset: int, size: int) -> bytes:
        if not file.reads:
            raise _error(errno.EBADF)
        return bytes(await self._ask("read", file.handle, offset, size))

    async def close(self, file: OpenFile) -> None:
        """flush, whose error the program gets, and release."""
        try:
            await self._ask("flush", file.handle)
        finally:
            try:
                await self._ask("release", file.handle)
            finally:
                if file.locks:  # the bridge unlocks whatever becomes of the release
                    self.flocks.closed(file.inode, file.handle, file.handle)

    async def flush(self, file: OpenFile) -> None:
        await self._ask("flush", file.handle)

    async def fsync(self, file: OpenFile) -> None:
        await self._ask("fsync", file.handle, False)

    async def ftruncate(self, file: OpenFile, size: int) -> None:
        if not file.writes:
            raise _error(errno.EINVAL)
        await self._setattr(file.inode, Fields(update_size=True), file.handle, st_size=size)

    async def truncate(self, path: str, size: int) -> None:
        async def work(fresh: bool) -> None:
            found = await self._existing(path, fresh=fresh)
            if found.is_folder:
                raise _error(errno.EISDIR)
            shows = self.watcher.shows(found.inode)
            await self._setattr(found.inode, Fields(update_size=True), None, st_size=size)
            if shows:
                self.watcher.saw(found.inode)

        await self._again_if_stale(work)

    async def utime(self, path: str, mtime_ns: int) -> None:
        async def work(fresh: bool) -> None:
            found = await self._existing(path, fresh=fresh)
            fields = Fields(update_mtime=True, update_atime=True)
            await self._setattr(found.inode, fields, None, st_mtime_ns=mtime_ns, st_atime_ns=mtime_ns)

        await self._again_if_stale(work)

    async def _setattr(self, inode: int, fields: Fields, handle: int | None, **values: int) -> None:
        wanted = pyfuse3.EntryAttributes()
        for name, value in values.items():
            setattr(wanted, name, value)
        await self._ask("setattr", inode, wanted, fields, handle, self.context)

    async def flock(self, file: OpenFile, operation: int) -> None:
        file.locks = True
        flock = Flock(file.inode, file.handle, operation)
        self.flocks.asked(cast(BridgeFlock, flock))
        await flock.done.wait()
        if flock.errno:
            raise _error(flock.errno)

    async def setxattr(self, path: str, name: str, value: bytes, *, tid: int = TID) -> None:
        context = Context(tid)

        async def work(fresh: bool) -> None:
            found = await self._existing(path, fresh=fresh)
            waits_s = HOLDS_S if found.is_folder else FILE_WAITS_S  # it holds what it is about
            await self._ask("setxattr", found.inode, name.encode(), value, context, waits_s=waits_s)

        await self._again_if_stale(work)

    async def removexattr(self, path: str, name: str, *, tid: int = TID) -> None:
        context = Context(tid)

        async def work(fresh: bool) -> None:
            found = await self._existing(path, fresh=fresh)
            waits_s = HOLDS_S if found.is_folder else FILE_WAITS_S
            await self._ask("removexattr", found.inode, name.encode(), context, waits_s=waits_s)

        await self._again_if_stale(work)

    async def getxattr(self, path: str, name: str, *, tid: int = TID) -> bytes:
        context = Context(tid)

        async def work(fresh: bool) -> bytes:
            found = await self._existing(path, fresh=fresh)
            return bytes(await self._ask("getxattr", found.inode, name.encode(), context))

        return await self._again_if_stale(work)

    # Folders

    async def listing(self, path: str) -> dict[str, Attributes]:
        """Entries by name, without the dots."""
        return await self._again_if_stale(lambda fresh: self._listing(path, fresh=fresh))

    async def _listing(self, path: str, *, fresh: bool) -> dict[str, Attributes]:
        found = await self._existing(path, fresh=fresh)
        if not found.is_folder:
            raise _error(errno.ENOTDIR)
        handle = await self._ask("opendir", found.inode, self.context)
        try:
            return await self._entries(handle)
        finally:
            await self._ask("releasedir", handle)

    async def _entries(self, handle: int) -> dict[str, Attributes]:
        token: list[tuple[bytes, Any, int]] = []
        await self._ask("readdir", handle, 0, token)
        shown = [(os.fsdecode(name), attributes_of(entry)) for name, entry, _ in token]
        names = [name for name, _ in shown]
        if len(names) != len(set(names)):
            raise AssertionError(f"an entry is listed twice: {sorted(names)}")
        return {name: attributes for name, attributes in shown if name not in (".", "..")}

    async def walk(self) -> dict[str, Attributes]:
        """Everything that the mount shows now, without asking or disturbing anybody: no opendir, no lookup."""
        found: dict[str, Attributes] = {}
        waiting = [(ROOT, "")]
        folders = self.operations.handles.folders
        while waiting:
            inode, above = waiting.pop()
            handle = folders.open(inode)  # type: ignore[arg-type]
            try:
                entries = await self._entries(handle)
            finally:
                folders.release(handle)
            for name, attributes in entries.items():
                if attributes.inode >= 1 << 60:
                    continue
                path = f"{above}/{name}".lstrip("/")
                found[path] = attributes
                if attributes.is_folder:
                    waiting.append((attributes.inode, path))
        return found

    # Entries

    async def mkdir(self, path: str) -> None:
        async def work(fresh: bool) -> None:
            parent, name = await self._folder(path, fresh=fresh)
            if await self.lookup(parent, name, fresh=fresh) is not None:
                raise _error(errno.EEXIST)
            made = await self._ask("mkdir", parent, name, stat.S_IFDIR | 0o755, self.context)
            self.entries[parent, name] = made.st_ino

        await self._again_if_stale(work)

    async def unlink(self, path: str) -> None:
        async def work(fresh: bool) -> None:
            parent, name = await self._folder(path, fresh=fresh)
            found = await self.lookup(parent, name, fresh=fresh)
            if found is None:
                raise _error(errno.ENOENT)
            if found.is_folder:
                raise _error(errno.EISDIR)
            self.watcher.removes(parent, name)
            await self._ask("unlink", parent, name, self.context)
            self.entries.pop((parent, name), None)

        await self._again_if_stale(work)

    async def rmdir(self, path: str) -> None:
        async def work(fresh: bool) -> None:
            parent, name = await self._folder(path, fresh=fresh)
            found = await self.lookup(parent, name, fresh=fresh)
            if found is None:
                raise _error(errno.ENOENT)
            if not found.is_folder:
                raise _error(errno.ENOTDIR)
            self.watcher.removes(parent, name)
            await self._ask("rmdir", parent, name, self.context)
            self.entries.pop((parent, name), None)

        await self._again_if_stale(work)

    async def rename(self, path: str, to: str, flags: int = 0) -> None:
        async def work(fresh: bool) -> None:
            old_parent, old_name = await self._folder(path, fresh=fresh)
            new_parent, new_name = await self._folder(to, fresh=fresh)
            old = await self.lookup(old_parent, old_name, fresh=fresh)
            new = await self.lookup(new_parent, new_name, fresh=fresh)
            if old is None:
                raise _error(errno.ENOENT)
            _check_rename(path, to, old, new, flags)
            if new is not None and new.inode == old.inode:
                return
            if flags == RENAME_EXCHANGE:
                for entry in (old, new):
                    if entry is not None and self.watcher.shows(entry.inode):
                        self.watcher.saw(entry.inode)
            else:
                self.watcher.removes(old_parent, old_name)
                self.watcher.removes(new_parent, new_name)
            await self._ask("rename", old_parent, old_name, new_parent, new_name, flags, self.context)
            self.entries.pop((old_parent, old_name), None)
            self.entries[new_parent, new_name] = old.inode
            if flags == RENAME_EXCHANGE and new is not None:
                self.entries[old_parent, old_name] = new.inode

        await self._again_if_stale(work)


def _check_rename(path: str, to: str, old: Attributes, new: Attributes | None, flags: int) -> None:
    """The order of do_renameat2 and vfs_rename."""
    if flags == RENAME_NOREPLACE and new is not None:
        raise _error(errno.EEXIST)
    if flags == RENAME_EXCHANGE and new is None:
        raise _error(errno.ENOENT)
    if f"{to}/".startswith(f"{path}/") and path != to:
        raise _error(errno.EINVAL)
    if f"{path}/".startswith(f"{to}/") and path != to:
        raise _error(errno.EINVAL if flags == RENAME_EXCHANGE else errno.ENOTEMPTY)
    if new is None or flags == RENAME_EXCHANGE or new.inode == old.inode:
        return
    if old.is_folder and not new.is_folder:
        raise _error(errno.ENOTDIR)
    if not old.is_folder and new.is_folder:
        raise _error(errno.EISDIR)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
