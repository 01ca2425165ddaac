"""One staged file: bytes that Procore does not have yet, written over a base version whose other bytes are fetched.

    write_now() / write() ─▶ pwrite            read_now() / read() ─▶ pread
                    └─ cuts ─▶ missing ranges ─▶ read from the base; complete() fills them

Everything that decides what a byte is (the file on disk, `size_bytes`, the missing ranges) changes on the loop without
an await in between, or in a thread during a standstill, in which no write, truncation or fetched byte comes in.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar, TypeVarTuple

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
"""Of every staged file that is opened, and was made before."""

_LARGE_BYTES = 4 * MIB
_AHEAD_BYTES = 8 * MIB  # the disk keeps blocks for what comes next: else a third of a write's time goes there
_LONG_CUT_BYTES = 16 * MIB  # to cut off more takes the disk too long for the loop


class StagedFile:
    """A working file. It has a descriptor while somebody holds it; whoever does several things holds it meanwhile.

    A write is seen by every read that begins after it returned.
    """

    __slots__ = (
        "_base",
        "_context",
        "_deleted",
        "_disk",
        "_fd",
        "_holders",
        "_is_changing",
        "_missing",
        "_noted",
        "_quota",
        "_reader",
        "_set_aside",
        "_standstill",
        "_write_fd",
        "changed",
        "has_tail",
        "is_frozen",
        "is_on_disk",
        "known_digest",
        "number",
        "promises",
        "size_bytes",
    )

    def __init__(self, context: StagedFileContext, number: int) -> None:
        self.number = number
        self.size_bytes = 0  # the file on disk is exactly as long but during a standstill
        self.changed = 0
        """Counts writes and truncations: whoever remembers it knows whether there were any since."""
        self.is_frozen = False
        """An upload reads it: no write begins any more; see `still`."""
        self.has_tail = False
        """Behind its end lies what a crash left and had no room elsewhere: it is neither written nor sent as it is."""
        self.is_on_disk = False
        """Nothing was written to it since `Staging.sync` last began with it: a power cut takes nothing of it."""
        self.known_digest: tuple[int, bytes] | None = None
        """`changed` and the SHA-256 then (whole_file.py)."""
        self.promises = Promises()
        self._context = context
        self._quota = context.quota
        self._disk = context.disk
        self._base: Version | None = None
        self._missing: Extents | None = None  # None: all bytes are here, and the common path is short
        self._noted: ExtentLog | None = None  # where it is noted that less is missing
        self._reader: BaseReader | None = None  # of the base; kept while somebody holds the file
        self._holders = 0
        self._fd = -1  # open while there are holders
        self._write_fd = -1  # the same, but -1 during a standstill
        self._standstill: trio.Event | None = None  # set at its end
        self._is_changing = False  # in a standstill that changes bytes which were there
        self._set_aside = 0  # up to here the disk keeps blocks for it, beyond its end
        self._deleted = False

    def lay_over(
        self, base: Version | None, size_bytes: int, missing: tuple[Range, ...], *, noted_bytes: int = 0
    ) -> None:
        """Begin with the base's bytes in the missing ranges; for who makes the file, before anybody writes.

        `noted_bytes`: the size of the list of what was missing once, when that is to be gone on with.
        """
        self.size_bytes = size_bytes
        if missing:
            self._base = base
            self._missing = Extents(missing)
            self._noted = ExtentLog(self.path + SUFFIX, noted_bytes)

    # --- what it is

    @property
    def base(self) -> Version | None:
        """The version that missing bytes come from; None: none are missing (any more)."""
        return self._base

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are here."""
        return self._missing is None

    @property
    def stored_bytes(self) -> int:
        """What it takes of the room: its size less what is missing; holes count, for they are uploaded as well."""
        return self.size_bytes if self._missing is None else self.size_bytes - self._missing.total

    @property
    def is_changing(self) -> bool:
        """Whether a thread is just writing or cutting it: on disk a part of that may be done; see `still`."""
        return self._is_changing

    @property
    def path(self) -> str:
        """Where it lies while it is not deleted."""
        return f"{self._context.directory}/{self.number}"

    @property
    def is_deleted(self) -> bool:
        """Whether it is gone, or will be when its last holder lets go."""
        return self._deleted

    @property
    def fd(self) -> int:
        """The descriptor, for preads by who holds the file."""
        assert self._holders, "a file that nobody holds has no descriptor"
        return self._fd

    def record(self, shrunk_to: int | None = None) -> StagedRecord:
        """What `adopt` needs to make this of the file again, whatever is written to it later.

        With `shrunk_to` as it will be after that truncation. A smaller size must be journaled before the file is cut,
        or a crash in between finds less than was promised.
        """
        size_bytes = self.size_bytes if shrunk_to is None else min(shrunk_to, self.size_bytes)
        missing = tuple(self._missing.within(0, size_bytes)) if self._missing is not None else ()
        return StagedRecord(self.number, size_bytes, self._base if missing else None, missing)

    # --- holding and deleting

    def hold(self) -> None:
        """Keep it open, and on disk whoever deletes it, until `release`. Raises StagedIncomplete, OSError."""
        if not self._holders:
            if self._deleted:
                raise StagedIncomplete(self.number, "is deleted")
            try:
                self._fd = self._write_fd = os.open(self.path, FLAGS)
            except FileNotFoundError:
                raise StagedIncomplete(self.number, "is not on the disk any more") from None
        self._holders += 1

    def hold_by(self, descriptor: int) -> None:
        """The first `hold`, by a descriptor that is open already and belongs to the file from now on."""
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
        self._give_blocks_back()
        if self._noted is not None:
            self._noted.close()
        os.close(self._fd)
        self._fd = self._write_fd = -1
        if self._deleted:
            self._remove()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it meanwhile."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def delete(self) -> None:
        """Remove it from disk as soon as nobody holds it."""
        if self._deleted:
            return
        self._deleted = True
        if not self._holders:
            self._remove()

    def _remove(self) -> None:
        if self._noted is not None:
            self._context.remover.remove(self._noted.path)
        self._context.remover.remove(self.path)
        self._quota.freed(self.stored_bytes)

    # --- reading

    def read_now(self, offset: int, size_bytes: int) -> bytes | bytearray | None:
        """What `read` would return if it need not wait for it, else None."""
        end = min(offset + size_bytes, self.size_bytes)
        if offset >= end:
            return b""
        if self._fd < 0 or (self._missing is not None and self._missing.next(offset, end) is not None):
            return None
        return staged_bytes.read_now(self._fd, offset, end - offset)

    def head(self, size_bytes: int) -> bytes | None:
        """The first bytes, read on the spot; None: some are missing, or the disk refuses them."""
        end = min(size_bytes, self.size_bytes)
        if self._missing is not None and self._missing.next(0, end) is not None:
            return None
        try:
            with self.held():
                return os.pread(self._fd, end, 0)
        except (StagedIncomplete, OSError):
            return None

    async def read(self, offset: int, size_bytes: int) -> Chunk:
        """The bytes at `offset`: as many as asked for, or up to the end.

        Raises ProcoreError, StagedIncomplete, OSError.
        """
        data = self.read_now(offset, size_bytes)
        if data is not None:
            return data
        stop = offset + size_bytes
        parts: list[Chunk] = []
        with self.held():
            while offset < min(stop, self.size_bytes):  # which a truncation may change at each wait
                parts.append(await self._part(offset, min(stop, self.size_bytes)))
                offset += len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _part(self, low: int, high: int) -> Chunk:
        """The first bytes of [low, high), as many as lie in one place; none: look again, it was cut off meanwhile."""
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
            await self._moving()  # it is just being cut off
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
        """Write on the spot; False: it must wait, and nothing was done. Raises StagingFull, OSError."""
        descriptor = self._write_fd
        if descriptor < 0 or self._disk.is_slow or self.is_frozen:
            return False
        cost = self._cost(offset, offset + len(data))
        if cost and not self._quota.take(cost):
            return False
        if cost and offset >= _LARGE_BYTES and offset + len(data) > self._set_aside:
            self._grow_ahead(offset + len(data))
        done, error = self._disk.write_on_loop(descriptor, offset, data)
        self._written(offset, done, cost)
        if self._noted is not None and self._noted.waits and not self._disk.is_slow:
            self._noted.bring()  # else the next write's thread does it: the loop has waited long enough
        if error is not None:
            refuse(error)
        return True

    def _grow_ahead(self, end: int) -> None:
        """Before a large file grows to `end`: have the disk keep blocks for what comes next, until it is let go."""
        if self._missing is None and end - self.size_bytes < _AHEAD_BYTES:  # no hole: that is to stay one
            staged_bytes.set_aside(self._fd, self.size_bytes, end + _AHEAD_BYTES - self.size_bytes)
        self._set_aside = end + _AHEAD_BYTES

    def _give_blocks_back(self) -> None:
        if self._set_aside > self.size_bytes:
            with suppress(OSError):  # they go with the file
                os.ftruncate(self._fd, self.size_bytes)
        self._set_aside = 0

    async def write(self, offset: int, data: Chunk, before: Callable[[], None] = lambda: None) -> None:
        """Write all of `data`; waits for room, and calls `before` just before it changes a byte.

        Raises StagedFrozen, StagingFull, StagedIncomplete, OSError, and what `before` raises.
        """
        with self.held():
            taken = await self.take_space(lambda: self._cost(offset, offset + len(data)))
            self._begin_change(taken, before)
            done = 0
            with self.standing_still(changes=True):
                try:
                    done, error = await self._write(offset, data)
                finally:
                    self._written(offset, done, taken)
            await self._bring_notes()
        if error is not None:
            refuse(error)

    async def truncate(self, size_bytes: int, before: Callable[[], None] = lambda: None) -> None:
        """Grow with zeros, or shrink; growing waits for room. Raises as `write`."""
        with self.held():
            taken = await self.take_space(lambda: max(size_bytes - self.size_bytes, 0))
            self._begin_change(taken, before)
            stored = self.stored_bytes
            try:
                await self._resize(size_bytes)
            except OSError as error:
                refuse(error)
            finally:
                self.give_back(taken - (self.stored_bytes - stored))
            await self._bring_notes()

    async def _bring_notes(self) -> None:
        """Have it written down what is not missing any more, and not by the loop while the disk is slow."""
        if self._noted is None or not self._noted.waits:
            return
        await self._moving()
        if self._disk.is_slow:
            with self.standing_still():
                await self.in_thread(self._noted.bring)
        else:
            self._noted.bring()

    def _cost(self, low: int, high: int) -> int:
        """The room that writing [low, high) takes."""
        cost = high - self.size_bytes if high > self.size_bytes and high > low else 0
        return cost if self._missing is None else cost + self._missing.overlap(low, high)

    async def take_space(self, cost: Callable[[], int]) -> int:
        """Take the space that something costs by now and return during no standstill: then it costs no more."""
        return await self._quota.take_for(cost, self._moving)

    def _begin_change(self, taken: int, before: Callable[[], None]) -> None:
        """After a wait, in which an upload may have begun, and up to the change without another one."""
        try:
            if self.is_frozen:
                raise StagedFrozen
            before()
        except BaseException:
            self.give_back(taken)
            raise

    async def still(self) -> None:
        """Return when no write is under way; of a frozen file none begins after that."""
        await self._moving()

    def give_back(self, surplus: int) -> None:
        """Return space that was taken and is not used."""
        if surplus:
            self._quota.freed(surplus)

    async def _write(self, offset: int, data: Chunk) -> tuple[int, OSError | None]:
        """During a standstill: as the disk's `write`, and without an await while that keeps up."""
        if self._disk.is_slow:
            return await self.in_thread(self._disk.write, self._fd, offset, data)
        return self._disk.write_on_loop(self._fd, offset, data)

    def _written(self, offset: int, size_bytes: int, taken: int) -> None:
        """Enter what a write got done, which with a full disk is a part, and settle what was taken for it."""
        before = self.stored_bytes
        if size_bytes:
            end = offset + size_bytes
            self.changed += 1
            self.is_on_disk = False
            if end > self.size_bytes:
                self.size_bytes = end
            if self._missing is not None:
                self._have(self._missing, offset, end)
        self.give_back(taken - (self.stored_bytes - before))

    async def _resize(self, size_bytes: int) -> None:
        if self.size_bytes - size_bytes > _LONG_CUT_BYTES:
            with self.standing_still(changes=True):
                await self.in_thread(os.ftruncate, self._fd, size_bytes)
                self._resized(size_bytes)
        else:
            os.ftruncate(self._fd, size_bytes)
            self._resized(size_bytes)

    def _resized(self, size_bytes: int) -> None:
        self.changed += 1
        self.is_on_disk = False
        if size_bytes < self.size_bytes:
            self._set_aside = 0  # the cut has given them back
            if self._missing is not None:
                self._have(self._missing, size_bytes, self.size_bytes)
        self.size_bytes = size_bytes

    def _have(self, missing: Extents, low: int, high: int) -> None:
        """Nothing of [low, high) is missing any more."""
        before = missing.total
        missing.cut(low, high)
        if missing.total != before and self._noted is not None:
            self._noted.add(low, high)
        if not missing.total:
            self._missing = self._base = None

    # --- completing

    async def complete(self) -> None:
        """Fetch all that is missing; then the base no longer matters. Raises ProcoreError, StagingFull, OSError."""
        with self.held():
            while self._missing is not None:
                low, high = next(iter(self._missing))
                data = await self._from_base(low, min(high, low + _FETCH_BYTES))
                await self._moving()
                with self.standing_still():
                    await self._fill(low, memoryview(data))

    async def _fill(self, offset: int, data: memoryview) -> None:
        """During a standstill: write what came from the base, but only where it is still missing: all else is newer."""
        missing = self._missing
        if missing is None:
            return
        self.is_on_disk = False
        for low, high in missing.within(offset, offset + len(data)):
            self._quota.take_to_complete(high - low)
            done = 0
            try:
                done, error = await self._write(low, data[low - offset : high - offset])
            finally:
                self.give_back(high - low - done)
            self._have(missing, low, low + done)
            if error is not None:
                refuse(error)

    def cut_tail(self) -> None:
        """What lay behind its end is kept elsewhere. Raises OSError."""
        with self.held():
            os.ftruncate(self._fd, self.size_bytes)
        self.has_tail = self.is_on_disk = False

    # --- standstill and threads

    async def _moving(self) -> None:
        """Return when there is no standstill; there is none until the next await."""
        while self._standstill is not None:
            await self._standstill.wait()

    @contextmanager
    def standing_still(self, *, changes: bool = False) -> Iterator[None]:
        """No byte is written and no size changes but by its owner; begin it without an await after `_moving`."""
        ended = self._standstill = trio.Event()
        self._is_changing = changes
        self._write_fd = -1
        try:
            yield
        finally:
            self._standstill = None
            self._is_changing = False
            self._write_fd = self._fd
            ended.set()

    async def in_thread(self, work: Callable[[*Args], T], *args: *Args) -> T:
        """Do blocking work; not cancelled half-way. Raises StagingFull, StagedIncomplete, OSError."""
        try:
            return await trio.to_thread.run_sync(work, *args, limiter=self._context.threads)
        except EOFError as error:
            raise StagedIncomplete(self.number, "is shorter than it was") from error
        except OSError as error:
            refuse(error)
