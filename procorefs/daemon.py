"""Builds the parts of one mount, runs them in one nursery and takes them down from the outside in.

signals, stop, unmounting from outside ─▶ the session ends ─▶ follower, content, notifier are cancelled ─▶ stores close
"""

import logging
import os
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import trio

from procorefs import control
from procorefs.answers import Answers
from procorefs.config import ResolvedMount, private_dir
from procorefs.config.failure import Failure
from procorefs.content.cache import ChunkCache
from procorefs.content.reader import ContentReader
from procorefs.content.siblings import Order, Position, SiblingReadAhead
from procorefs.identity import who_am_i
from procorefs.kernel.attributes import Ownership
from procorefs.kernel.bridge import Bridge
from procorefs.kernel.changing import ChangingOperations, Manners
from procorefs.kernel.flocks import Flocks
from procorefs.kernel.handles import OpenFiles
from procorefs.kernel.lockfiles import LockFiles
from procorefs.kernel.names import Names
from procorefs.kernel.notify import Notifier
from procorefs.kernel.operations import Operations, Rooms
from procorefs.kernel.refusals import Refusals
from procorefs.kernel.session import MountRefused, Session
from procorefs.kernel.virtual import Virtual
from procorefs.limiter import LOCAL, budget_key, open_limiter
from procorefs.locks.opening import Locking, open_locks
from procorefs.metadata.attributes import Attributes
from procorefs.metadata.opening import open_attributes, open_knowledge
from procorefs.outbox.opening import Base, Writing, open_base, open_writing
from procorefs.outbox.view import View
from procorefs.ownership import owned
from procorefs.procore.client import Client, open_client
from procorefs.procore.downloads import Downloads
from procorefs.procore.errors import ProcoreError
from procorefs.procore.models import UserId, Version
from procorefs.procore.settings import ApiSettings
from procorefs.report import Reporter
from procorefs.status import MountStatus, as_file
from procorefs.titles import Titles
from procorefs.tree.follow import Follower
from procorefs.tree.nodes import EntryGone, Forget, Inode, InodeChanged, ListingChanged, Node
from procorefs.tree.store import TreeStore
from procorefs.versions.below import Below
from procorefs.versions.histories import Histories
from procorefs.versions.numbers import FIRST_VIRTUAL

log = logging.getLogger(__name__)

_TREE = "tree.sqlite"
_CHUNKS = "chunks"

_UNSENT = ("pending", "uploading")
"""States of a file whose bytes will be sent without anybody's help: a check-in waits for them."""

LAST_CALLS_S = 6.0
"""How long calls under way may take to end; what is cut off is looked into at the next mount."""

LAST_SYNC_S = 3.0
"""How long bringing the last changes to disk may take at the end."""


class MountFailed(Failure):
    """The mount could not begin."""


def run_daemon(mount: ResolvedMount, *, ready: Callable[[], None]) -> None:
    """Serve the mount until it is unmounted or told to stop; `ready` is called once it answers.

    Blocks. Raises Failure, a sentence for a person, when the mount can't begin.
    """
    try:
        trio.run(_Daemon(mount, ready).run)
    except* (ProcoreError, MountRefused, OSError, sqlite3.Error) as group:
        raise MountFailed(_sentence(group)) from group
    except* Failure as group:
        raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _sentence(group: BaseExceptionGroup[BaseException]) -> str:
    error = _first(group)
    if isinstance(error, sqlite3.Error):
        return f"The tree of the project can't be used ({error}): is the disk of the state directory full?"
    return str(error)


