"""One staged file: reads and writes bytes that Procore does not have yet, and fetches the rest from a base version.

    write_now() / write() ─▶ pwrite            read_now() / read() ─▶ pread
                    └─ cuts ─▶ missing ranges ─▶ read from the base; complete() fills them

The content is defined by the file on disk, `size_bytes` and the missing ranges. These change together: on the loop
without an await in between, or in a thread inside `exclusive`, where no other write, truncation or fetch happens.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar, TypeVarTuple

import msgspec
import trio

from procorefs.cache.chunk_cache import Chunk
from procorefs.cache.chunks import MIB
from procorefs.procore.errors import Malformed
from procorefs.procore.wire.models import Version
from procorefs.staging import staged_bytes
from procorefs.staging.missing_ranges import SUFFIX, ExtentLog, Extents, Range
from procorefs.staging.quota import refuse
from procorefs.staging.staged_record import (
    BaseReader,
    Promises,
    StagedFileContext,
    StagedFrozen,
    StagedIncomplete,
    StagedRecord,
)

T = TypeVar("T")
Args = TypeVarTuple("Args")

_FETCH_BYTES = MIB
FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
"""To open a staged file that exists."""

_LARGE_BYTES = 4 * MIB
_AHEAD_BYTES = 8 * MIB
"""Blocks to preallocate for the next writes: without this, allocation takes a third of a write's time."""
_LONG_CUT_BYTES = 16 * MIB
"""A longer cut runs in a thread: it would block the loop for too long."""


