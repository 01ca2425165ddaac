"""Builds the parts that take changes and upload them, each after the parts that it needs."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from procorefs.cache.reader import ContentReader
from procorefs.config.options import MountOptions
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal, open_journal
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.api.uploads import Uploads
from procorefs.procore.wire.models import UserId
from procorefs.staging.staging_area import Staging
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode, Invalidation
from procorefs.tree.sync.account_rights import AccountRights
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.attempts import Attempts
from procorefs.upload.commands import Commands
from procorefs.upload.counters import Counters
from procorefs.upload.delete_guard import DeleteGuard
from procorefs.upload.failures import Failures
from procorefs.upload.item_states import ItemStates
from procorefs.upload.mount_access import MountAccess
from procorefs.upload.planning.blocking import Blocking, WaitCheck
from procorefs.upload.planning.due import DueTimes
from procorefs.upload.planning.queue import Queue
from procorefs.upload.planning.refused_content import RefusedContent
from procorefs.upload.planning.situation import Situations
from procorefs.upload.scheduler import CatchUp, FreeableSpace, Planning, Scheduler, Workers
from procorefs.upload.sending.after_refusal import AfterRefusal
from procorefs.upload.sending.apply_result import ResultApplier
from procorefs.upload.sending.byte_upload import ContentToSend, Uploader
from procorefs.upload.sending.documents import DocumentCalls, DocumentTags
from procorefs.upload.sending.file_calls import FileCalls
from procorefs.upload.sending.folder_calls import FolderCalls
from procorefs.upload.sending.name_conflicts import ChangedNames, NameConflicts
from procorefs.upload.sending.removal import DocumentRemover
from procorefs.upload.sending.sender import ChangeSender
from procorefs.upload.sending.unanswered import UnansweredCalls
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import ChangeStore
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.document_takeover import DocumentTakeover
from procorefs.vfs.local_work import LocalWork
from procorefs.vfs.namespace_edits import LocalEdits, NamespaceEdits
from procorefs.vfs.open_writers import OpenWriters
from procorefs.vfs.recovery.recovery import Recovery
from procorefs.vfs.refusals import WriteAccess
from procorefs.vfs.view import View
from procorefs.vfs.write_sessions import WriteSessions

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
STAGING = "staging"

GATHER_S = 0.05
"""The scheduler processes the changes of this period together; it is far shorter than the delay before an upload."""


@dataclass(slots=True)
class Base:
    """The parts that must exist before the first call: the tree as programs see it, and the changes that wait."""

    store: TreeStore
    journal: Journal
    staging: Staging
    calls: InFlightCalls
    dirty_files: DirtyFiles
    view: View
    durability: Durability
    queue: Queue
    changes: ChangeStore
    local: LocalWork
    applier: DocumentApplier
    fates: ChangeFate
    is_tree_behind: bool = False
    """Whether the tree may lack results of our own calls (recovery.py): nothing is sent before a poll."""

    def close(self) -> None:
        self.staging.close()
        self.journal.close()


@dataclass(slots=True)
class Writing:
    """The parts that a mount needs to take changes."""

    edits: LocalEdits
    durability: Durability
    open_writers: OpenWriters
    changed_names: ChangedNames
    states: ItemStates
    commands: Commands
    guard: DeleteGuard
    scheduler: Scheduler
    workers: Workers


def open_base(
    state_dir: Path,
    store: TreeStore,
    content: ContentReader,
    me: UserId,
    options: MountOptions,
    is_budget_closed: Callable[[], bool],
) -> Base:
    """Open journal and staging, and recover unsent changes. Raises JournalDamaged, OSError, sqlite3.Error."""
    queue = Queue(gather_s=min(GATHER_S, options.write_back_s))
    space = FreeableSpace(queue, is_budget_closed)
    with ExitStack() as undo:
        journal = open_journal(state_dir / JOURNAL)
        undo.callback(journal.close)
        staging = Staging(state_dir / STAGING, options.staging_size_bytes, content.open, space.outlook)
        undo.callback(staging.close)
        durability = Durability(staging, journal)
        calls = InFlightCalls(journal, durability.journaled, store.last_reserved)
        undo.pop_all()
    dirty_files = DirtyFiles(staging, durability)
    view = View(store, dirty_files, calls, encodes_names=options.invalid_names == "encode")
    changes = ChangeStore(store, view, dirty_files, journal, calls, durability, queue.touched)
    local = LocalWork(store, view, dirty_files, calls, changes)
    applier = DocumentApplier(store, local, me)
    fates = ChangeFate(view, dirty_files, keeps_junk=options.junk == "keep")
    base = Base(
        store, journal, staging, calls, dirty_files, view, durability, queue, changes, local, applier, fates
    )
    try:
        recovery = Recovery(store, applier.own, view, dirty_files, durability, journal, calls, fates)
        recovery.run()
        base.is_tree_behind = recovery.is_tree_behind
        for call in calls.open_calls():
            # While it was under way, its inode may have taken over another document.
            if call.is_creating and view.change(call.inode) is not None:
                changes.keep_unconfirmed(call.inode)
        journal.attributed.sweep(lambda inode: view.by_inode(inode) is not None)
    except BaseException:
        base.close()
        raise
    return base


def open_edits(base: Base, holder_of: Callable[[Inode], str | None], rights: AccountRights) -> LocalEdits:
    """The parts that make programs' changes. `holder_of`: the name of another user with a document checked out."""
    store, own, view, dirty_files, journal = (
        base.store,
        base.applier.own,
        base.view,
        base.dirty_files,
        base.journal,
    )
    calls, changes = base.calls, base.changes
    access = WriteAccess(view, holder_of, rights)
    takeover = DocumentTakeover(store, own, view, dirty_files, journal, calls, changes)
    return LocalEdits(
        changes,
        base.local,
        takeover,
        WriteSessions(view, dirty_files, journal, base.fates, base.durability, changes, access),
        NamespaceEdits(store, view, dirty_files, calls, base.fates, changes, takeover, access),
    )