class _Daemon:
    """One mount from its first call to its last."""

    def __init__(self, mount: ResolvedMount, ready: Callable[[], None]) -> None:
        self._mount = mount
        self._ready = ready
        self._notifier = Notifier()
        self._refusals = Refusals()
        self._stop = trio.Event()
        self._operations: Operations | None = None  # while there is a session that can be told anything

    async def run(self) -> None:
        mount = self._mount
        with ExitStack() as stack:
            key = budget_key(mount.api.api_url, mount.api.client_id)
            async with (
                open_limiter(mount.api.budget_dir, key, mount.options.limiter) as limiter,
                open_client(_shared(mount), limiter=limiter) as client,
            ):
                me = await who_am_i(client, mount.api, private_dir(mount.paths.state_dir))
                state_dir = private_dir(mount.state_dir(me.id))
                stack.enter_context(owned(state_dir, mount.mountpoint))
                store = TreeStore.open(state_dir / _TREE)
                stack.callback(store.close)
                cache = ChunkCache(
                    private_dir(mount.cache_dir(me.id)) / _CHUNKS, mount.options.cache_size_bytes
                )
                await self._serve(client, store, cache, state_dir, me.id)

    async def _serve(
        self, client: Client, store: TreeStore, cache: ChunkCache, state_dir: Path, me: UserId
    ) -> None:
        options = self._mount.options
        content = ContentReader(cache, Downloads(client))
        siblings = SiblingReadAhead(content, partial(_following, store))
        with ExitStack() as stack:
            base = open_base(state_dir, store, content, options)
            stack.callback(base.close)
            knowledge = open_knowledge(store, client, freshness_s=options.freshness_s)
            follower = Follower(
                store,
                base.absorber,
                client,
                client.limiter,
                self._forget,
                freshness_s=options.freshness_s,
                changed=knowledge.tags.doubt,
            )
            titles = Titles(client, store)
            if not follower.complete:
                await titles.learn()
                await follower.list_root()
            locking = open_locks(
                state_dir,
                store,
                base.absorber,
                client,
                me,
                changes=not options.ro,
                node_of=partial(_node_of, base.view),
                is_unsent=lambda inode: writing.outbox.state_of(inode)[0] in _UNSENT,
                forget=self._forget,
            )
            stack.callback(locking.close)
            writing = open_writing(
                base,
                client,
                content,
                me,
                options,
                tags=knowledge.tags,
                holder_of=locking.locks.holder_name,
                is_listed=lambda: follower.complete,
                looked_since=follower.looked_since,
                forget=self._forget,
                refused=self._refusals.add,
            )
            xattrs = open_attributes(
                base.view,
                writing.edits,
                knowledge,
                client,
                base.journal.attributed,
                state_of=writing.outbox.state_of,
                written=lambda inode: writing.durability.journaled(inode, None),
            )
            reporter = Reporter(self._mount, client, titles, follower, cache, self._refusals, writing.outbox)
            histories = Histories(base.view, client)
            names = Names(encodes=options.invalid_names == "encode")
            virtual = Virtual(
                Below(base.view, follower, histories),
                content,
                lambda: as_file(self._status(reporter)),
                names,
                _ownership(self._mount),
            )
            files = OpenFiles(content, siblings, base.drafts)
            operations = self._operations_of(base, writing, locking, follower, files, xattrs, names, virtual)
            flocks = Flocks(locking.locks, operations.errno_of_flock)
            async with trio.open_nursery() as rooms:
                await rooms.start(self._notifier.run)
                await rooms.start(content.run)
                await rooms.start(siblings.run)
                await rooms.start(follower.run)
                await rooms.start(knowledge.run)
                await rooms.start(histories.run)
                await rooms.start(writing.durability.run)
                await rooms.start(locking.check_outs.run)
                await rooms.start(flocks.run)
                rooms.start_soon(titles.complete, follower.listed)
                if not options.ro:
                    await rooms.start(writing.outbox.run)
                with Session(operations, flocks, self._mount.mountpoint, self._mount.fuse_words) as session:
                    self._operations = operations
                    try:
                        await self._answer(session, reporter)
                    finally:
                        self._operations = None
                with trio.CancelScope(shield=True), trio.move_on_after(LAST_CALLS_S):
                    await writing.outbox.finish()
                rooms.cancel_scope.cancel()
            with trio.CancelScope(shield=True), trio.move_on_after(LAST_SYNC_S):
                await writing.durability.flush()

    def _operations_of(
        self,
        base: Base,
        writing: Writing,
        locking: Locking,
        follower: Follower,
        files: OpenFiles,
        xattrs: Attributes,
        names: Names,
        virtual: Virtual,
    ) -> Operations:
        options = self._mount.options
        rooms = Rooms(
            bridge=Bridge(),
            view=base.view,
            drafts=base.drafts,
            names=names,
            follower=follower,
            files=files,
            xattrs=xattrs,
            lock_files=LockFiles(
                base.view, locking.check_outs, locking.office if options.office_locks else None
            ),
            notifier=self._notifier,
            ownership=_ownership(self._mount),
            refusals=self._refusals,
            virtual=virtual,
            thumbnails=options.thumbnails,
        )
        if options.ro:
            return Operations(rooms)
        return ChangingOperations(
            rooms,
            edits=writing.edits,
            outbox=writing.outbox,
            durability=writing.durability,
            manners=Manners(
                is_through=options.write_mode == "through", syncs_remotely=options.fsync == "remote"
            ),
        )

    async def _answer(self, session: Session, reporter: Reporter) -> None:
        """The outermost part: while it runs there are requests; whatever ends it ends the mount."""
        async with trio.open_nursery() as outside:
            answers = Answers(
                status=lambda: self._status(reporter),
                stop=self._stop.set,
                outbox=reporter.outbox,
            )
            await outside.start(partial(control.serve, self._mount.control_socket, answers))
            await outside.start(self._stop_on_signal)
            outside.start_soon(self._end_when_told, outside.cancel_scope)
            await outside.start(session.run)
            await trio.to_thread.run_sync(os.statvfs, self._mount.mountpoint, abandon_on_cancel=True)
            session.answered()
            log.info("%s is mounted at %s.", self._mount.source, self._mount.mountpoint)
            self._ready()
            await session.ended()
            self._stop.set()
        log.info("%s is not mounted any more.", self._mount.mountpoint)

    def _status(self, reporter: Reporter) -> MountStatus:
        return reporter.status(closing=self._stop.is_set())

    async def _end_when_told(self, outside: trio.CancelScope) -> None:
        await self._stop.wait()
        outside.cancel()

    async def _stop_on_signal(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                log.info("Ending on %s.", signal.Signals(number).name)
                self._stop.set()

    def _forget(self, changes: Sequence[Forget]) -> None:
        """Hand on what the kernel must forget; returns at once, the notifier's threads do what may have to wait."""
        if self._operations is None:
            return
        for change in changes:
            match change:
                case EntryGone(folder, name):
                    self._notifier.entry(folder, name)
                case ListingChanged(folder):
                    self._operations.folders.listing_changed(folder)
                    self._notifier.listing(folder)
                case InodeChanged(inode, data=True):
                    self._notifier.inode(inode)
                case InodeChanged(inode):
                    self._notifier.attributes(inode)


def _node_of(view: View, inode: Inode) -> Node | None:
    """What can be checked out: not what lies below `.procore`, which is locked between the programs here alone."""
    return view.by_inode(inode) if inode < FIRST_VIRTUAL else None


def _following(
    store: TreeStore, position: Position, order: Order, limit: int
) -> list[tuple[Position, Version]]:
    """What the content room may read ahead: the tree knows which files come next."""
    folder = Inode(position.folder)
    if order is Order.NAMED:
        nodes = store.files_after_name(folder, position.name, limit)
    else:
        nodes = store.files_after_inode(folder, Inode(position.inode), limit)
    return [
        (Position(folder, node.inode, node.shown), node.version) for node in nodes if node.version is not None
    ]


def _shared(mount: ResolvedMount) -> ApiSettings:
    """Who shares the call budget through Redis renews a person's login through it, too."""
    place = mount.options.limiter
    return mount.api if place == LOCAL else msgspec.structs.replace(mount.api, login_shared_at=place)


def _ownership(mount: ResolvedMount) -> Ownership:
    options = mount.options
    return Ownership(
        uid=os.getuid() if options.uid is None else options.uid,
        gid=os.getgid() if options.gid is None else options.gid,
        umask=options.umask,
    )
