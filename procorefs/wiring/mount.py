"""Builds all parts of one mount, each after the parts that it needs; daemon.py runs them.

reading (content, tree, follower) ─▶ locks ─▶ writing (edits, outbox) ─▶ attributes ─▶ kernel handlers
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.cache.reader import ContentReader
from procorefs.cache.sibling_read_ahead import Order, Position, SiblingReadAhead
from procorefs.config import ResolvedMount
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.limiter import Priority
from procorefs.locks.check_out_journal import CheckOutJournal
from procorefs.locks.lock_files import LockFiles
from procorefs.procore.api.brief_wait import BriefWait
from procorefs.procore.api.client import Client
from procorefs.procore.api.downloads import Downloads
from procorefs.procore.wire.models import DocumentId, UserId, Version
from procorefs.project import Content, LocalChanges, Project, ProjectLocks, Projects
from procorefs.service.display_names import DisplayNames
from procorefs.service.log_detail import LogDetail
from procorefs.service.running_settings import RunningSettings
from procorefs.service.status import MountStatus, as_file
from procorefs.service.status_report import Reporter
from procorefs.storage.events import EventSource
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.nodes import Inode, Invalidation, Node
from procorefs.tree.recent_changes import RecentChanges
from procorefs.tree.sync.account_rights import AccountRights
from procorefs.tree.sync.follower import Follower
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.mount_access import MountAccess
from procorefs.versions.procore_inodes import FIRST_PROCORE_INODE
from procorefs.versions.version_lists import VersionLists
from procorefs.versions.version_tree import VersionTree
from procorefs.vfs.view import View
from procorefs.wiring.changes import Base, Writing, open_base, open_writing
from procorefs.wiring.kernel import KernelSide, StatusFile, open_kernel_side
from procorefs.wiring.locks import JOURNAL as LOCKS
from procorefs.wiring.locks import Locking, open_claims, open_locks
from procorefs.wiring.xattrs import MetadataCaches, open_attributes, open_metadata_caches
from procorefs.xattr.attributes import Attributes

Running = Callable[..., Awaitable[None]]
"""The `run` of a part; it runs until it is cancelled."""


@dataclass(frozen=True, slots=True)
class DaemonHooks:
    """What the daemon provides to the parts."""

    invalidate: Callable[[Sequence[Invalidation]], None]
    notifier: Notifier
    refusals: RefusedCalls
    status: Callable[[Reporter], MountStatus]


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that the daemon uses."""

    follower: Follower
    rights: AccountRights
    display_names: DisplayNames
    writing: Writing
    locking: Locking
    project: Project
    kernel: KernelSide
    reporter: Reporter
    running: tuple[Running, ...]
    """The `run` of every part except the scheduler, which a read-only mount does not run."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """The parts that a mount needs to read."""

    content: ContentReader
    siblings: SiblingReadAhead
    base: Base
    metadata: MetadataCaches
    rights: AccountRights
    follower: Follower
    documents_changed: EventSource[Collection[DocumentId]]
    """Emits documents that an answer shows as new, changed or removed."""

    @property
    def running(self) -> tuple[Running, ...]:
        """The `run` of each part."""
        return (
            self.content.run,
            self.siblings.run,
            self.follower.run,
            self.rights.run,
            self.metadata.run,
        )


@dataclass(slots=True)
class Assembly:
    """Builds the parts of one mount; call `build` once. The exit stack closes them."""

    _mount: ResolvedMount
    _client: Client
    _store: TreeStore
    _cache: ChunkCache
    _state_dir: Path
    _me: UserId
    _hooks: DaemonHooks
    _access: MountAccess
    _log_detail: LogDetail

    def build(self, stack: ExitStack) -> Parts:
        """Raises Failure, OSError, sqlite3.Error."""
        brief = BriefWait(
            partial(self._client.limiter.would_wait, Priority.INTERACTIVE), self._client.connectivity
        )
        reading = self._reading(stack)
        locking, writing = self._changing(stack, reading)
        xattrs = open_attributes(
            reading.base.view,
            writing.edits.entries,
            reading.metadata,
            self._client,
            reading.base.journal.attributed,
            state_of=writing.states.of_file,
            written=lambda _inode: reading.base.durability.journaled(None),
            brief=brief,
        )
        display_names = DisplayNames(self._client, self._store)
        reporter = Reporter(
            self._mount,
            self._client,
            display_names,
            reading.follower,
            self._cache,
            self._hooks.refusals,
            reading.rights,
            RunningSettings(reading.follower, self._cache, writing.guard, self._log_detail, self._access),
            self._recent_changes(reading),
            writing.commands,
            writing.guard,
        )
        version_lists = VersionLists(reading.base.view, self._client)
        project = self._project(reading, writing, locking, xattrs, version_lists, brief)
        kernel = open_kernel_side(
            Projects(project),
            self._mount.options,
            self._access,
            self._hooks.notifier,
            self._hooks.refusals,
            StatusFile(lambda: as_file(self._hooks.status(reporter)), reporter.update),
            reading.rights,
        )
        return Parts(
            reading.follower,
            reading.rights,
            display_names,
            writing,
            locking,
            project,
            kernel,
            reporter,
            (
                *reading.running,
                version_lists.run,
                *_running_of_changes(reading, writing),
                locking.check_outs.run,
                kernel.flocks.run,
            ),
        )

    def _reading(self, stack: ExitStack) -> _Reading:
        options = self._mount.options
        content = ContentReader(self._cache, Downloads(self._client))
        siblings = SiblingReadAhead(content, partial(_next_files, self._store))
        limiter = self._client.limiter
        base = open_base(
            self._state_dir,
            self._store,
            content,
            self._me,
            options,
            lambda: limiter.would_wait(Priority.WRITING),
        )
        stack.callback(base.close)
        rights = AccountRights(self._store, self._client.rights, self._client.permissions)
        documents_changed = EventSource[Collection[DocumentId]]()
        follower = Follower(
            self._store,
            base.applier,
            self._client,
            self._client.limiter,
            self._hooks.invalidate,
            freshness_s=options.freshness_s,
            changed=documents_changed.emit,
        )
        metadata = open_metadata_caches(self._store, self._client, lambda: follower.freshness_s)
        documents_changed.subscribe(metadata.tags.doubt)
        return _Reading(content, siblings, base, metadata, rights, follower, documents_changed)

    def _changing(self, stack: ExitStack, reading: _Reading) -> tuple[Locking, Writing]:
        """Build locks and uploads: uploads need the check-outs of other users, a check-in waits for unsent bytes."""
        base, access = reading.base, self._access
        lock_journal = CheckOutJournal.open(self._state_dir / LOCKS)
        stack.callback(lock_journal.close)
        claims = open_claims(
            lock_journal,
            self._store,
            base.applier,
            self._client,
            self._me,
            node_of=partial(_node_of, base.view),
            invalidate=self._hooks.invalidate,
        )
        writing = open_writing(
            base,
            self._client,
            reading.content,
            self._me,
            self._mount.options,
            access,
            tags=reading.metadata.tags,
            holder_of=claims.holder_name,
            rights=reading.rights,
            follower=reading.follower,
            invalidate=self._hooks.invalidate,
            refused=self._hooks.refusals.add,
        )
        locking = open_locks(
            claims,
            base.queue.changed,
            reading.documents_changed,
            may_check_out=lambda: not access.is_read_only and reading.rights.current.write is not False,
            sends=lambda: access.sends and reading.rights.current.write is not False,
            is_unsent=writing.states.sends_bytes,
        )
        return locking, writing

    def _recent_changes(self, reading: _Reading) -> RecentChanges:
        recent = RecentChanges(
            self._store, self._me, reading.base.view.path_in_procore, lambda: reading.follower.complete
        )
        reading.documents_changed.subscribe(recent.changed)
        return recent

    def _project(
        self,
        reading: _Reading,
        writing: Writing,
        locking: Locking,
        xattrs: Attributes,
        version_lists: VersionLists,
        brief: BriefWait,
    ) -> Project:
        view, office = reading.base.view, locking.office if self._mount.options.office_locks else None
        lock_files = LockFiles(view, locking.polls, office, brief)
        reading.documents_changed.subscribe(lock_files.documents_changed)
        return Project(
            view,
            reading.follower,
            Content(reading.content, reading.siblings),
            LocalChanges(reading.base.dirty_files, writing.edits, writing.durability, writing.commands),
            ProjectLocks(locking.locks, lock_files),
            xattrs,
            VersionTree(view, reading.follower, version_lists),
            brief,
        )


def _running_of_changes(reading: _Reading, writing: Writing) -> tuple[Running, ...]:
    return (
        writing.durability.run,
        partial(reading.base.view.folder_times.run, writing.edits.changes.keep_folder_times),
        writing.open_writers.run,
        writing.changed_names.run,
    )


def _node_of(view: View, inode: Inode) -> Node | None:
    """The node of an inode that can be checked out; locks on files below `.procore` stay on this machine."""
    return view.by_inode(inode) if inode < FIRST_PROCORE_INODE else None


def _next_files(
    store: TreeStore, position: Position, order: Order, limit: int
) -> list[tuple[Position, Version]]:
    """The files that come next in a folder, for read-ahead."""
    folder = Inode(position.folder)
    if order is Order.NAMED:
        nodes = store.files_after_name(folder, position.name, limit)
    else:
        nodes = store.files_after_inode(folder, Inode(position.inode), limit)
    return [
        (Position(folder, node.inode, node.shown), node.version) for node in nodes if node.version is not None
    ]
