"""Drafts: the staged bytes of every file that is written, waits for its upload, or was written by those still inside.

    open for writing ─▶ draft ─▶ write … ─▶ flush: into the journal ─▶ frozen while it is uploaded ─▶ dropped

A file has one draft at most, and all who are inside read from it. While an upload reads a draft it is frozen: whoever
writes meanwhile begins the next generation with a copy, and the upload keeps what it had.
"""

from collections import Counter
from collections.abc import Callable, Iterator
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
"""More than any file has."""


@dataclass(slots=True)
class DirtyFile:
    """The bytes of one file as programs see them now."""

    inode: Inode
    file: StagedFile
    flushed: int = -1
    """`file.changed` when the journal last heard of it; -1: never."""
    promised_bytes: int = EVERYTHING
    """Who writes below this tells the journal first: it has these bytes as closed, or (EVERYTHING) no row at all."""
    clean: VersionId | None = None
    """The version of Procore's that has just these bytes, as long as `flushed` says that nothing was written since."""
    is_held: bool = False
    """The file is kept open."""
    mtime_ns: int | None = None
    """When a program last changed bytes; None: not since the journal heard of it."""
    unreleased: int = 0
    """Handles that were flushed and are not released: the kernel flushes at each close of a descriptor, and others may
    lead to the same handle (`{ a; b; } > file`)."""
    flushed_at_s: float | None = None
    """Trio's time of the last flush that promised bytes, as long as its handle may just be waiting for its release."""
    goes_on: bool = False
    """A handle was flushed and then written to, or stayed open: its flushes do not say that the file is whole."""
    thaw: trio.Lock = field(default_factory=trio.Lock)
    """Held while a frozen file is copied."""

    @property
    def is_frozen(self) -> bool:
        """Whether an upload reads the file: it may not change any more."""
        return self.file.is_frozen

    @property
    def is_changed(self) -> bool:
        """Whether there are bytes of which the journal has not heard."""
        return self.file.changed != self.flushed