class StagedFile(msgspec.Struct, eq=False, gc=False):
    """A working file, with a descriptor while it has holders. A read that begins after a write sees the write.

    A struct that the garbage collector skips: a hundred thousand may wait, and none refers to itself.
    """

    _context: StagedFileContext
    number: int
    size_bytes: int = 0
    """The length of the file on disk, except inside `exclusive`."""
    changed: int = 0
    """Counts writes and truncations; compare two values to detect a change."""
    is_frozen: bool = False
    """An upload reads the file: no further write begins; see `still`."""
    has_tail: bool = False
    """A crash left bytes beyond the end that no copy holds yet: do not write to or send the file."""
    is_on_disk: bool = False
    """Nothing was written since the last `Staging.sync` of the file began: a power cut loses none of it."""
    known_digest: tuple[int, bytes] | None = None
    """`changed`, and the SHA-256 at that time (whole_file.py)."""
    promises: Promises = msgspec.field(default_factory=Promises)
    _base: Version | None = None
    _missing: Extents | None = None
    _log: ExtentLog | None = None
    """Records on disk which ranges are no longer missing."""
    _reader: BaseReader | None = None
    """Reads the base; open while the file has holders."""
    _holders: int = 0
    _fd: int = -1
    _write_fd: int = -1
    """The same descriptor, but -1 inside `exclusive`."""
    _exclusive: trio.Event | None = None
    """Set at the end of `exclusive`."""
    _is_changing: bool = False
    _allocated: int = 0
    """The disk has blocks for the file up to this offset."""
    _deleted: bool = False

    def set_base(
        self, base: Version | None, size_bytes: int, missing: tuple[Range, ...], *, log_bytes: int = 0
    ) -> None:
        """Set the base and the ranges that are still only there; call it before the first write.

        `log_bytes`: the size of an existing log of ranges that is continued.
        """
        self.size_bytes = size_bytes
        if missing:
            self._base = base
            self._missing = Extents(missing)
            self._log = ExtentLog(self.path + SUFFIX, log_bytes)

    # --- state

    @property
    def base(self) -> Version | None:
        """The version that missing bytes come from; None: no bytes are missing."""
        return self._base

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are here."""
        return self._missing is None

    @property
    def is_at_rest(self) -> bool:
        """Whether it is held, all bytes are here, and no thread changes them."""
        return self._fd >= 0 and self._missing is None and self._exclusive is None

    @property
    def stored_bytes(self) -> int:
        """What counts against the quota: the size without missing bytes; holes count, because they are uploaded too."""
        return self.size_bytes if self._missing is None else self.size_bytes - self._missing.total

    @property
    def is_changing(self) -> bool:
        """Whether a thread is writing or cutting the file: the disk may hold a part of the change; see `still`."""
        return self._is_changing

    @property
    def path(self) -> str:
        """The path of the file until it is deleted."""
        return f"{self._context.directory}/{self.number}"

    @property
    def is_deleted(self) -> bool:
        """Whether the file is deleted, or will be when its last holder releases it."""
        return self._deleted

    @property
    def fd(self) -> int:
        """The descriptor; the caller must hold the file."""
        assert self._holders, "a file without a holder has no descriptor"
        return self._fd

    def record(self, shrunk_to: int | None = None) -> StagedRecord:
        """What `Staging.adopt` needs to restore the file's present state, whatever is written later.

        With `shrunk_to`: the state after that truncation. Journal a smaller size before the cut, or a crash in between
        leaves fewer bytes than the journal promises.
        """
        size_bytes = self.size_bytes if shrunk_to is None else min(shrunk_to, self.size_bytes)
        missing = tuple(self._missing.within(0, size_bytes)) if self._missing is not None else ()
        return StagedRecord(self.number, size_bytes, self._base if missing else None, missing)

    # --- holding and deleting

    def hold(self) -> None:
        """Keep the file open, and on disk even if it is deleted, until `release`. Raises StagedIncomplete, OSError."""
        if not self._holders:
            if self._deleted:
                raise StagedIncomplete(self.number, "is deleted")
            try:
                self._fd = self._write_fd = os.open(self.path, FLAGS)
            except FileNotFoundError:
                raise StagedIncomplete(self.number, "is no longer on the disk") from None
        self._holders += 1

    def hold_by(self, descriptor: int) -> None:
        """The first `hold`, with an open descriptor that the file takes over."""
        self._fd = self._write_fd = descriptor
        self._holders = 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holders -= 1
        if self._holders:
            return
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._free_unused_blocks()
        if self._log is not None:
            self._log.close()
        os.close(self._fd)
        self._fd = self._write_fd = -1
        if self._deleted:
            self._remove()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the file for the block of a `with`."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def delete(self) -> None:
        """Remove the file from disk once it has no holder."""
        if self._deleted:
            return
        self._deleted = True
        if not self._holders:
            self._remove()

    def _remove(self) -> None:
        if self._log is not None:
            self._context.remover.remove(self._log.path)
        self._context.remover.remove(self.path)
        self._context.quota.freed(self.stored_bytes)

    # --- reading

    def read_now(self, offset: int, size_bytes: int) -> bytes | bytearray | None:
        """What `read` returns, or None if it would have to wait."""
        end = min(offset + size_bytes, self.size_bytes)
        if offset >= end:
            return b""
        if self._fd < 0 or (self._missing is not None and self._missing.next(offset, end) is not None):
            return None
        return staged_bytes.read_now(self._fd, offset, end - offset)

    def head(self, size_bytes: int) -> bytes | None:
        """The first bytes, read without waiting; None: some are missing, or the disk returns an error."""
        end = min(size_bytes, self.size_bytes)
        if self._missing is not None and self._missing.next(0, end) is not None:
            return None
        try:
            with self.held():
                return os.pread(self._fd, end, 0)
        except (StagedIncomplete, OSError):
            return None

    async def read(self, offset: int, size_bytes: int) -> Chunk:
        """The bytes at `offset`, fewer only at the end of the file. Raises ProcoreError, StagedIncomplete, OSError."""
        data = self.read_now(offset, size_bytes)
        if data is not None:
            return data
        stop = offset + size_bytes
        parts: list[Chunk] = []
        with self.held():
            while offset < min(stop, self.size_bytes):  # a truncation may change it during each await
                parts.append(await self._part(offset, min(stop, self.size_bytes)))
                offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _part(self, low: int, high: int) -> Chunk:
        """The first bytes of [low, high) that have one source; empty: a truncation removed them, so read again."""
        missing = self._missing.next(low, high) if self._missing is not None else None
        if missing is not None and missing[0] == low:
            return await self._from_base(*missing)
        return await self._from_disk(low, missing[0] if missing is not None else high)

    async def _from_disk(self, low: int, high: int) -> Chunk:
        data = staged_bytes.read_now(self._fd, low, high - low)
        if data is not None:
            return data
        changed = self.changed
        data = await self.in_thread(staged_bytes.read, self._fd, low, high - low)
        if len(data) < high - low:
            await self.still()  # a truncation may be under way
            if self.changed == changed:
                raise StagedIncomplete(self.number, f"ends at {low + len(data)} and not at {self.size_bytes}")
        return data

    async def _from_base(self, low: int, high: int) -> Chunk:
        base = self._base
        assert base is not None
        if self._reader is None:
            self._reader = self._context.open_version(base)
        data = await self._reader.read(low, high - low)
        if len(data) != high - low:
            raise Malformed(f"Version {base.id} gave {len(data)} bytes at {low} instead of {high - low}")
        return data

    # --- writing

    def write_now(self, offset: int, data: Chunk) -> bool:
        """Write without waiting; False: nothing was written, use `write`. Raises StagingFull, OSError."""
        descriptor = self._write_fd
        if descriptor < 0 or self._context.disk.is_slow or self.is_frozen:
            return False
        cost = self._cost(offset, offset + len(data))
        if cost and not self._context.quota.take(cost):
            return False
        if cost and offset >= _LARGE_BYTES and offset + len(data) > self._allocated:
            self._preallocate(offset + len(data))
        done, error = self._context.disk.write_on_loop(descriptor, offset, data)
        self._written(offset, done, cost)
        if self._log is not None and self._log.has_unwritten and not self._context.disk.is_slow:
            self._log.write()  # on a slow disk the next write does it in a thread
        if error is not None:
            refuse(error)
        return True

    def _preallocate(self, end: int) -> None:
        """Preallocate blocks beyond `end`, to which a large file grows; the last `release` frees unused ones."""
        if self._missing is None and end - self.size_bytes < _AHEAD_BYTES:  # a hole stays a hole
            staged_bytes.preallocate(self._fd, self.size_bytes, end + _AHEAD_BYTES - self.size_bytes)
        self._allocated = end + _AHEAD_BYTES

    def _free_unused_blocks(self) -> None:
        if self._allocated > self.size_bytes:
            with suppress(OSError):  # deleting the file frees them
                os.ftruncate(self._fd, self.size_bytes)
        self._allocated = 0

    async def write(self, offset: int, data: Chunk, before: Callable[[], None] = lambda: None) -> None:
        """Write all of `data`; wait for quota, and call `before` just before a byte changes.

        Raises StagedFrozen, StagingFull, StagedIncomplete, OSError, and what `before` raises.
        """
        with self.held():
            taken = await self.take_quota(lambda: self._cost(offset, offset + len(data)))
            self._begin_change(taken, before)
            done = 0
            with self.exclusive(changes=True):
                try:
                    done, error = await self._write(offset, data)
                finally:
                    self._written(offset, done, taken)
            await self._write_log()
        if error is not None:
            refuse(error)

    async def truncate(self, size_bytes: int, before: Callable[[], None] = lambda: None) -> None:
        """Grow with zeros, or shrink; growth waits for quota. Raises the same errors as `write`."""
        with self.held():
            taken = await self.take_quota(lambda: max(size_bytes - self.size_bytes, 0))
            self._begin_change(taken, before)
            stored = self.stored_bytes
            try:
                await self._resize(size_bytes)
            except OSError as error:
                refuse(error)
            finally:
                self.give_back(taken - (self.stored_bytes - stored))
            await self._write_log()

    async def _write_log(self) -> None:
        """Record which ranges are no longer missing; in a thread while the disk is slow."""
        if self._log is None or not self._log.has_unwritten:
            return
        await self.still()
        if self._context.disk.is_slow:
            with self.exclusive():
                await self.in_thread(self._log.write)
        else:
            self._log.write()

    def _cost(self, low: int, high: int) -> int:
        """The quota that writing [low, high) needs."""
        cost = high - self.size_bytes if high > self.size_bytes and high > low else 0
        return cost if self._missing is None else cost + self._missing.overlap(low, high)

    async def take_quota(self, cost: Callable[[], int]) -> int:
        """Take the quota that an operation needs now, outside `exclusive`: until the next await it needs no more."""
        return await self._context.quota.take_for(cost, self.still)

    def _begin_change(self, taken: int, before: Callable[[], None]) -> None:
        """Check again after a wait, in which an upload may have begun; no await may follow before the change."""
        try:
            if self.is_frozen:
                raise StagedFrozen
            before()
        except BaseException:
            self.give_back(taken)
            raise

    def give_back(self, surplus: int) -> None:
        """Return quota that was taken and is not used."""
        if surplus:
            self._context.quota.freed(surplus)

    async def _write(self, offset: int, data: Chunk) -> tuple[int, OSError | None]:
        """Inside `exclusive`: `Disk.write`, in a thread if the disk is slow, else without an await."""
        if self._context.disk.is_slow:
            return await self.in_thread(self._context.disk.write, self._fd, offset, data)
        return self._context.disk.write_on_loop(self._fd, offset, data)

    def _written(self, offset: int, size_bytes: int, taken: int) -> None:
        """Account for what a write has done, which is a part of it when the disk is full, and settle its quota."""
        before = self.stored_bytes
        if size_bytes:
            end = offset + size_bytes
            self.changed += 1
            self.is_on_disk = False
            if end > self.size_bytes:
                self.size_bytes = end
            if self._missing is not None:
                self._mark_present(self._missing, offset, end)
        self.give_back(taken - (self.stored_bytes - before))

    async def _resize(self, size_bytes: int) -> None:
        if self.size_bytes - size_bytes > _LONG_CUT_BYTES:
            with self.exclusive(changes=True):
                await self.in_thread(os.ftruncate, self._fd, size_bytes)
                self._resized(size_bytes)
        else:
            os.ftruncate(self._fd, size_bytes)
            self._resized(size_bytes)

    def _resized(self, size_bytes: int) -> None:
        self.changed += 1
        self.is_on_disk = False
        if size_bytes < self.size_bytes:
            self._allocated = 0  # the cut has freed the blocks
            if self._missing is not None:
                self._mark_present(self._missing, size_bytes, self.size_bytes)
        self.size_bytes = size_bytes

    def _mark_present(self, missing: Extents, low: int, high: int) -> None:
        """Mark [low, high) as no longer missing."""
        before = missing.total
        missing.cut(low, high)
        if missing.total != before and self._log is not None:
            self._log.add(low, high)
        if not missing.total:
            self._missing = self._base = None

    # --- completing

    async def complete(self) -> None:
        """Fetch all missing bytes; after that the base is not needed. Raises ProcoreError, StagingFull, OSError."""
        with self.held():
            while self._missing is not None:
                low, high = next(iter(self._missing))
                data = await self._from_base(low, min(high, low + _FETCH_BYTES))
                await self.still()
                with self.exclusive():
                    await self._fill(low, memoryview(data))

    async def _fill(self, offset: int, data: memoryview) -> None:
        """Inside `exclusive`: write bytes of the base, only where they are still missing: other bytes are newer."""
        missing = self._missing
        if missing is None:
            return
        self.is_on_disk = False
        for low, high in missing.within(offset, offset + len(data)):
            self._context.quota.take_to_complete(high - low)
            done = 0
            try:
                done, error = await self._write(low, data[low - offset : high - offset])
            finally:
                self.give_back(high - low - done)
            self._mark_present(missing, low, low + done)
            if error is not None:
                refuse(error)

    def cut_tail(self) -> None:
        """Cut off the bytes beyond the end; a copy holds them. Raises OSError."""
        with self.held():
            os.ftruncate(self._fd, self.size_bytes)
        self.has_tail = self.is_on_disk = False

    # --- exclusive sections and threads

    async def still(self) -> None:
        """Wait for the end of `exclusive`; none is active until the next await. On a frozen file no write follows."""
        while self._exclusive is not None:
            await self._exclusive.wait()

    @contextmanager
    def exclusive(self, *, changes: bool = False) -> Iterator[None]:
        """Only the caller writes or resizes inside the block; enter it without an await after `still`."""
        ended = self._exclusive = trio.Event()
        self._is_changing = changes
        self._write_fd = -1
        try:
            yield
        finally:
            self._exclusive = None
            self._is_changing = False
            self._write_fd = self._fd
            ended.set()

    async def in_thread(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Run blocking work to its end, also when cancelled. Raises StagingFull, StagedIncomplete, OSError."""
        try:
            return await trio.to_thread.run_sync(work, *args, limiter=self._context.threads)
        except EOFError as error:
            raise StagedIncomplete(self.number, "is shorter than it was") from error
        except OSError as error:
            refuse(error)
