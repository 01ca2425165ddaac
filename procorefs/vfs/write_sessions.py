"""Decides when written bytes are journaled: at flush, release, truncation, and before closed bytes are overwritten."""

from contextlib import suppress

import msgspec
import trio

from procorefs.cache.chunk_cache import Chunk
from procorefs.journal.change import Change, Open, Pending
from procorefs.journal.durability import Durability
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.staging.staging_area import StagedFile, StagedIncomplete, StagedRecord, StagingFull
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode, kept_of
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import EVERYTHING, DirtyFile, DirtyFiles
from procorefs.vfs.refusals import IsAFolder, NotPermitted, WriteAccess
from procorefs.vfs.view import View

COPIED_BYTES = 4 << 20
"""Copying a file up to this size takes less time than bringing the journal to disk, which is two waits for the disk."""


class StillPromised(Exception):
    """A row on disk has the bytes as closed: they may not change before a later row is on disk."""


class WriteSessions:
    """Opens dirty files and journals what is written to them."""

    def __init__(
        self,
        view: View,
        dirty_files: DirtyFiles,
        journal: Journal,
        fates: ChangeFate,
        durability: Durability,
        changes: ChangeStore,
        access: WriteAccess,
    ) -> None:
        self._view = view
        self._dirty_files = dirty_files
        self._journal = journal
        self._fates = fates
        self._durability = durability
        self._changes = changes
        self._access = access

    def open_for_writing(self, inode: Inode, *, truncates: bool) -> DirtyFile:
        """The dirty file to write to; a new one is based on the version that the file shows.

        Raises ChangeRefused, StagingFull, StagedIncomplete.
        """
        node = self._changes.node(inode)
        if node.is_folder:
            raise IsAFolder
        self._access.check(node)
        self._access.check_rights({"write"}, self._view.path(inode))
        change = self._view.change(inode)
        dirty_file = self._dirty_files.find(inode, change.shown if change is not None else None)
        if dirty_file is not None:
            return dirty_file
        if node.version is None and not truncates:
            raise NotPermitted(node.defect or "Procore names no version of it: it can only be overwritten")
        dirty_file = self._dirty_files.begin(inode, None if truncates else node.version)
        if truncates and node.version is not None and not node.version.size_bytes:
            dirty_file.flushed, dirty_file.clean = (
                dirty_file.file.changed,
                node.version.id,
            )  # it is empty already
        return dirty_file

    async def flush(self, inode: Inode) -> None:
        """Journal the bytes of a dirty file as closed when no write is under way: after a crash they are sent without
        `retry`."""
        await self._dirty_files.still(inode)
        self.promise(inode)

    def promise(self, inode: Inode) -> None:
        """The same; the caller knows that no write is under way."""
        self.flushed(inode)
        dirty_file, change = self._dirty_files.get(inode), self._view.change(inode)
        if dirty_file is None:
            return
        dirty_file.flushed_at_s = None
        if change is not None and change.state is ChangeState.PENDING and _is_of(change.staged, dirty_file):
            dirty_file.promised_bytes = dirty_file.file.size_bytes

    async def handle_flushed(self, inode: Inode, *, is_first: bool, is_final: bool) -> None:
        """Journal the bytes at the close of a descriptor, usually the last one of its handle, so that the release
        follows.

        If the handle is written to again or stays open, its bytes count as incomplete until it is released.
        `is_first`: the first flush of that handle. `is_final`: the bytes are to be sent in any case.
        """
        await self._dirty_files.still(inode)
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is None:
            return
        dirty_file.unreleased += is_first
        if dirty_file.goes_on and not is_final:
            self._durability.journaled(dirty_file.file)
            return
        change = self._view.change(inode)
        has_news = dirty_file.is_changed or (change is not None and change.state is ChangeState.OPEN)
        self.flushed(inode)
        if has_news:
            dirty_file.flushed_at_s = trio.current_time()
            dirty_file.promised_bytes = EVERYTHING  # the next write tells this object first

    def handle_released(self, inode: Inode) -> None:
        """Note the release of a handle that had been flushed."""
        dirty_file = self._dirty_files.get(inode)
        if dirty_file is None:
            return
        dirty_file.unreleased = max(dirty_file.unreleased - 1, 0)
        if dirty_file.unreleased:
            return
        dirty_file.goes_on, dirty_file.flushed_at_s = False, None
        change = self._view.change(inode)
        if change is not None and change.state is ChangeState.PENDING and _is_of(change.staged, dirty_file):
            dirty_file.promised_bytes = change.staged.size_bytes if change.staged is not None else 0

    def stays_open(self, inode: Inode) -> None:
        """Note that a flushed handle was not released: its program still writes, and the file counts as incomplete."""
        dirty_file, change = self._dirty_files.get(inode), self._view.change(inode)
        if dirty_file is None or change is None or dirty_file.flushed_at_s is None:
            return
        is_promised = change.state is ChangeState.PENDING and _is_of(change.staged, dirty_file)
        if is_promised and not dirty_file.is_frozen and change.used_upload is None:
            self.withdraw(dirty_file)
        dirty_file.flushed_at_s = None

    def flushed(self, inode: Inode) -> None:
        """Journal the bytes of a dirty file as they are now, if they are not journaled yet.

        A block that a thread is writing may be half on disk: then the flush after that write journals the bytes.
        """
        dirty_file, change = self._dirty_files.get(inode), self._view.change(inode)
        if dirty_file is None or dirty_file.file.is_changing:
            return
        is_first = change is not None and change.state is ChangeState.OPEN
        has_news = dirty_file.is_changed or (is_first and dirty_file.clean is None)
        if not has_news and (change is None or change.unclosed is None):
            return
        node = self._view.by_inode(inode)
        if node is None or node.parent is None:
            return  # only handles that are open see an unlinked file
        if has_news:
            self.take_bytes(change or self._changes.change_of(node), dirty_file)
        elif change is not None and dirty_file.clean is not None:
            change.unclosed = None  # it was opened for a write that was refused
            self._changes.save(change)

    def take_bytes(self, change: Change, dirty_file: DirtyFile) -> None:
        """Want the dirty file's present bytes."""
        before = change.staged
        if dirty_file.mtime_ns is not None:
            change.kept = msgspec.structs.replace(
                change.kept, mtime_ns=dirty_file.mtime_ns, ctime_ns=dirty_file.mtime_ns, sha256=b""
            )
            dirty_file.mtime_ns = None
        staged = dirty_file.file.record()
        change.want_bytes(staged)
        change.unclosed = None
        change.is_junk = self._fates.is_junk(change)
        if change.upload is not None and change.upload.generation == dirty_file.file.number:
            change.drop_upload()  # the bytes that a crash cut off; the file has others by now
        change.step(Pending())
        change.sequence = self._journal.next_sequence()
        dirty_file.file.promises.make(change.sequence)
        change.touch()
        self._changes.update(change)
        dirty_file.flushed, dirty_file.clean = dirty_file.file.changed, None
        dirty_file.promised_bytes = staged.size_bytes
        if before is not None and before.number != staged.number:
            self._dirty_files.drop_parked(before)

    def promise_incomplete(self, change: Change) -> None:
        """Have incomplete bytes synced before they are sent: after a power cut they would be doubtful."""
        file = self._dirty_files.file(change.inode, change.staged) if change.staged is not None else None
        if file is not None and change.state is ChangeState.INCOMPLETE:
            change.sequence = self._journal.next_sequence()
            file.promises.make(change.sequence)

    def take_fetched(self, change: Change, file: StagedFile) -> None:
        """Want the bytes of a pending copy, which are now in a staged file. Raises StagingFull, sqlite3.Error,
        OSError."""
        self._dirty_files.park_file(file)
        try:
            self._want(change, file)
        except BaseException:
            self._dirty_files.unpark(file)
            raise

    def take_completed(self, change: Change, file: StagedFile) -> None:
        """Journal that no staged bytes are missing any more. Raises sqlite3.Error, OSError; then the row still has
        them as missing."""
        self._want(change, file)

    def _want(self, change: Change, file: StagedFile) -> None:
        """Keep the document that has the missing bytes if the row cannot be written."""
        before = change.content, change.sequence
        change.want_bytes(file.record())
        change.sequence = self._journal.next_sequence()
        file.promises.make(change.sequence)
        try:
            self._changes.update(change)
        except BaseException:
            change.content, change.sequence = before
            raise

    async def save_tail(self, inode: Inode) -> None:
        """Copy bytes that a crash left beyond the file's end, if there was no space at the start; call it before a
        write or upload.

        Raises StagingFull, OSError if there still is no space; the file stays as it is.
        """
        change = self._view.change(inode)
        file = self._dirty_files.with_tail(change.staged) if change is not None and change.staged else None
        if file is None:
            return
        tail = await self._dirty_files.staging.save_tail(file)
        change = self._view.change(inode)
        is_wanted = change is not None and change.unclosed is None and file.has_tail and not file.is_deleted
        if tail is None or change is None or not is_wanted:
            return  # another task was faster; the next start deletes this copy
        kept = self._dirty_files.staging.adopt(tail, is_open=True)
        self._dirty_files.park_file(kept)
        change.unclosed = kept.record()
        self._changes.save(change)
        file.cut_tail()

    async def write(self, dirty_file: DirtyFile, offset: int, data: Chunk) -> None:
        """Write, waiting if necessary, and never into bytes that are being uploaded. Raises StagingFull, OSError."""

        def before() -> None:
            if offset < dirty_file.promised_bytes:
                self.will_overwrite(dirty_file)

        while True:
            try:
                return await self._dirty_files.write(dirty_file, offset, data, before)
            except StillPromised:
                await self._leave_promised(dirty_file)

    async def truncate(self, dirty_file: DirtyFile, size_bytes: int) -> None:
        """Set the size. Raises the same errors as `write`."""
        while True:
            try:
                return await self._dirty_files.truncate(
                    dirty_file, size_bytes, lambda: self._will_shrink(dirty_file, size_bytes)
                )
            except StillPromised:
                await self._leave_promised(dirty_file)

    async def _leave_promised(self, dirty_file: DirtyFile) -> None:
        """Let bytes change that a row on disk promises: of a short file, continue in a copy, and the promise holds."""
        file, change = dirty_file.file, self._view.change(dirty_file.inode)
        is_closed = (
            change is not None
            and change.state is not ChangeState.INCOMPLETE
            and dirty_file.flushed_at_s is None
            and not dirty_file.is_changed
        )
        has_space = file.stored_bytes <= self._dirty_files.staging.quota.left_bytes()
        if is_closed and has_space and file.size_bytes <= COPIED_BYTES:
            with suppress(StagingFull, StagedIncomplete):
                await self._dirty_files.continue_in_copy(dirty_file)
                return
        await self._withdraw_on_disk(dirty_file)

    async def _withdraw_on_disk(self, dirty_file: DirtyFile) -> None:
        """Wait until no row on disk promises the file's bytes, unless they are promised again meanwhile."""
        promises, made = dirty_file.file.promises, dirty_file.file.promises.made
        self.withdraw(dirty_file)
        dirty_file.promised_bytes = EVERYTHING  # no write happens before that row is on disk
        await self._durability.reached()
        promises.withdraw(made)

    def modified(self, dirty_file: DirtyFile) -> None:
        """Set mtime and ctime after a truncation, also if the size stayed the same."""
        now_ns = clocks.file_ns()
        if dirty_file.is_changed:
            dirty_file.mtime_ns = now_ns
        else:
            kept = kept_of(self._changes.node(dirty_file.inode))
            self._changes.keep(
                dirty_file.inode, msgspec.structs.replace(kept, mtime_ns=now_ns, ctime_ns=now_ns)
            )

    def _will_shrink(self, dirty_file: DirtyFile, size_bytes: int) -> None:
        """Journal a smaller size before a file is truncated: the journal must not promise more bytes than there are."""
        if dirty_file.promised_bytes > size_bytes:
            self._check_withdrawn(dirty_file)
            change = self._view.change(dirty_file.inode)
            if change is not None and _is_of(change.staged, dirty_file):
                change.want_bytes(dirty_file.file.record(size_bytes))
            self.withdraw(dirty_file)

    def will_overwrite(self, dirty_file: DirtyFile) -> None:
        """Journal the file as open before bytes change that were closed or that no row names: after a crash they are
        not sent.

        Appended bytes need no row: after a crash the journal's size counts. Raises StillPromised.
        """
        self._check_withdrawn(dirty_file)
        self.withdraw(dirty_file)

    def _check_withdrawn(self, dirty_file: DirtyFile) -> None:
        """Raise StillPromised while a row on disk has the bytes as closed, because after a power cut that row would
        count."""
        change = self._view.change(dirty_file.inode)
        is_named = change is not None and _is_of(change.staged, dirty_file)
        if is_named and dirty_file.file.promises.is_on_disk(self._durability.synced):
            raise StillPromised

    def withdraw(self, dirty_file: DirtyFile) -> None:
        """Journal that the bytes are being written."""
        change = self._view.change(dirty_file.inode)
        if dirty_file.flushed_at_s is not None:
            # A shell's redirection closes its first descriptor before the program writes: ignore that flush.
            dirty_file.goes_on = dirty_file.unreleased > 0 and dirty_file.file.size_bytes > 0
            dirty_file.flushed_at_s = None
        if change is not None and _is_of(change.staged, dirty_file):
            if change.state is not ChangeState.INCOMPLETE:
                change.step(Open(change.reason))
            self._changes.update(change)
            dirty_file.flushed = -1
        elif change is None or not _is_of(change.unclosed, dirty_file):
            self._note_unclosed(dirty_file)
        dirty_file.promised_bytes = 0

    def _note_unclosed(self, dirty_file: DirtyFile) -> None:
        """Journal a dirty file over a document, or over bytes that are being sent, at its first write."""
        node = self._view.by_inode(dirty_file.inode)
        if node is None or node.parent is None:
            return  # what was unlinked is seen only by those inside
        with self._changes.transaction():
            change = self._changes.change_of(node)
            change.unclosed = dirty_file.file.record()
            self._changes.save(change)

    def released(self, inode: Inode) -> None:
        """Note the last writer's close: the delay before the upload begins now."""
        change, dirty_file = self._view.change(inode), self._dirty_files.get(inode)
        if change is not None:
            if self.is_unflushed(inode):
                self._changes.touched(inode)  # the disk refused its row: see `flushed_late`
                return
            was_only_open = change.state is ChangeState.OPEN and change.document is None
            if (
                was_only_open
                and dirty_file is not None
                and dirty_file.clean is not None
                and not dirty_file.is_changed
            ):
                self._changes.dismiss(change)  # Procore removed it while it was open, and nothing was written
            elif change.is_idle:
                self._changes.settle(change)
            else:
                change.touched_at_s = clocks.unix_s()
                self._changes.touched(inode, soon=False)

    def is_unflushed(self, inode: Inode) -> bool:
        """Whether a file has bytes that the disk refused to journal at its last writer's close."""
        if not self._dirty_files.is_unflushed(inode):
            return False
        node = self._view.by_inode(inode)
        return node is not None and node.parent is not None

    def flushed_late(self, inode: Inode) -> None:
        """Journal the bytes that could not be journaled at the last close, and park the file. Raises sqlite3.Error,
        OSError, StagingFull."""
        self.flushed(inode)
        self.released(inode)
        if not self._dirty_files.is_open(inode):
            self.left(inode)

    def refused(self, inode: Inode) -> None:
        """Drop or park a dirty file whose handle was not opened after all."""
        dirty_file, change = self._dirty_files.get(inode), self._view.change(inode)
        if self._dirty_files.is_open(inode):
            return
        records = change.records if change is not None else ()
        if dirty_file is not None and not any(_is_of(record, dirty_file) for record in records):
            self._dirty_files.drop(inode)
        self.left(inode)

    def left(self, inode: Inode) -> None:
        """Release the file of an inode that no handle has open any more."""
        change = self._view.change(inode)
        self._view.forget_detached(inode)
        node_is_gone = change is None or change.is_removed
        if node_is_gone and not self._view.reachable(inode):
            self._dirty_files.drop(inode)
        else:
            self._dirty_files.park(inode)


def _is_of(record: StagedRecord | None, dirty_file: DirtyFile) -> bool:
    """Whether a row's record names the dirty file's staged file."""
    return record is not None and record.number == dirty_file.file.number
