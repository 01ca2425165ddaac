"""Holds the dirty files: the staged bytes of each file that is open and written to, or that waits for its upload.

    open for writing ─▶ dirty file ─▶ write … ─▶ flush: journaled ─▶ frozen while it is uploaded ─▶ dropped

A file has at most one dirty file, and all its handles read from it. An upload freezes it: a write during the upload
goes to a copy, the next generation, and the upload keeps the bytes that it began with. A file that no handle has open
is parked: only its staged file is known, by its number.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from procorefs.cache.chunk_cache import Chunk
from procorefs.journal.durability import Durability
from procorefs.procore.wire.models import Version, VersionId
from procorefs.staging.staging_area import StagedFile, StagedFrozen, StagedIncomplete, StagedRecord, Staging
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode

EVERYTHING = 1 << 63
"""Larger than any file."""


@dataclass(slots=True)
class DirtyFile:
    """The bytes of one file as programs see them now, and how much of them is journaled."""

    inode: Inode
    file: StagedFile
    flushed: int = -1
    """`file.changed` when its bytes were last journaled; -1 if they never were."""
    promised_bytes: int = EVERYTHING
    """A write below this offset is journaled first: the row has the bytes before it as closed. EVERYTHING: there is
    no row."""
    clean: VersionId | None = None
    """The version in Procore with the same bytes. Valid while `flushed` shows that nothing was written since."""
    is_held: bool = False
    """Whether the staged file has a descriptor for its handles."""
    mtime_ns: int | None = None
    """When a program last changed bytes that are not journaled; None if there are none."""
    unreleased: int = 0
    """How many handles were flushed and not released: the kernel flushes at each close of a descriptor, and other
    descriptors may share the handle (`{ a; b; } > file`)."""
    flushed_at_s: float | None = None
    """When (trio's clock) the last flush promised bytes, until its handle is released."""
    goes_on: bool = False
    """Whether a handle was written to, or stayed open, after a flush: its flushes do not mean that the file is
    complete."""
    thaw: trio.Lock = field(default_factory=trio.Lock)
    """Held while a frozen file is copied."""

    @property
    def is_frozen(self) -> bool:
        """Whether an upload reads the file, so that it may not change."""
        return self.file.is_frozen

    @property
    def is_changed(self) -> bool:
        """Whether there are bytes that are not journaled."""
        return self.file.changed != self.flushed


class DirtyFiles:
    """All dirty files, by inode, and which files are open."""

    def __init__(self, staging: Staging, durability: Durability) -> None:
        self.staging = staging
        self._durability = durability
        self._dirty_files: dict[Inode, DirtyFile] = {}
        self._inside: Counter[Inode] = Counter()
        self._writers: Counter[Inode] = Counter()
        self._has_writers = trio.Event()  # replaced when the last writer leaves
        self._parked: dict[int, StagedFile] = {}  # by number: journaled, and not open

    # Open handles

    def enter(self, inode: Inode, *, writes: bool) -> None:
        self._inside[inode] += 1
        if writes:
            self._writers[inode] += 1
            self._has_writers.set()
        try:
            self._hold_if_any(inode)
        except BaseException:  # no free descriptor: the file is not open
            self.leave(inode, writes=writes)
            self.park(inode)
            raise

    def leave(self, inode: Inode, *, writes: bool) -> None:
        """Undo one `enter`."""
        if writes:
            _less(self._writers, inode)
            if not self._writers:
                self._has_writers = trio.Event()
        _less(self._inside, inode)
        self._hold_if_any(inode)

    def _hold_if_any(self, inode: Inode) -> None:
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None:
            self._hold(dirty_file)

    def is_open(self, inode: Inode) -> bool:
        return inode in self._inside

    def is_written(self, inode: Inode) -> bool:
        """Whether the file is open for writing."""
        return inode in self._writers

    async def opened_for_writing(self) -> None:
        """Wait until some file is open for writing."""
        await self._has_writers.wait()

    @property
    def written(self) -> list[Inode]:
        """All files that are open for writing."""
        return list(self._writers)

    # Dirty files

    def __iter__(self) -> Iterator[DirtyFile]:
        """All dirty files, as they are now."""
        return iter(list(self._dirty_files.values()))

    def get(self, inode: Inode) -> DirtyFile | None:
        return self._dirty_files.get(inode)

    def has(self, inode: Inode) -> bool:
        return inode in self._dirty_files

    def is_unflushed(self, inode: Inode) -> bool:
        """Whether there are bytes that could not be journaled at the last writer's close."""
        dirty_file = self._dirty_files.get(inode)
        return dirty_file is not None and dirty_file.is_changed and inode not in self._writers

    def begin(self, inode: Inode, base: Version | None) -> DirtyFile:
        """Make a dirty file over the bytes of a version, or an empty one, without fetching bytes. Raises StagingFull.

        It has a descriptor for the next handle; if none follows, the caller parks it.
        """
        dirty_file = DirtyFile(inode, self.staging.create(base, held=True))
        dirty_file.is_held = True
        if base is not None:
            dirty_file.flushed = dirty_file.file.changed
            dirty_file.clean = base.id
        self._dirty_files[inode] = dirty_file
        return dirty_file

    def find(self, inode: Inode, record: StagedRecord | None) -> DirtyFile | None:
        """The dirty file of an inode; a parked one is found by its record. Raises StagedIncomplete."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is None and record is not None:
            file = self._parked.pop(record.number, None)
            if file is None:
                raise StagedIncomplete(record.number, "is not there")
            dirty_file = self._dirty_files[inode] = DirtyFile(inode, file, file.changed, record.size_bytes)
            self._hold(dirty_file)
        return dirty_file

    def head(self, inode: Inode, record: StagedRecord, size_bytes: int) -> bytes | None:
        """The first bytes of a file; None if some of them are missing or cannot be read."""
        file = self.file(inode, record)
        return file.head(size_bytes) if file is not None else None

    def file(self, inode: Inode, record: StagedRecord) -> StagedFile | None:
        """The staged file of a record, dirty or parked; None if it is neither."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None and dirty_file.file.number == record.number:
            return dirty_file.file
        return self._parked.get(record.number)

    @property
    def parked(self) -> list[StagedFile]:
        """The staged files that the journal names and that are not open."""
        return list(self._parked.values())

    def park(self, inode: Inode) -> None:
        """Park a dirty file that is not open and is journaled; drop it if its bytes are in Procore."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is None or inode in self._inside:
            return
        self._hold(dirty_file)
        if dirty_file.is_frozen or dirty_file.is_changed:
            return
        if dirty_file.clean is not None:
            self.drop(inode)
        else:
            del self._dirty_files[inode]
            self._parked[dirty_file.file.number] = dirty_file.file

    def _hold(self, dirty_file: DirtyFile) -> None:
        """Have a descriptor exactly while the file is open."""
        wanted = dirty_file.inode in self._inside
        if wanted and not dirty_file.is_held:
            dirty_file.file.hold()
        elif dirty_file.is_held and not wanted:
            dirty_file.file.release()
        dirty_file.is_held = wanted

    @contextmanager
    def beginning_empty(self, dirty_file: DirtyFile) -> Iterator[None]:
        """Continue with a new, empty generation: a frozen file need not be copied to be truncated to zero.

        If the block raises, the dirty file has its earlier bytes again.
        """
        frozen, clean, promised_bytes, flushed = (
            dirty_file.file,
            dirty_file.clean,
            dirty_file.promised_bytes,
            dirty_file.flushed,
        )
        self._exchange(dirty_file, self.staging.create())
        empty = dirty_file.file
        try:
            yield
        except BaseException:
            if dirty_file.file is empty and frozen.is_frozen:  # else its upload has ended and released it
                self._exchange(dirty_file, frozen)
                dirty_file.clean, dirty_file.promised_bytes, dirty_file.flushed = (
                    clean,
                    promised_bytes,
                    flushed,
                )
                empty.delete()
            raise

    def _exchange(self, dirty_file: DirtyFile, file: StagedFile) -> None:
        if dirty_file.is_held:
            file.hold()
            dirty_file.file.release()
        dirty_file.file, dirty_file.clean, dirty_file.promised_bytes = file, None, EVERYTHING
        dirty_file.flushed = -1

    async def writable(self, dirty_file: DirtyFile) -> StagedFile:
        """The staged file to write to: the present one, or a copy while an upload reads it. Raises StagingFull."""
        while dirty_file.is_frozen:
            async with dirty_file.thaw:
                if not dirty_file.is_frozen:  # another writer made the copy, or the upload ended
                    break
                frozen = dirty_file.file
                copy = await self.staging.freeze_copy(frozen)
                if not dirty_file.is_frozen or dirty_file.file is not frozen:
                    copy.delete()
                    continue
                self._exchange(dirty_file, copy)
        return dirty_file.file

    async def continue_in_copy(self, dirty_file: DirtyFile) -> None:
        """Park the staged file as it is, because its row names it, and continue with a copy. Does nothing if the file
        is changed, flushed or frozen meanwhile.

        Raises StagingFull, StagedIncomplete, OSError.
        """
        async with dirty_file.thaw:
            file, flushed = dirty_file.file, dirty_file.flushed
            if file.is_frozen or dirty_file.is_changed:
                return
            copy = await self.staging.freeze_copy(file)
            if (
                dirty_file.file is not file
                or dirty_file.flushed != flushed
                or file.is_frozen
                or dirty_file.is_changed
            ):
                copy.delete()
                return
            self._exchange(dirty_file, copy)
            self._parked[file.number] = file

    async def write(
        self, dirty_file: DirtyFile, offset: int, data: Chunk, before: Callable[[], None]
    ) -> None:
        """Write, waiting if necessary, and never into bytes that are being uploaded. Raises StagingFull.

        `before` is called just before a byte changes.
        """
        while True:
            file = await self.writable(dirty_file)
            try:
                await file.write(offset, data, before)
            except StagedFrozen:
                continue
            dirty_file.mtime_ns = clocks.file_ns()
            return

    async def truncate(self, dirty_file: DirtyFile, size_bytes: int, before: Callable[[], None]) -> None:
        """Set the size, under the same conditions as `write`."""
        while True:
            file = await self.writable(dirty_file)
            try:
                await file.truncate(size_bytes, before)
            except StagedFrozen:
                continue
            dirty_file.mtime_ns = clocks.file_ns()
            return

    async def still(self, inode: Inode) -> None:
        """Wait until no write is under way. None begins before the next await."""
        while (dirty_file := self._dirty_files.get(inode)) is not None and dirty_file.file.is_changing:
            await dirty_file.file.still()

    def freeze(self, inode: Inode, record: StagedRecord) -> StagedFile:
        """The staged file of a generation, held for an upload: it does not change until `thaw`. Raises
        StagedIncomplete."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is None and record.number not in self._parked:
            dirty_file = self.find(inode, record)
        is_newest = dirty_file is not None and dirty_file.file.number == record.number
        file = dirty_file.file if dirty_file is not None and is_newest else self._parked[record.number]
        file.hold()
        file.is_frozen = True
        return file

    def thaw(self, inode: Inode, file: StagedFile, *, is_wanted: bool) -> None:
        """Release a file after its upload, successful or not. `is_wanted`: the journal still names the generation."""
        file.release()
        file.is_frozen = False
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None and dirty_file.file is file:
            self.park(inode)
        elif is_wanted:
            self._parked[file.number] = file
        else:
            self._parked.pop(file.number, None)
            self._durability.delete_after_sync(file)

    def uploaded(self, inode: Inode, generation: int, version: VersionId) -> None:
        """Note that Procore has the bytes as that version: the file is kept only for open handles."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is not None and dirty_file.file.number == generation and not dirty_file.is_changed:
            dirty_file.clean = version
            dirty_file.promised_bytes = EVERYTHING

    def drop(self, inode: Inode) -> None:
        """Drop a dirty file whose bytes are not wanted. The staged file is deleted when the journal is on disk."""
        dirty_file = self._dirty_files.pop(inode, None)
        if dirty_file is None:
            return
        if dirty_file.is_held:
            dirty_file.file.release()
            dirty_file.is_held = False
        if not dirty_file.is_frozen:  # a frozen one is deleted when its upload ends
            self._durability.delete_after_sync(dirty_file.file)

    def drop_parked(self, record: StagedRecord) -> None:
        """The same for a parked generation; one that is being uploaded is deleted when the upload ends."""
        file = self._parked.get(record.number)
        if file is not None and not file.is_frozen:
            del self._parked[record.number]
            self._durability.delete_after_sync(file)

    def adopt(self, record: StagedRecord) -> None:
        """Park a generation of an earlier run. Raises StagedIncomplete, OSError."""
        self.park_file(self.staging.adopt(record))

    def with_tail(self, record: StagedRecord) -> StagedFile | None:
        """The parked file of a generation, if it has bytes beyond its recorded end, which must be copied first."""
        file = self._parked.get(record.number)
        return file if file is not None and file.has_tail else None

    def park_file(self, file: StagedFile) -> None:
        self._parked[file.number] = file

    def park_files(self, files: Mapping[int, StagedFile]) -> None:
        """Park the files of an earlier run, by number."""
        self._parked.update(files)

    def unpark(self, file: StagedFile) -> None:
        """Undo `park_file`, because no row names the file."""
        self._parked.pop(file.number, None)


def _less(counter: Counter[Inode], inode: Inode) -> None:
    counter[inode] -= 1
    if not counter[inode]:
        del counter[inode]
