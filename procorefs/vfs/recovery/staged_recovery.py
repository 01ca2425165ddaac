"""Recovers the staged bytes of the journal's changes at the start, and marks those that are doubtful.

    closed, and on disk as the row says ─▶ taken up, all at once
    all others ─▶ save_tail ─▶ mend ─▶ taken up, INCOMPLETE, or FAILED without bytes

A hundred thousand may wait, and after most ends of a run nothing of them is to mend: only the others are looked at one
by one.
"""

import logging
import math

from procorefs.journal.change import Change, Failed, Incomplete, Pending, Written
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.staging.staging_area import StagedFile, StagedIncomplete, StagedRecord, StagingFull
from procorefs.storage import clocks
from procorefs.tree.nodes import Inode
from procorefs.tree.tree_store import TreeStore
from procorefs.vfs.dirty_files import DirtyFiles

log = logging.getLogger(__name__)

_NOT_CLOSED = (ChangeState.OPEN, ChangeState.INCOMPLETE)


class StagedRecovery:
    """Brings staged files and the rows that name them to a consistent state; `Recovery` calls it, in this order."""

    def __init__(
        self, store: TreeStore, dirty_files: DirtyFiles, journal: Journal, *, is_doubtful: bool
    ) -> None:
        """`is_doubtful`: whether the power was cut, so that bytes of entries that were not synced may be zeros."""
        self._store = store
        self._dirty_files = dirty_files
        self._staging = dirty_files.staging
        self._journal = journal
        self._is_doubtful = is_doubtful
        self._synced = int(journal.fact("synced") or 0)
        """Bytes of entries up to this sequence are on disk."""
        self._keep_tail: set[Inode] = set()
        """Files with bytes beyond their end for which there was no space."""
        self.whole: dict[int, StagedFile] = {}
        """The files that `take_up_whole` has taken up, by number."""

    def take_up_whole(self, changes: list[Change]) -> list[Change]:
        """Take up the closed files that are on disk as their rows say. Returns the changes that need more."""
        trusted = self._synced if self._is_doubtful else math.inf
        closed: list[tuple[Change, StagedRecord]] = []
        others = []
        for change in changes:
            if change.unclosed is not None or change.state in _NOT_CLOSED or change.sequence > trusted:
                others.append(change)
            elif isinstance(change.content, Written):
                closed.append((change, change.content.staged))
        self.whole = whole = self._staging.adopt_whole(record for _, record in closed)
        self._dirty_files.park_files(whole)
        for change, record in closed:
            if (file := whole.get(record.number)) is None:
                others.append(change)
            else:
                file.is_on_disk = change.sequence <= self._synced
        return others

    def save_tail(self, change: Change) -> None:
        """Copy the bytes beyond the recorded end of a closed file to a file beside it, before they are cut off."""
        if change.staged is None or change.unclosed is not None or change.state in _NOT_CLOSED:
            return
        try:
            tail = self._staging.salvage(change.staged)
        except (StagingFull, OSError) as error:
            name = change.location.name if change.location is not None else self._store.path(change.inode)
            log.error(
                "%s is not sent before there is room to keep apart what a program was adding to it: %s",
                name,
                error,
            )
            self._keep_tail.add(change.inode)
            return
        if tail is not None:
            change.unclosed = tail
            self._journal.put(change)

    def mend(self, change: Change) -> None:
        """Take up the staged files of a change, and journal what is doubtful of them."""
        if change.state is ChangeState.OPEN and change.document is not None and change.unclosed is None:
            # Its new name must not wait until a person has looked at the bytes: another file may want the old name.
            change.leave_unclosed()
            change.step(Pending(change.reason))
        try:
            if change.staged is not None and change.state in _NOT_CLOSED:
                change.want_bytes(self._take_up_open(change.staged))
                self._tell_of_incomplete(change)
                self._be_incomplete(change)
            elif change.staged is not None:
                self._mend_closed(change, change.staged)
        except (StagedIncomplete, OSError) as error:
            self._lose(change, error)
        if change.unclosed is not None:
            self._mend_unclosed(change, change.unclosed)

    def _mend_closed(self, change: Change, staged: StagedRecord) -> None:
        """Take up the staged files of a change. Raises StagedIncomplete, OSError."""
        if change.inode in self._keep_tail:
            self._dirty_files.park_file(self._staging.adopt(staged, keeps_tail=True))
        else:
            self._dirty_files.adopt(staged)
        if self._is_doubtful and change.sequence > self._synced:
            self._tell_of_incomplete(change)
            self._be_incomplete(change)

    def _take_up_open(self, record: StagedRecord) -> StagedRecord:
        """Park a file that was being written, with the size that it has."""
        file = self._staging.adopt(record, is_open=True)
        self._dirty_files.park_file(file)
        return file.record()

    def _mend_unclosed(self, change: Change, unclosed: StagedRecord) -> None:
        """Keep the bytes of a document that was being written until everything else that is wanted of it is sent."""
        try:
            change.unclosed = self._take_up_open(unclosed)
        except (StagedIncomplete, OSError) as error:
            change.unclosed = None
            if unclosed.base is None and change.seen is not None and not change.has_bytes:
                # It has taken over a document whose bytes it never had: they must not show under its name.
                change.want_bytes(unclosed)
                self._lose(change, error)
                return
            log.error("What was being written of inode %d cannot be found: %s", change.inode, error)
        if change.unclosed is not None and _is_untouched(change.unclosed):
            self._dirty_files.drop_parked(change.unclosed)
            change.unclosed = None
        if change.unclosed is not None and (change.is_idle or change.is_bare):
            self._tell_of_incomplete(change)
            change.be_incomplete()
            self._be_incomplete(change)
        else:
            self._journal.put(change)

    def _tell_of_incomplete(self, change: Change) -> None:
        if self._is_doubtful:
            change.give_reason("the machine went down before it was on disk")
        elif change.state is not ChangeState.INCOMPLETE:
            log.warning(
                "Inode %d was being written when the daemon ended, and never closed: it is kept as incomplete.",
                change.inode,
            )

    def _be_incomplete(self, change: Change) -> None:
        change.drop_upload()
        change.step(Incomplete(change.reason))
        self._journal.put(change)

    def _lose(self, change: Change, error: Exception) -> None:
        log.error(
            "The bytes of inode %d (staged file %d) cannot be found: %s",
            change.inode,
            change.staged.number if change.staged else 0,
            error,
        )
        change.step(Failed(f"its staged bytes are not there: {error}", clocks.unix_s()))
        self._journal.put(change)


def _is_untouched(record: StagedRecord) -> bool:
    """Whether a program opened a version for writing and wrote nothing. Without a base version the file is a
    different one."""
    if record.base is None:
        return False
    begun = record.base.size_bytes
    return record.size_bytes == begun and sum(high - low for low, high in record.missing) == begun