def open_writing(
    base: Base,
    client: Client,
    content: ContentReader,
    me: UserId,
    options: MountOptions,
    access: MountAccess,
    *,
    tags: DocumentTags,
    holder_of: Callable[[Inode], str | None],
    rights: AccountRights,
    follower: Follower,
    invalidate: Callable[[Sequence[Invalidation]], None],
    refused: Callable[[str, str], None],
) -> Writing:
    """The parts that upload changes, on top of the base."""
    store, own, view, dirty_files = base.store, base.applier.own, base.view, base.dirty_files
    queue, calls, durability = base.queue, base.calls, base.durability
    edits = open_edits(base, holder_of, rights)
    uploader = Uploader(Uploads(client), edits.changes.save_if_current)
    changed_names = ChangedNames(view, invalidate, refused)
    results = ResultApplier(store, own, view, dirty_files, edits, calls, changed_names, invalidate)
    situations = Situations(store, view, dirty_files, calls, base.fates, RefusedContent())
    documents = DocumentCalls(
        store, own, calls, client, ProjectChanges(client), tags, follower.polled_since, durability.reached
    )
    versions = VersionMatcher(content, client, me)
    conflicts = NameConflicts(store, view, documents, changed_names)
    guard = DeleteGuard(
        store, view, dirty_files, calls, edits.changes, base.journal, limit=options.delete_guard
    )
    remover = DocumentRemover(store, view, documents, situations, versions, results, guard)
    sender, unanswered = _open_sender(
        base, edits, documents, situations, versions, uploader, conflicts, remover, results
    )
    attempts, counters = Attempts(), Counters(uploader)
    states = ItemStates(
        view, dirty_files, base.fates, calls, queue, attempts, counters, sends=lambda: access.sends
    )
    commands = Commands(view, dirty_files, edits, queue, attempts, counters, states, results)
    due = DueTimes(store, view, dirty_files, base.fates, queue, attempts, write_back_s=options.write_back_s)
    blocking = Blocking(view, dirty_files, base.fates, calls, queue, attempts, states)
    failures = Failures(view, edits, calls, attempts, states, blocking, results, refused)
    workers = Workers(view, calls, queue, attempts, states, sender, failures)
    check = WaitCheck(view, dirty_files, queue, counters, states, unanswered.forget_expired)
    planning = Planning(due, blocking, check, situations, guard)
    catch_up = CatchUp(store, follower, queue, is_behind=base.is_tree_behind)
    scheduler = Scheduler(view, edits, queue, attempts, states, planning, workers, catch_up)
    open_writers = OpenWriters(
        view,
        dirty_files,
        edits.sessions,
        is_sendable=lambda change: base.fates.fate_of(change) is Fate.SENT,
        send=commands.hurry_one,
    )
    return Writing(
        edits, durability, open_writers, changed_names, states, commands, guard, scheduler, workers
    )


def _open_sender(
    base: Base,
    edits: LocalEdits,
    documents: DocumentCalls,
    situations: Situations,
    versions: VersionMatcher,
    uploader: Uploader,
    conflicts: NameConflicts,
    remover: DocumentRemover,
    results: ResultApplier,
) -> tuple[ChangeSender, UnansweredCalls]:
    """The part that makes the calls of a change, and the part that confirms unanswered calls."""
    store, view = base.store, base.view
    content = ContentToSend(store, view, base.dirty_files, edits, results)
    refusals = AfterRefusal(store, view, documents, situations, conflicts, results)
    files = FileCalls(documents, situations, content, uploader, versions, refusals, results)
    folders = FolderCalls(documents, refusals, results)
    unanswered = UnansweredCalls(store, view, edits, documents, conflicts, versions, results)
    sender = ChangeSender(documents, situations, content, files, folders, remover, unanswered, results)
    return sender, unanswered
