"""Staged files: the only copy of what was written and is not in Procore yet, one file each in a directory of their own.

    create() ─▶ StagedFile ─▶ record() ─▶ the journal ─▶ (crash) ─▶ adopt() ─▶ StagedFile ─▶ delete()

Each has a number that is never given twice; the journal's rows name their files by it, and what no row names is swept
at the start. What a write returned for is in the kernel's hands and survives the daemon; `sync` brings it to disk.
"""

import os
import stat
from collections.abc import Callable, Collection, Container
from pathlib import Path

import trio

from procorefs.procore.wire.models import Version
from procorefs.staging import missing_ranges, staged_bytes, whole_file
from procorefs.staging.quota import Outlook, Quota, StagingFull, refuse
from procorefs.staging.spare_files import SpareFiles, make_file
from procorefs.staging.staged_bytes import Disk, Remover
from procorefs.staging.staged_file import FLAGS, StagedFile
from procorefs.staging.staged_record import (
    BaseReader,
    StagedFileContext,
    StagedFrozen,
    StagedIncomplete,
    StagedRecord,
)

__all__ = [
    "BaseReader",
    "Outlook",
    "Quota",
    "StagedFile",
    "StagedFrozen",
    "StagedIncomplete",
    "StagedRecord",
    "Staging",
    "StagingFull",
]

_THREADS = 8
_SYNCED_ALONE = 16  # more files are on disk sooner when their whole filesystem is synced


