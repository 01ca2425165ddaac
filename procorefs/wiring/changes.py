"""Builds the outbox's rooms in the order in which they know each other."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from procorefs.cache.reader import ContentReader
from procorefs.config.options import MountOptions
from procorefs.journal.durability import Durability
from procorefs.journal.in_flight_calls import InFlightCalls
from procorefs.journal.journal import Journal, open_journal
from procorefs.limiter import Priority
from procorefs.procore.api.changes import ProjectChanges
from procorefs.procore.api.client import Client
from procorefs.procore.api.uploads import Uploads
from procorefs.procore.wire.models import UserId
from procorefs.staging.staging_area import Staging
from procorefs.tree.apply import DocumentApplier
from procorefs.tree.naming.name_fate import Fate
from procorefs.tree.nodes import Inode, Invalidation
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.counters import Counters
from procorefs.upload.poll_now import PolledSince
from procorefs.upload.queue import Queue
from procorefs.upload.scheduler import Scheduler
from procorefs.upload.sending.apply_result import DocumentTags, ResultApplier
from procorefs.upload.sending.byte_upload import Uploader
from procorefs.upload.sending.placement import SendingContext
from procorefs.upload.sending.removal import DocumentRemover
from procorefs.upload.sending.sender import ChangeSender
from procorefs.upload.sending.unanswered import UnansweredCalls
from procorefs.upload.sending.version_match import VersionMatcher
from procorefs.vfs.change_fate import ChangeFate
from procorefs.vfs.change_store import Neighbours
from procorefs.vfs.dirty_files import DirtyFiles
from procorefs.vfs.local_work import LocalWork
from procorefs.vfs.namespace_edits import NamespaceEdits
from procorefs.vfs.open_writers import OpenWriters
from procorefs.vfs.recovery import Recovery
from procorefs.vfs.view import View

log = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
STAGING = "staging"

GATHER_S = 0.05
"""What programs change is looked at together after this time: far less than it waits for its way to Procore."""


@dataclass(slots=True)
class Base:
    """What must be there before Procore is asked for anything: the tree as programs see it, and what waits."""

    store: TreeStore
    journal: Journal
    staging: Staging
    calls: InFlightCalls
    drafts: DirtyFiles
    view: View
    local: LocalWork
    applier: DocumentApplier
    naming: ChangeFate
    is_tree_behind: bool = False
    """Whether the tree may lack what our own calls did (recovery.py): nothing is sent before a look."""

    def close(self) -> None:
        self.staging.close()
        self.journal.close()


@dataclass(slots=True)
class Writing:
    """What a mount needs to take changes."""

    edits: NamespaceEdits
    outbox: Scheduler
    durability: Durability
    settling: ResultApplier
    open_writers: OpenWriters


def open_base(state_dir: Path, store: TreeStore, content: ContentReader, options: MountOptions) -> Base:
    """Open journal and staging, and take up what waits. Raises JournalDamaged, OSError, sqlite3.Error."""
    journal = open_journal(state_dir / JOURNAL)
    try:
        staging = Staging(state_dir / STAGING, options.staging_size_bytes, content.open)
    except BaseException:
        journal.close()
        raise
    drafts = DirtyFiles(staging)
    calls = InFlightCalls(journal, store.last_reserved)
    view = View(store, drafts, calls, encodes_names=options.invalid_names == "encode")
    local = LocalWork(view, drafts)
    applier = DocumentApplier(store, local)
    naming = ChangeFate(view, drafts, keeps_junk=options.junk == "keep")
    base = Base(store, journal, staging, calls, drafts, view, local, applier, naming)
    try:
        recovery = Recovery(store, applier.own, view, drafts, staging, journal, calls, naming)
        recovery.run()
        base.is_tree_behind = recovery.is_tree_behind
        journal.attributed.sweep(lambda inode: view.by_inode(inode) is not None)
    except BaseException:
        base.close()
        raise
    return base


def open_writing(
    base: Base,
    client: Client,
    content: ContentReader,
    me: UserId,
    options: MountOptions,
    *,
    tags: DocumentTags,
    holder_of: Callable[[Inode], str | None],
    is_listed: Callable[[], bool],
    polled_since: PolledSince,
    invalidate: Callable[[Sequence[Invalidation]], None],
    refused: Callable[[str, str], None],
) -> Writing:
    """The rooms that change things, on top of the base."""
    store, own, view, drafts = base.store, base.applier.own, base.view, base.drafts
    queue, calls = Queue(gather_s=min(GATHER_S, options.write_back_s)), base.calls
    edits = NamespaceEdits(
        store,
        own,
        view,
        drafts,
        base.journal,
        base.naming,
        Neighbours(calls, touched=queue.touched, holder_of=holder_of),
    )
    durability = Durability(base.staging, drafts, base.journal, lambda: edits.sequence)
    edits.journaled = durability.journaled
    base.local.pin, base.local.succeeded, base.local.note = edits.pin, edits.succeed, edits.note
    own.me = me
    changes = ProjectChanges(client)
    uploader = Uploader(Uploads(client), edits.note)
    settling = ResultApplier(store, own, view, drafts, edits, calls, tags, invalidate)
    verifier = VersionMatcher(content, client, me)
    carrier = ChangeSender(
        SendingContext(store, own, view, drafts, edits, client, changes),
        uploader,
        settling,
        verifier,
        DocumentRemover(
            store,
            own,
            view,
            client,
            changes,
            settling,
            calls,
            polled_since,
            verifier,
            durability.reached,
        ),
        UnansweredCalls(
            store, own, view, edits, calls, client, changes, settling, verifier, polled_since, me
        ),
        calls,
    )
    outbox = Scheduler(
        store=store,
        view=view,
        drafts=drafts,
        edits=edits,
        naming=base.naming,
        queue=queue,
        calls=calls,
        carrier=carrier,
        settling=settling,
        tally=Counters(uploader),
        write_back_s=options.write_back_s,
        sends=not options.ro,
        is_listed=is_listed,
        polled_since=polled_since,
        is_tree_behind=base.is_tree_behind,
        is_budget_closed=lambda: client.limiter.would_wait(Priority.WRITING),
        refused=refused,
    )
    open_writers = OpenWriters(
        view,
        drafts,
        edits,
        is_sendable=lambda change: outbox.fate(change) is Fate.SENT,
        send=outbox.hurry_one,
    )
    return Writing(edits, outbox, durability, settling, open_writers)
