"""The directory of staged files: creates, restores, syncs and deletes the only copies of bytes not yet in Procore.

    create() ─▶ StagedFile ─▶ record() ─▶ the journal ─▶ (crash) ─▶ adopt() ─▶ StagedFile ─▶ delete()

Each file has a number that is never used twice. Journal rows name files by number; the start deletes files that no row
names. Bytes of a finished write are in the kernel's page cache and survive the daemon; `sync` brings them to disk.
"""

import os
import stat
from collections.abc import Callable, Collection, Container, Iterable
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
_SYNCED_ALONE = 16
"""For more files, one sync of the whole filesystem is faster."""


class Staging:
    """The staging area, used on one trio loop. The lock on the state directory keeps other processes out."""

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        open_version: Callable[[Version], BaseReader],
        outlook: Callable[[], Outlook],
    ) -> None:
        """Create or open the directory; blocks. `outlook`: see Quota. Raises OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        path = str(directory.absolute())
        self._sequence = Path(f"{path}.sequence")
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._discarded: list[StagedFile] = []
        self._deleting = 0
        """Files that `take_discarded` has returned and that are not deleted yet."""
        self.quota = Quota(
            limit_bytes,
            lambda: os.fstatvfs(self._fd),
            lambda: Outlook.SOON if self._discarded or self._deleting else outlook(),
        )
        self.remover = Remover()
        self.disk = Disk()
        self.threads = trio.CapacityLimiter(_THREADS)
        self._context = StagedFileContext(
            path, self.quota, open_version, self.disk, self.remover, self.threads
        )
        self._left, self._logs = _listed(self._fd)
        """The numbers of the files of earlier runs until `sweep`, and of those among them with a log of ranges."""
        self._next = 1 + max(self._left, default=0)
        self.spare_files = SpareFiles(path, self._reserve)
        self._created = 0
        """How many files this run has created."""
        self._named = 0
        """How many of the created files, from the first on, have their directory entries on disk."""

    @property
    def limit_bytes(self) -> int:
        """The limit of staged bytes."""
        return self.quota.limit_bytes

    @property
    def used_bytes(self) -> int:
        """The sum of the files' sizes without missing bytes."""
        return self.quota.used_bytes

    def create(self, base: Version | None = None, *, held: bool = False) -> StagedFile:
        """A new file, empty or with the bytes of `base`, which are not fetched. `held`: the caller holds it.

        Raises StagingFull, OSError.
        """
        file, descriptor = self._new_file()
        self.spare_files.replenish()
        self._created += 1
        try:
            if base is not None and base.size_bytes:
                os.ftruncate(descriptor, base.size_bytes)
                file.set_base(base, base.size_bytes, ((0, base.size_bytes),))
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
        """An empty file and its descriptor."""
        number = self.spare_files.take()
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
        """Give new files higher numbers only: the journal has rows with this one."""
        self._next = max(self._next, number + 1)

    def adopt(self, record: StagedRecord, *, is_open: bool = False, keeps_tail: bool = False) -> StagedFile:
        """The file of a record after a restart, cut to the record's size unless `keeps_tail`.

        `is_open`: it was being written, so it keeps the size that it has. Raises OSError, and StagedIncomplete if a
        closed file is shorter than its record.
        """
        file = StagedFile(self._context, record.number)
        file.promises.make(0)
        try:
            found = os.lstat(file.path)
        except FileNotFoundError:
            raise StagedIncomplete(record.number, "does not exist") from None
        if not stat.S_ISREG(found.st_mode) or (found.st_size < record.size_bytes and not is_open):
            raise StagedIncomplete(record.number, f"has {found.st_size} bytes and not {record.size_bytes}")
        if record.missing and record.base is None:
            raise StagedIncomplete(record.number, "lacks bytes of an unknown version")
        if is_open:
            logged = missing_ranges.read(file.path + missing_ranges.SUFFIX)
            missing = missing_ranges.still_missing(record.missing, logged, found.st_size)
            file.set_base(
                record.base, found.st_size, missing, log_bytes=len(logged) * missing_ranges.ENTRY_BYTES
            )
        else:
            if record.number in self._logs:
                Path(file.path + missing_ranges.SUFFIX).unlink(missing_ok=True)
            file.set_base(record.base, record.size_bytes, record.missing)
        if found.st_size > file.size_bytes:
            file.has_tail = True
            if not keeps_tail:
                file.cut_tail()
        self.quota.put_back(file.stored_bytes)
        return file

    def adopt_whole(self, records: Iterable[StagedRecord]) -> dict[int, StagedFile]:
        """The files of those records of closed files that are on disk exactly as the records say, by number.

        All others need `adopt`, which mends or refuses them. Raises OSError.
        """
        sizes = self._sizes()
        whole: dict[int, StagedFile] = {}
        stored_bytes = 0
        for record in records:
            number, size_bytes = record.number, record.size_bytes
            if (
                sizes.get(number) != size_bytes
                or number in self._logs
                or (record.missing and not record.base)
            ):
                continue
            file = StagedFile(self._context, number, size_bytes)
            file.promises.make(0)
            if record.missing:
                file.set_base(record.base, size_bytes, record.missing)
            stored_bytes += file.stored_bytes
            whole[number] = file
        self.quota.put_back(stored_bytes)
        return whole

    def _sizes(self) -> dict[int, int]:
        """The sizes of the regular files of earlier runs, by number."""
        found = {}
        for number in self._left:
            status = os.stat(str(number), dir_fd=self._fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                found[number] = status.st_size
        return found

    def salvage(self, record: StagedRecord) -> StagedRecord | None:
        """After a crash: copy a closed file that has bytes beyond its recorded end, with these bytes; blocks.

        Returns the copy's record; None: it has no such bytes. Raises StagingFull, OSError.
        """
        try:
            size_bytes = os.stat(str(record.number), dir_fd=self._fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return None
        if size_bytes <= record.size_bytes:
            return None
        source, copy = StagedFile(self._context, record.number), self.create()
        try:
            with source.held(), copy.held():
                staged_bytes.copy_all(source.fd, copy.fd, size_bytes)
        except OSError as error:
            copy.delete()
            refuse(error)
        copy.set_base(record.base, size_bytes, record.missing)
        return copy.record()

    async def freeze_copy(self, file: StagedFile) -> StagedFile:
        """A copy for writes while an upload reads the file; see whole_file.py."""
        return await whole_file.freeze_copy(file, self.create)

    async def save_tail(self, file: StagedFile) -> StagedRecord | None:
        """A copy with the bytes beyond the file's recorded end; see whole_file.py."""
        return await whole_file.save_tail(file, self.create)

    def with_bytes(self) -> list[int]:
        """Numbers of the files of earlier runs that are not empty."""
        return sorted(number for number, size_bytes in self._sizes().items() if size_bytes)

    def size_bytes(self, number: int) -> int:
        """The size of a file of an earlier run."""
        return os.stat(str(number), dir_fd=self._fd).st_size

    def note_sequence(self, sequence: int) -> None:
        """Record the last entry that the journal has on disk; may run in a thread. Raises OSError."""
        descriptor = os.open(self._sequence, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, b"%020d" % sequence, 0)
        finally:
            os.close(descriptor)

    @property
    def noted_sequence(self) -> int:
        """The recorded entry: a journal that ends before it is an older one that was restored."""
        try:
            return int(self._sequence.read_bytes() or b"0")
        except (FileNotFoundError, ValueError):
            return 0

    def sweep(self, keep: Container[int]) -> None:
        """Delete the files of earlier runs that are not in `keep`. Raises OSError."""
        left, self._left = self._left, []
        for number in left:
            if number not in keep:
                path = f"{self._context.directory}/{number}"
                self.remover.remove(path + missing_ranges.SUFFIX)
                self.remover.remove(path)

    async def sync(self, files: Collection[StagedFile]) -> None:
        """Bring everything written to the files to disk. Raises StagingFull, OSError."""
        created = self._created
        for file in files:
            file.is_on_disk = True  # a write from here on resets it
        try:
            if len(files) > _SYNCED_ALONE:
                await self._in_thread(staged_bytes.sync_filesystem, self._fd)
            else:
                await self._sync_alone(files, has_new_names=created > self._named)
        except BaseException:
            for file in files:
                file.is_on_disk = False
            raise
        self._named = max(self._named, created)

    def discard(self, file: StagedFile) -> None:
        """Delete the file once the journal that no longer names it is on disk."""
        self._discarded.append(file)

    def take_discarded(self) -> list[StagedFile]:
        """The discarded files; the caller passes them to `delete_discarded` or `put_back_discarded`."""
        discarded, self._discarded = self._discarded, []
        self._deleting = len(discarded)
        return discarded

    def delete_discarded(self, files: list[StagedFile]) -> None:
        for file in files:
            file.delete()
        self._deleting = 0

    def put_back_discarded(self, files: list[StagedFile]) -> None:
        """Keep the files: the journal could not be brought to disk."""
        self._discarded += files
        self._deleting = 0

    def close(self) -> None:
        """Delete the spare files, and wait until all deletions are done; blocks."""
        self.spare_files.close()
        self.remover.finish()
        os.close(self._fd)

    async def _sync_alone(self, files: Collection[StagedFile], *, has_new_names: bool) -> None:
        """Sync each file, and the directory if it has new names, all at once: the filesystem then waits for the disk
        only once. Raises the first error."""
        errors: list[Exception] = []

        async def sync(file: StagedFile | None) -> None:
            try:
                if file is None:
                    await self._in_thread(os.fsync, self._fd)
                elif not file.is_deleted:
                    with file.held():
                        await self._in_thread(os.fdatasync, file.fd)
            except Exception as error:  # raised below
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(sync, file)
            if has_new_names:
                nursery.start_soon(sync, None)
        if errors:
            raise errors[0]

    async def _in_thread(self, work: Callable[[int], None], descriptor: int) -> None:
        try:
            await trio.to_thread.run_sync(work, descriptor, limiter=self._context.threads)
        except OSError as error:
            refuse(error)

    def numbers(self) -> list[int]:
        """The numbers of all files in the directory."""
        return _listed(self._fd)[0]


def _listed(directory: int) -> tuple[list[int], set[int]]:
    """The numbers of all files in a directory, and of those with a log of ranges: few of a hundred thousand."""
    numbers, logs, suffix = [], set(), missing_ranges.SUFFIX
    for name in os.listdir(directory):
        if name.isdecimal():
            numbers.append(int(name))
        elif name.endswith(suffix) and name.removesuffix(suffix).isdecimal():
            logs.add(int(name.removesuffix(suffix)))
    return numbers, logs