class Staging:
    """The staging area, used on one trio loop. One process has it at a time: the state directory sees to that."""

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        open_version: Callable[[Version], BaseReader],
        outlook: Callable[[], Outlook],
    ) -> None:
        """Make or open the directory; blocks. `outlook`: see Quota. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        path = str(directory.absolute())
        self._sequence = Path(f"{path}.sequence")
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._discarded: list[StagedFile] = []
        self._deleting = 0  # of those, so many were taken to be deleted
        self.quota = Quota(
            limit_bytes,
            lambda: os.fstatvfs(self._fd),
            lambda: Outlook.SOON if self._discarded or self._deleting else outlook(),
        )
        self._remover = Remover()
        threads = trio.CapacityLimiter(_THREADS)
        self._context = StagedFileContext(path, self.quota, open_version, Disk(), self._remover, threads)
        self._first = self._next = 1 + max(self._numbers(), default=0)
        self._spare_files = SpareFiles(path, self._reserve)
        self._given = 0  # files
        self._named = 0  # of those given first, so many have their names on disk

    @property
    def limit_bytes(self) -> int:
        """How many staged bytes there may be."""
        return self.quota.limit_bytes

    @property
    def used_bytes(self) -> int:
        """What the files' sizes add up to, less what is still missing."""
        return self.quota.used_bytes

    def create(self, base: Version | None = None, *, held: bool = False) -> StagedFile:
        """A new file, empty or with the bytes of `base`, which are not fetched; nobody holds it but, if so, the caller.

        Raises StagingFull, OSError.
        """
        file, descriptor = self._new_file()
        self._spare_files.replenish()
        self._given += 1
        try:
            if base is not None and base.size_bytes:
                os.ftruncate(descriptor, base.size_bytes)
                file.lay_over(base, base.size_bytes, ((0, base.size_bytes),))
        except OSError as error:
            os.close(descriptor)
            file.delete()
            refuse(error)
        if held:
            file.hold_by(descriptor)
        else:
            os.close(descriptor)
        return file

    def _new_file(self) -> tuple[StagedFile, int]:
        """An empty file, opened."""
        number = self._spare_files.take()
        try:
            if number is not None:
                file = StagedFile(self._context, number)
                return file, os.open(file.path, FLAGS)
            file = StagedFile(self._context, self._reserve(1))
            return file, make_file(file.path)
        except OSError as error:
            refuse(error)

    def _reserve(self, count: int) -> int:
        self._next += count
        return self._next - count

    def pass_over(self, number: int) -> None:
        """Give neither this number nor a smaller one to any new file: the journal has rows with them."""
        self._next = max(self._next, number + 1)

    def adopt(self, record: StagedRecord, *, is_open: bool = False, keeps_tail: bool = False) -> StagedFile:
        """The file of a record after a restart, in the record's size: what was written behind its end later is cut off,
        unless the file `keeps_tail`.

        With `is_open` it is as whoever was writing it had left it. Raises StagedIncomplete when there is less than the
        record of a closed file says; OSError.
        """
        file = StagedFile(self._context, record.number)
        file.promises.make(0)
        try:
            found = os.lstat(file.path)
        except FileNotFoundError:
            raise StagedIncomplete(record.number, "is not there") from None
        if not stat.S_ISREG(found.st_mode) or (found.st_size < record.size_bytes and not is_open):
            raise StagedIncomplete(record.number, f"has {found.st_size} bytes and not {record.size_bytes}")
        if record.missing and record.base is None:
            raise StagedIncomplete(record.number, "misses bytes, and nobody knows of which version")
        if is_open:
            noted = missing_ranges.read(file.path + missing_ranges.SUFFIX)
            missing = missing_ranges.still_missing(record.missing, noted, found.st_size)
            file.lay_over(
                record.base, found.st_size, missing, noted_bytes=len(noted) * missing_ranges.ENTRY_BYTES
            )
        else:
            Path(file.path + missing_ranges.SUFFIX).unlink(missing_ok=True)
            file.lay_over(record.base, record.size_bytes, record.missing)
        if found.st_size > file.size_bytes:
            file.has_tail = True
            if not keeps_tail:
                file.cut_tail()
        self.quota.put_back(file.stored_bytes)
        return file

    def salvage(self, record: StagedRecord) -> StagedRecord | None:
        """After a crash: a closed file with what was written behind its end as well, as a file to be adopted; blocks.

        None: nothing was. Raises StagingFull, OSError.
        """
        source = StagedFile(self._context, record.number)
        try:
            size_bytes = os.lstat(source.path).st_size
        except FileNotFoundError:
            return None
        if size_bytes <= record.size_bytes:
            return None
        copy = self.create()
        try:
            with source.held(), copy.held():
                staged_bytes.copy_all(source.fd, copy.fd, size_bytes)
        except OSError as error:
            copy.delete()
            refuse(error)
        copy.lay_over(record.base, size_bytes, record.missing)
        return copy.record()

    async def freeze_copy(self, file: StagedFile) -> StagedFile:
        """A copy to write to while an upload reads the file; see whole_file.py."""
        return await whole_file.freeze_copy(file, self.create)

    async def save_tail(self, file: StagedFile) -> StagedRecord | None:
        """A copy with the bytes beyond the file's recorded end; see whole_file.py."""
        return await whole_file.save_tail(file, self.create)

    def with_bytes(self) -> list[int]:
        """Numbers of the files of an earlier run that are not empty."""
        sizes = {number: os.stat(str(number), dir_fd=self._fd).st_size for number in self._numbers()}
        return sorted(number for number, size_bytes in sizes.items() if size_bytes and number < self._first)

    def size_bytes(self, number: int) -> int:
        """Of a file of an earlier run."""
        return os.stat(str(number), dir_fd=self._fd).st_size

    def note_sequence(self, sequence: int) -> None:
        """The journal on disk has entries up to this one; may run in a thread. Raises OSError."""
        descriptor = os.open(self._sequence, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, b"%020d" % sequence, 0)
        finally:
            os.close(descriptor)

    @property
    def noted_sequence(self) -> int:
        """What was noted last: a journal that has fewer entries is an older one that was put back."""
        try:
            return int(self._sequence.read_bytes() or b"0")
        except (FileNotFoundError, ValueError):
            return 0

    def sweep(self, keep: Container[int]) -> None:
        """At the start: delete the files that are not to be kept, but none made since. Raises OSError."""
        for number in self._numbers():
            if number < self._first and number not in keep:
                path = f"{self._context.directory}/{number}"
                self._remover.remove(path + missing_ranges.SUFFIX)
                self._remover.remove(path)

    async def sync(self, files: Collection[StagedFile]) -> None:
        """Return when all that was written to the files is on disk. Raises StagingFull, OSError."""
        given = self._given
        for file in files:
            file.is_on_disk = True  # who writes from here on says otherwise
        try:
            if len(files) > _SYNCED_ALONE:
                await self._in_thread(staged_bytes.sync_filesystem, self._fd)
            else:
                await self._sync_alone(files)
                if given > self._named:
                    await self._in_thread(os.fsync, self._fd)
        except BaseException:
            for file in files:
                file.is_on_disk = False
            raise
        self._named = max(self._named, given)

    def discard(self, file: StagedFile) -> None:
        """Note a file that may be deleted once the journal that does without it is on disk."""
        self._discarded.append(file)

    def take_discarded(self) -> list[StagedFile]:
        """The files that `delete_discarded` or `put_back_discarded` is called with next."""
        discarded, self._discarded = self._discarded, []
        self._deleting = len(discarded)
        return discarded

    def delete_discarded(self, files: list[StagedFile]) -> None:
        for file in files:
            file.delete()
        self._deleting = 0

    def put_back_discarded(self, files: list[StagedFile]) -> None:
        """The journal could not be brought to disk: they are needed still."""
        self._discarded += files
        self._deleting = 0

    def close(self) -> None:
        """No more files are opened here; blocks until those deleted, and the spare ones, are gone."""
        self._spare_files.close()
        self._remover.finish()
        os.close(self._fd)

    async def _sync_alone(self, files: Collection[StagedFile]) -> None:
        """Raises the first of the files' errors."""
        errors: list[Exception] = []

        async def sync_one(file: StagedFile) -> None:
            try:
                if file.is_deleted:
                    return
                with file.held():
                    await self._in_thread(os.fdatasync, file.fd)
            except Exception as error:  # any: it is raised below
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(sync_one, file)
        if errors:
            raise errors[0]

    async def _in_thread(self, work: Callable[[int], None], descriptor: int) -> None:
        try:
            await trio.to_thread.run_sync(work, descriptor, limiter=self._context.threads)
        except OSError as error:
            refuse(error)

    def _numbers(self) -> list[int]:
        """Of all files here."""
        with os.scandir(self._context.directory) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdecimal()]