class DirtyFiles:
    """All drafts, by inode, and who is inside of which file."""

    def __init__(self, staging: Staging, durability: Durability) -> None:
        self.staging = staging
        self._durability = durability
        self._drafts: dict[Inode, DirtyFile] = {}
        self._inside: Counter[Inode] = Counter()
        self._writers: Counter[Inode] = Counter()
        self._parked: dict[int, StagedFile] = {}  # by number: the journal's, whom nobody is inside of

    # Who is inside

    def enter(self, inode: Inode, *, writes: bool) -> None:
        self._inside[inode] += 1
        if writes:
            self._writers[inode] += 1
        try:
            self._hold_if_any(inode)
        except BaseException:  # no descriptor is left: they are not inside
            self.leave(inode, writes=writes)
            self.park(inode)
            raise

    def leave(self, inode: Inode, *, writes: bool) -> None:
        """One handle less."""
        if writes:
            _less(self._writers, inode)
        _less(self._inside, inode)
        self._hold_if_any(inode)

    def _hold_if_any(self, inode: Inode) -> None:
        draft = self._drafts.get(inode)
        if draft is not None:
            self._hold(draft)

    def is_open(self, inode: Inode) -> bool:
        return inode in self._inside

    def is_written(self, inode: Inode) -> bool:
        """Whether somebody has it open for writing."""
        return inode in self._writers

    @property
    def written(self) -> list[Inode]:
        """All files that somebody has open for writing."""
        return list(self._writers)

    # Drafts

    def get(self, inode: Inode) -> DirtyFile | None:
        return self._drafts.get(inode)

    def has(self, inode: Inode) -> bool:
        return inode in self._drafts

    def is_unflushed(self, inode: Inode) -> bool:
        """Whether there are bytes that the last writer's close could not have journaled."""
        draft = self._drafts.get(inode)
        return draft is not None and draft.is_changed and inode not in self._writers

    def begin(self, inode: Inode, base: Version | None) -> DirtyFile:
        """A draft over the bytes of a version, or over nothing; fetches none of them. Raises StagingFull.

        It is kept open, for somebody is about to enter; if nobody does, it is to be parked.
        """
        draft = DirtyFile(inode, self.staging.create(base, held=True))
        draft.is_held = True
        if base is not None:
            draft.flushed = draft.file.changed
            draft.clean = base.id
        self._drafts[inode] = draft
        return draft

    def find(self, inode: Inode, record: StagedRecord | None) -> DirtyFile | None:
        """The draft of a file, taken up by its journal record if nobody was inside lately. Raises StagedIncomplete."""
        draft = self._drafts.get(inode)
        if draft is None and record is not None:
            file = self._parked.pop(record.number, None)
            if file is None:
                raise StagedIncomplete(record.number, "is not there")
            draft = self._drafts[inode] = DirtyFile(inode, file, file.changed, record.size_bytes)
            self._hold(draft)
        return draft

    def head(self, inode: Inode, record: StagedRecord, size_bytes: int) -> bytes | None:
        """The first bytes of a file; None: some of them are not here, or can't be read."""
        file = self.file(inode, record)
        return file.head(size_bytes) if file is not None else None

    def file(self, inode: Inode, record: StagedRecord) -> StagedFile | None:
        """The file of a record, of a draft or parked; None: it is neither."""
        draft = self._drafts.get(inode)
        if draft is not None and draft.file.number == record.number:
            return draft.file
        return self._parked.get(record.number)

    @property
    def parked(self) -> list[StagedFile]:
        """The files that the journal names and nobody is inside of."""
        return list(self._parked.values())

    def park(self, inode: Inode) -> None:
        """Forget a draft that nobody is inside of: the journal knows it, or its bytes are Procore's."""
        draft = self._drafts.get(inode)
        if draft is None or inode in self._inside:
            return
        self._hold(draft)
        if draft.is_frozen or draft.is_changed:
            return
        if draft.clean is not None:
            self.drop(inode)
        else:
            del self._drafts[inode]
            self._parked[draft.file.number] = draft.file

    def _hold(self, draft: DirtyFile) -> None:
        """Keep its descriptor as long as somebody is inside."""
        wanted = draft.inode in self._inside
        if wanted and not draft.is_held:
            draft.file.hold()
        elif draft.is_held and not wanted:
            draft.file.release()
        draft.is_held = wanted

    @contextmanager
    def beginning_empty(self, draft: DirtyFile) -> Iterator[None]:
        """Go on with a new, empty generation: a frozen one need not be copied to be cut to nothing.

        What is refused within has not happened: the draft has the bytes of before.
        """
        frozen, clean, promised_bytes, flushed = draft.file, draft.clean, draft.promised_bytes, draft.flushed
        self._exchange(draft, self.staging.create())
        empty = draft.file
        try:
            yield
        except BaseException:
            if draft.file is empty and frozen.is_frozen:  # else its upload has ended and let it go
                self._exchange(draft, frozen)
                draft.clean, draft.promised_bytes, draft.flushed = clean, promised_bytes, flushed
                empty.delete()
            raise

    def _exchange(self, draft: DirtyFile, file: StagedFile) -> None:
        if draft.is_held:
            file.hold()
            draft.file.release()
        draft.file, draft.clean, draft.promised_bytes = file, None, EVERYTHING
        draft.flushed = -1

    async def writable(self, draft: DirtyFile) -> StagedFile:
        """The file to write to: the draft's own, or a copy while an upload reads that one. Raises StagingFull."""
        while draft.is_frozen:
            async with draft.thaw:
                if not draft.is_frozen:  # another writer has made the copy, or the upload has ended
                    break
                frozen = draft.file
                copy = await frozen.freeze_copy()
                if not draft.is_frozen or draft.file is not frozen:
                    copy.delete()
                    continue
                self._exchange(draft, copy)
        return draft.file

    async def write(self, draft: DirtyFile, offset: int, data: Chunk, before: Callable[[], None]) -> None:
        """Write what may have to wait, and never into bytes that are being uploaded. Raises StagingFull.

        `before` is called just before a byte changes.
        """
        while True:
            file = await self.writable(draft)
            try:
                await file.write(offset, data, before)
            except StagedFrozen:
                continue
            draft.mtime_ns = clocks.file_ns()
            return

    async def truncate(self, draft: DirtyFile, size_bytes: int, before: Callable[[], None]) -> None:
        """The same for another size."""
        while True:
            file = await self.writable(draft)
            try:
                await file.truncate(size_bytes, before)
            except StagedFrozen:
                continue
            draft.mtime_ns = clocks.file_ns()
            return

    async def still(self, inode: Inode) -> None:
        """Return when nobody is just writing to it; there is no write under way until the next await."""
        while (draft := self._drafts.get(inode)) is not None and draft.file.is_changing:
            await draft.file.still()

    def freeze(self, inode: Inode, record: StagedRecord) -> StagedFile:
        """The file of a generation, held, for an upload: it does not change until `thaw`. Raises StagedIncomplete."""
        draft = self._drafts.get(inode)
        if draft is None and record.number not in self._parked:
            draft = self.find(inode, record)
        is_newest = draft is not None and draft.file.number == record.number
        file = draft.file if draft is not None and is_newest else self._parked[record.number]
        file.hold()
        file.is_frozen = True
        return file

    def thaw(self, inode: Inode, file: StagedFile, *, is_wanted: bool) -> None:
        """The upload has ended, however. `is_wanted`: the journal names the generation still."""
        file.release()
        file.is_frozen = False
        draft = self._drafts.get(inode)
        if draft is not None and draft.file is file:
            self.park(inode)
        elif is_wanted:
            self._parked[file.number] = file
        else:
            self._parked.pop(file.number, None)
            self._durability.delete_after_sync(file)

    def uploaded(self, inode: Inode, generation: int, version: VersionId) -> None:
        """Procore has the bytes as that version: the file is kept only for those who are inside."""
        draft = self._drafts.get(inode)
        if draft is not None and draft.file.number == generation and not draft.is_changed:
            draft.clean = version
            draft.promised_bytes = EVERYTHING

    def drop(self, inode: Inode) -> None:
        """Forget a draft whose bytes are not wanted any more; its file goes when the journal is on disk."""
        draft = self._drafts.pop(inode, None)
        if draft is None:
            return
        if draft.is_held:
            draft.file.release()
            draft.is_held = False
        if not draft.is_frozen:  # a frozen one goes when its upload ends
            self._durability.delete_after_sync(draft.file)

    def drop_parked(self, record: StagedRecord) -> None:
        """The same for a generation that nobody is inside of; one that is being uploaded goes at the upload's end."""
        file = self._parked.get(record.number)
        if file is not None and not file.is_frozen:
            del self._parked[record.number]
            self._durability.delete_after_sync(file)

    def take_up(self, record: StagedRecord) -> None:
        """Park a generation of an earlier run. Raises StagedIncomplete, OSError."""
        self.park_file(self.staging.adopt(record))

    def with_tail(self, record: StagedRecord) -> StagedFile | None:
        """The parked file of a generation behind whose end something lies that is to be kept first."""
        file = self._parked.get(record.number)
        return file if file is not None and file.has_tail else None

    def park_file(self, file: StagedFile) -> None:
        self._parked[file.number] = file

    def unpark(self, file: StagedFile) -> None:
        """No row names it after all."""
        self._parked.pop(file.number, None)


def _less(counter: Counter[Inode], inode: Inode) -> None:
    counter[inode] -= 1
    if not counter[inode]:
        del counter[inode]
