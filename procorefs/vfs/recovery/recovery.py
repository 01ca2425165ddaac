"""Recovers the changes of the journal at the start, whatever ended the run before, and at whatever point.

| the daemon died …                         | found                                | mended                           |
|-------------------------------------------|--------------------------------------|----------------------------------|
| while a file was written, never flushed   | stage OPEN                           | INCOMPLETE: shown, never sent    |
| between the tree and the journal          | a document under another inode       | it is given the change's         |
| the same, just made                       | a document and the call that made it | it is the change's               |
| by a power cut, before the group commit   | a row beyond `synced`, another boot  | INCOMPLETE: it may hold zeros    |
| while a call was under way                | a call (in_flight_calls.py)          | what became of it is found out   |
| after a generation was superseded         | a staged file that no row names      | swept                            |
| and the tree was lost                     | a tree with another mark             | rows wait until it is listed     |
| and the tree is older                     | documents that it does not have      | the same                         |
| by a power cut: the tree may be older     | another boot                         | a look comes before all else     |
| and nobody knows a row's folder           | a folder without row, node and note  | it is shown, as failed           |
| and the journal is damaged                | rows that can still be read          | shown as INCOMPLETE              |
| and the journal is lost, or older         | staged files that no row names       | shown as INCOMPLETE              |
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from procorefs.journal.change import (
    Change,
    Incomplete,
    Location,
    Placed,
    Written,
)
from procorefs.journal.damaged_journal import salvage
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal
from procorefs.journal.states import ChangeState
from procorefs.procore.wire.models import Kind
from procorefs.staging.staging_area import StagedRecord
from procorefs.storage import clocks, processes
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import ROOT, Inode, State
from procorefs.tree.own_changes import OwnChanges
from procorefs.tree.tree_store import DEEPEST, TreeStore
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import is_unknown
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.local_work import lost_folder
from procorefs.vfs.recovery.staged_recovery import StagedRecovery
from procorefs.vfs.view import View

log = logging.getLogger(__name__)


class Recovery:
    """Brings tree, journal and staging to a consistent state; runs once, before any request is answered."""

    def __init__(
        self,
        store: TreeStore,
        own: OwnChanges,
        view: View,
        dirty_files: DirtyFiles,
        durability: Durability,
        journal: Journal,
        calls: InFlightCalls,
        fates: ChangeFate,
    ) -> None:
        self._store = store
        self._own = own
        self._view = view
        self._dirty_files = dirty_files
        self._staging = dirty_files.staging
        self._durability = durability
        self._journal = journal
        self._calls = calls
        self._fates = fates
        self.is_tree_behind = False
        """After `run`: whether the power was cut, so that the tree, which is never synced, may lack results that the
        journal no longer has."""
        self._folder_names: dict[Inode, str] = {}  # of a damaged journal

    def run(self) -> None:
        """Only what may be wrong is looked at one by one: a hundred thousand may wait, and no program is answered
        before the end."""
        self._salvage()
        changes = self._journal.load()
        boot = processes.boot_id()
        was_power_cut = self.is_tree_behind = self._journal.fact("boot") not in (None, boot)
        staged = StagedRecovery(self._store, self._dirty_files, self._journal, is_doubtful=was_power_cut)
        others = staged.take_up_whole(changes)
        self._staging.pass_over(max([*staged.whole, *_numbers(others)], default=0))
        self._meet_tree(changes)
        with (
            self._journal.transaction()
        ):  # in a transaction of its own: adopting a file cuts off the bytes that were copied
            for change in others:
                staged.save_tail(change)
        with self._store.transaction(), self._journal.transaction():
            for change in self._misplaced(changes):
                self._reconcile(change)
            for change in others:
                staged.mend(change)
            for change in changes:
                self._view.show(change)
        self._meet_calls(changes)
        self._drop_junk()
        for folder in sorted(self._lost_folders()):
            self._recover(folder)
        for change in self._useless(others, changes):
            self._drop(change)
        # Only after every doubtful row is marked: after a crash in between they must be doubted again.
        self._journal.remember("boot", boot)
        named = staged.whole.keys() | set(_numbers(others))
        if self._is_journal_behind():
            named |= self._recover_files(named)
        self._staging.sweep(named)
        self._durability.all_journaled(self._dirty_files.parked)

    def _salvage(self) -> None:
        """Take over the rows of a damaged journal that can still be read."""
        if not self._journal.damaged:
            return
        salvaged = salvage(self._journal.damaged, set(self._staging.with_bytes()))
        self._folder_names = salvaged.folders
        with self._journal.transaction():
            for change in salvaged.files:
                self._journal.put(change)

    def _is_journal_behind(self) -> bool:
        """Whether there may be closed files that no row names: the journal lacks rows, or is an older one."""
        return (
            self._journal.is_new
            or self._journal.unreadable > 0
            or self._staging.noted_sequence > int(self._journal.fact("synced") or 0)
        )

    def _recover_files(self, named: Collection[int]) -> set[int]:
        """Show staged files whose rows are lost, under their numbers. They are not sent automatically."""
        numbers = [number for number in self._staging.with_bytes() if number not in named]
        if not numbers:
            return set()
        now_s = clocks.unix_s()
        with self._store.transaction():
            folder = self._store.reserve(1 + len(numbers))
        why = "the journal with the names of these files is lost"
        made = lost_folder(folder, f"files {time.strftime('%Y-%m-%d %H.%M.%S')}", why)
        changes = [made]
        for position, number in enumerate(numbers, 1):
            record = StagedRecord(number, self._staging.size_bytes(number), None, ())
            self._dirty_files.park_file(self._staging.adopt(record))
            changes.append(
                Change(
                    Inode(folder + position),
                    Kind.FILE,
                    Placed(Location(folder, f"{number}")),
                    content=Written(record),
                    progress=Incomplete(why),
                    created_at_s=now_s,
                    touched_at_s=now_s,
                )
            )
        with self._journal.transaction():
            for change in changes:
                self._journal.put(change)
                self._view.show(change)
        log.error(
            "The journal of what was written is lost, or older than the staged files: %d files that had not reached "
            "Procore are shown in %s.",
            len(numbers),
            self._view.path(folder),
        )
        return set(numbers)

    def _meet_calls(self, changes: list[Change]) -> None:
        """Give each call that was under way a change that finds out its outcome, or forget it if nothing depends on
        it."""
        for call in self._calls.open_calls():
            is_over = call.is_late and not self._calls.left_s(call)
            change = self._view.change(call.inode)
            is_applied = call.made is not None and (change is None or change.document == call.made)
            is_met = change is not None and (call.makes or call.belongs_to(change)) and not is_applied
            if is_met or (call.is_late and not is_over):
                continue
            known = self._store.known(call.document) if call.document is not None else None
            if known is not None and self._view.change(known.node.inode) is not None:
                self._calls.hand_over(call, known.node.inode)
            else:
                self._calls.forget(call)  # nothing is wanted of it: the next poll shows what it did
        for change in [change for change in changes if change.upload is not None]:
            if change.used_upload is not None and not self._calls.has(change.inode, change.document):
                self._calls.suppose(change)

    def _meet_tree(self, changes: list[Change]) -> None:
        """Check whether the tree is the one that the journal knows; in another tree, inode numbers mean other
        documents."""
        mark = self._store.fact("mark")
        with self._store.transaction():
            if mark is None:
                mark = secrets.token_hex(8)
                self._store.remember("mark", mark)
            # The tree is not synced with the journal: after a power cut it may be older.
            calls = self._calls.open_calls()
            named = {change.location.folder for change in changes if change.location is not None}
            named |= {call.place.folder for call in calls if call.place is not None}
            of_calls = {inode for call in calls for inode in (call.inode, call.last_inode)}
            self._store.reserve_beyond(max({ROOT, *named, *of_calls, self._journal.last_inode()}))
            if self._journal.fact("tree") not in (None, mark):
                log.log(
                    logging.WARNING if changes else logging.INFO,
                    "The tree is not the one that the journal knows: %d changes wait until it is listed.",
                    len(changes),
                )
                named |= self._journal.folders().keys()
            self._expect(changes, named)
        self._journal.remember("tree", mark)
        if not self._journal.unreadable:  # an unreadable row may name any of them
            self._journal.keep_folders(named)

    def _expect(self, changes: list[Change], named: Collection[Inode]) -> None:
        """Reserve each inode that the journal names for its document, until the tree has listed it."""
        wanted = {change.document: change.inode for change in changes if change.document is not None}
        for inode, document in self._journal.folders().items():
            if inode in named:
                wanted.setdefault(document, inode)
        there = self._store.documents_at(wanted.values())
        for document, inode in wanted.items():
            if inode == ROOT or there.get(inode) == document:
                continue
            if self._store.known(document) is not None:
                self._own.claim(document, inode)
            else:
                other = self._store.by_inode(inode)
                if other is not None:
                    self._store.move_row(inode, self._store.reserve(1))
                self._store.expect(document, inode)

    def _misplaced(self, changes: list[Change]) -> list[Change]:
        """The changes whose document the tree does not have at their inode, and those without a document at whose
        inode the tree has one.

        Mending one of them moves no row of another one: their inodes differ, and so do their documents.
        """
        there = self._store.documents_at([change.inode for change in changes])
        misplaced = [change for change in changes if change.document is None and change.inode in there]
        with_document = [change for change in changes if change.document is not None]
        count = Counter(change.document for change in with_document)
        misplaced += [
            change
            for change in with_document
            if there.get(change.inode) != change.document or count[change.document] > 1
        ]
        return sorted(misplaced, key=lambda change: change.inode)

    def _reconcile(self, change: Change) -> None:
        """Give the document the change's inode, and no other document that inode."""
        if change.document is None:
            self._recognise(change)
        if change.document is not None:
            self._own.claim(change.document, change.inode)
        elif self._store.by_inode(change.inode) is not None:
            self._store.move_row(change.inode, self._store.reserve(1))

    def _recognise(self, change: Change) -> None:
        """Give the change the document that the tree, but not the journal, has from the call that made it.

        After a power cut the tree may be older, with the inode's earlier document: the call is then confirmed.
        """
        makers = [call for call in self._calls.given_up(change.inode, None) if call.is_creating]
        if self.is_tree_behind or not makers:
            return
        node = self._store.by_inode(change.inode)
        if node is not None and node.document_id is not None and node.in_tree:
            self._calls.was_made(makers[0], node.document_id)
            change.document = node.document_id
            self._journal.put(change)

    def _lost_folders(self) -> set[Inode]:
        """Folders that rows name, and whose path neither the journal nor the tree knows."""
        return {folder for folder in self._view.filled_folders() if self._is_lost(folder)}

    def _is_lost(self, folder: Inode) -> bool:
        at = folder
        for _ in range(DEEPEST):
            if at == ROOT:
                return False
            change = self._view.change(at)
            if change is not None and not change.is_following:
                if change.location is None:
                    return False  # it was removed here, together with its entries
                at = change.location.folder
                continue
            node = self._store.by_inode(at)
            if node is None:
                return True
            if node.state is State.EXPECTED:
                return False  # it shows as soon as it is listed
            if not node.in_tree or node.parent is None:
                return True
            at = node.parent
        return True

    def _recover(self, folder: Inode) -> None:
        """Show a lost folder and what waits in it. It is sent only after `retry`."""
        if not self._is_lost(folder):
            return  # its own folder is lost
        change = lost_folder(folder, self._folder_names.get(folder, ""))
        before = self._view.change(folder)
        if before is not None:
            self._view.hide(before)
        if self._store.by_inode(folder) is not None:
            with self._store.transaction():
                self._store.move_row(folder, self._store.reserve(1))
        self._view.show(change)
        self._journal.put(change)
        log.error(
            "The folder of some unsent changes is unknown: they are shown in %s; move them to where they belong.",
            self._view.path(folder),
        )

    def _drop(self, change: Change) -> None:
        self._view.hide(change)
        self._journal.drop(change.inode)
        for record in change.records:
            self._dirty_files.drop_parked(record)

    def _useless(self, others: list[Change], changes: list[Change]) -> list[Change]:
        """The changes that want nothing. `others`: those that were not closed, among them."""
        removed = [change for change in changes if change.is_removed]
        nowhere = [change for change in removed if is_unknown(change) and not self._calls.makes(change.inode)]
        # It was only open, and Procore removed it meanwhile.
        only_open = [change for change in others if change.state is ChangeState.OPEN and change.is_bare]
        return [change for change in nowhere + only_open if self._view.change(change.inode) is change]

    def _drop_junk(self) -> None:
        """Drop junk, which lives as long as the mount, and no change that an earlier run was to send or file with
        its own content."""
        dropped = 0
        for change in self._view.changes():
            was_junk, change.is_junk = change.is_junk, self._fates.is_junk(change)
            if was_junk and change.is_junk:
                self._drop(change)
                dropped += 1
            elif was_junk != change.is_junk:
                self._journal.put(change)
        if dropped:
            log.info("Removed %d files of the last mount that programs kept for themselves.", dropped)
            self._drop_empty_folders()

    def _drop_empty_folders(self) -> None:
        """Drop folders that held nothing else, the innermost first."""
        folders = [change for change in self._view.changes() if change.is_folder]
        local = [change for change in folders if self._fates.fate_of(change) is Fate.LOCAL]
        for change in sorted(local, key=lambda change: -len(self._view.place(change.inode) or ())):
            if self._view.is_empty(change.inode):
                self._drop(change)


def _numbers(changes: Iterable[Change]) -> Iterator[int]:
    """The numbers of all staged files that the changes name."""
    for change in changes:
        for record in change.records:
            yield record.number
