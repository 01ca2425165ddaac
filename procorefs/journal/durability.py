"""Syncs staged bytes and the journal to disk, many at once, within a second; then deletes superseded staged files.

    changed ─▶ (at most a second) ─▶ staged files, then the journal ─▶ wake fsync ─▶ delete old generations

Bytes are synced first: a journal on disk never promises bytes that are not. After a power cut, entries of the
journal after `synced` are doubted, because the kernel may have written them before the bytes.
"""

import logging
import sqlite3
from collections.abc import Iterable

import trio

from procorefs.journal.journal import Journal
from procorefs.staging.staging_area import StagedFile, Staging, StagingFull

log = logging.getLogger(__name__)

GROUP_S = 1.0


class Durability:
    """The group commit; `run` must run."""

    def __init__(self, staging: Staging, journal: Journal) -> None:
        self._staging = staging
        self._journal = journal
        self._changed: dict[int, StagedFile] = {}  # by number: an inode may have several
        self._wake = trio.Event()
        self._urgent = trio.Event()
        self._round_done = trio.Event()
        self._rounds = 0  # begun
        self._last_round = 0  # ended
        self._failure: Exception | None = None  # of the last round
        self.failed_syncs = 0
        """Failed rounds in a row."""
        self.synced = 0
        """Rows up to this sequence may be on disk and are trusted after a power cut."""

    def journaled(self, file: StagedFile | None = None) -> None:
        """Note a new entry of the journal, with the staged file that it names: both are synced soon."""
        if file is not None and not file.is_on_disk:
            self._changed[file.number] = file
        self._wake.set()

    def all_journaled(self, files: Iterable[StagedFile]) -> None:
        """Note the staged files of an earlier run that the journal names: that run may have ended before it synced
        the last ones."""
        self._changed.update((file.number, file) for file in files if not file.is_on_disk)
        self._wake.set()

    def delete_after_sync(self, file: StagedFile) -> None:
        """Delete a staged file when the journal that no longer names it is on disk."""
        self._staging.discard(file)
        self._wake.set()

    async def reached(self) -> None:
        """Wait until everything that was journaled before is on disk. Raises OSError, StagingFull."""
        wanted = self._rounds + 1  # the running round may have begun before
        while self._last_round < wanted:
            self._wake.set()
            self._urgent.set()
            await self._round_done.wait()
        if self._failure is not None:
            raise self._failure

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            await self._wake.wait()
            with trio.move_on_after(GROUP_S):
                await self._urgent.wait()
            self._wake, self._urgent = trio.Event(), trio.Event()
            await self._round()

    async def _round(self) -> None:
        self._rounds += 1
        number = self._rounds
        self._failure = None
        try:
            await self.flush()
        except (OSError, StagingFull, sqlite3.Error) as error:
            if not self.failed_syncs:
                log.error("Written data cannot be brought to disk: %s", error)
            self.failed_syncs += 1
            self._failure = error
            self._wake.set()  # again
        else:
            if self.failed_syncs:
                log.info("Written data is on disk again after %d failed tries.", self.failed_syncs)
            self.failed_syncs = 0
        self._last_round = number
        done, self._round_done = self._round_done, trio.Event()
        done.set()

    async def flush(self) -> None:
        """Run one round: sync bytes, sync the journal, delete superseded files."""
        changed, self._changed = self._changed, {}
        sequence, discarded = self._journal.sequence, self._staging.take_discarded()
        superfluous = {file.number for file in discarded}
        wanted = [file for file in changed.values() if not file.is_deleted and file.number not in superfluous]
        try:
            await self._staging.sync(wanted)
            self.synced = sequence  # from here on they may be on disk
            spent = self._journal.begin_sync(sequence)
            try:
                await trio.to_thread.run_sync(self._journal.sync, spent)
            except BaseException:
                self._journal.sync_failed()
                raise
            await trio.to_thread.run_sync(self._staging.note_sequence, sequence)
        except BaseException:
            self._changed = changed | self._changed
            self._staging.put_back_discarded(discarded)
            raise
        self._staging.delete_discarded(discarded)
