"""Runs the parts of one mount in one nursery and takes them down from the outside in.

signals, stop ──────────▶ the session ends ─▶ follower, content, notifier are cancelled ─▶ stores close
unmounting from outside ─▶ the session ends ─▶ what waits is sent without a mount point ─▶ the same
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

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.config import ResolvedMount, private_dir
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.operations import Operations
from procorefs.kernel.session import MountRefused, Session
from procorefs.limiter import LOCAL, budget_key, open_limiter
from procorefs.procore.api.client import Client, open_client
from procorefs.procore.errors import ProcoreError
from procorefs.procore.settings import ApiSettings
from procorefs.procore.wire.models import UserId
from procorefs.service import control_socket
from procorefs.service.login_user import who_am_i
from procorefs.service.request_handler import RequestHandler
from procorefs.service.state_lock import StateLock, owned, take_over
from procorefs.service.status import MountStatus
from procorefs.service.status_report import Reporter
from procorefs.storage import clocks, processes
from procorefs.storage.failures import Failure, first_cause
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.nodes import EntryGone, InodeChanged, Invalidation, ListingChanged
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.items import Counts
from procorefs.wiring.mount import Assembly, Outer, Parts

log = logging.getLogger(__name__)

_TREE = "tree.sqlite"
_CHUNKS = "chunks"

LAST_CALLS_S = 3.0
"""How long calls under way may take to end; what is cut off is looked into at the next mount."""

LAST_SYNC_S = 2.0
"""How long bringing the last changes to disk may take at the end."""


class MountFailed(Failure):
    """The mount could not begin."""


def run_daemon(mount: ResolvedMount, *, ready: Callable[[], None], detached: Callable[[], None]) -> None:
    """Serve the mount until it is unmounted or told to stop; `ready` is called once it answers.

    A mount point that others took away is not the end while changes wait: `detached` is called when the daemon
    answers at its other socket. Blocks. Raises Failure, a sentence for a person, when the mount can't begin.
    """
    processes.raise_limit()
    processes.forbid_core_dumps()
    clocks.begin_run()
    try:
        trio.run(_Daemon(mount, ready, detached).run, clock=clocks.BootClock())
    except* (ProcoreError, MountRefused, OSError, sqlite3.Error) as group:
        raise MountFailed(_sentence(group)) from group
    except* Failure as group:
        raise first_cause(group) from group


def _sentence(group: BaseExceptionGroup[BaseException]) -> str:
    error = first_cause(group)
    if isinstance(error, sqlite3.Error):
        return f"The tree of the project cannot be used ({error}): is the disk of the state directory full?"
    return str(error)


class _Daemon:
    """One mount from its first call to its last."""

    def __init__(self, mount: ResolvedMount, ready: Callable[[], None], detached: Callable[[], None]) -> None:
        self._mount = mount
        self._ready = ready
        self._register_detached = detached
        self._is_detached = False
        self._goes_on_unmounted = True
        self._notifier = Notifier()
        self._refusals = RefusedCalls()
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
                await trio.to_thread.run_sync(take_over, state_dir, abandon_on_cancel=True)
                ownership = stack.enter_context(owned(state_dir, mount.mountpoint))
                store = TreeStore.open(state_dir / _TREE)
                stack.callback(store.close)
                cache = ChunkCache(
                    private_dir(mount.cache_dir(me.id)) / _CHUNKS, mount.options.cache_size_bytes
                )
                await self._serve(client, store, cache, state_dir, me.id, ownership)

    async def _serve(
        self,
        client: Client,
        store: TreeStore,
        cache: ChunkCache,
        state_dir: Path,
        me: UserId,
        ownership: StateLock,
    ) -> None:
        with ExitStack() as stack:
            outer = Outer(self._invalidate, self._notifier, self._refusals, self._status)
            parts = Assembly(self._mount, client, store, cache, state_dir, me, outer).build(stack)
            if not parts.follower.complete:
                await parts.titles.learn()
                await parts.follower.list_root()
            async with trio.open_nursery() as signals:
                await signals.start(self._stop_on_signal)
                await self._run(parts, ownership)
                signals.cancel_scope.cancel()

    async def _run(self, parts: Parts, ownership: StateLock) -> None:
        async with trio.open_nursery() as rooms:
            await self._start(rooms, parts)
            if await self._mounted(parts):
                await self._detached(parts, ownership)
            with trio.CancelScope(shield=True), trio.move_on_after(LAST_CALLS_S):
                await parts.writing.workers.finish()
            rooms.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_SYNC_S):
            await parts.writing.durability.flush()

    async def _mounted(self, parts: Parts) -> bool:
        """The mount from its first request to its last; True: its mount point was taken away from outside.

        A connection that was aborted leaves the mount point behind, and programs that were cut off: the next mount goes
        on with what they had written, as after a crash.
        """
        with Session(
            parts.kernel.operations, parts.kernel.flocks, self._mount.mountpoint, self._mount.fuse_words
        ) as session:
            self._operations = parts.kernel.operations
            try:
                await self._answer(session, parts.reporter)
            finally:
                self._operations = None
            return not self._stop.is_set() and not session.is_mounted

    async def _detached(self, parts: Parts, ownership: StateLock) -> None:
        """Go on sending without a mount point, until nothing is left that goes by itself, or a mount takes over."""
        await parts.kernel.operations.release_all()
        parts.locking.check_outs.drop_all()
        outbox = parts.writing.commands
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as outside:
                outside.start_soon(self._end_when_told, scope)
                if self._goes_on_unmounted and not self._mount.options.ro and outbox.moves():
                    self._is_detached = True
                    log.info(
                        "%s was unmounted with %d changes to send: they are sent without a mount point; a new mount "
                        "takes over, `procorefs umount --now` ends it.",
                        self._mount.mountpoint,
                        outbox.counts().moving,
                    )
                    socket = self._mount.detached_socket(os.getpid())
                    await outside.start(partial(control_socket.serve, socket, self._answers(parts.reporter)))
                    outbox.hurry(("",))  # nothing can be added to it any more
                    ownership.detached(socket)
                    self._register_detached()
                    await outbox.drained()
                outside.cancel_scope.cancel()
        self._say_what_is_left(
            outbox.counts(), is_expected=self._stop.is_set() or not self._goes_on_unmounted
        )
        self._stop.set()

    def _say_what_is_left(self, left: Counts, *, is_expected: bool) -> None:
        if not (left.moving or left.held or left.failed):
            return
        log.log(
            logging.INFO if is_expected else logging.WARNING,
            "The daemon of %s ends. For the next mount its journal keeps %d changes that failed or are incomplete, "
            "%d that are held and %d others.",
            self._mount.mountpoint,
            left.failed,
            left.held,
            left.moving,
        )

    async def _start(self, rooms: trio.Nursery, parts: Parts) -> None:
        """Everything that runs as long as the mount does; a part is ready before the next one starts."""
        await rooms.start(self._notifier.run)
        for part in parts.running:
            await rooms.start(part)
        rooms.start_soon(parts.titles.complete, parts.follower.listed)
        if self._mount.options.ro:
            parts.writing.scheduler.count_all()
        else:
            await rooms.start(parts.writing.scheduler.run)

    async def _answer(self, session: Session, reporter: Reporter) -> None:
        """The outermost part: while it runs there are requests; whatever ends it ends the mount."""
        async with trio.open_nursery() as outside:
            await outside.start(
                partial(control_socket.serve, self._mount.control_socket, self._answers(reporter))
            )
            outside.start_soon(self._end_when_told, outside.cancel_scope)
            await outside.start(session.run)
            await trio.to_thread.run_sync(os.statvfs, self._mount.mountpoint, abandon_on_cancel=True)
            session.answered()
            log.info("%s is mounted at %s.", self._mount.source, self._mount.mountpoint)
            self._ready()
            await session.ended()
            outside.cancel_scope.cancel()
        log.info("%s is not mounted any more.", self._mount.mountpoint)

    def _answers(self, reporter: Reporter) -> RequestHandler:
        return RequestHandler(
            status=partial(self._status_now, reporter),
            stop=self._stop.set,
            unmounting=self._set_goes_on,
            outbox=reporter.outbox,
        )

    def _set_goes_on(self, goes_on: bool) -> None:
        self._goes_on_unmounted = goes_on

    async def _status_now(self, reporter: Reporter) -> MountStatus:
        await reporter.look()
        return self._status(reporter)

    def _status(self, reporter: Reporter) -> MountStatus:
        if self._stop.is_set():
            return reporter.status("closing")
        return reporter.status("detached" if self._is_detached else "mounted")

    async def _end_when_told(self, outside: trio.CancelScope) -> None:
        await self._stop.wait()
        outside.cancel()

    async def _stop_on_signal(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                log.info("Ending on %s.", signal.Signals(number).name)
                self._stop.set()

    def _invalidate(self, changes: Sequence[Invalidation]) -> None:
        """Pass on what the kernel must invalidate. Returns at once: the notifier's threads do what may block."""
        if self._operations is None:
            return
        for change in changes:
            match change:
                case EntryGone(folder, name):
                    for shown in self._operations.names_affected(folder, name):
                        self._notifier.entry(folder, shown)
                case ListingChanged(folder):
                    self._operations.handles.folders.listing_changed(folder)
                    self._notifier.listing(folder)
                case InodeChanged(inode, data=True):
                    self._notifier.inode(inode)
                case InodeChanged(inode):
                    self._notifier.attributes(inode)


def _shared(mount: ResolvedMount) -> ApiSettings:
    """Who shares the call budget through Redis renews a person's login through it, too."""
    place = mount.options.limiter
    return mount.api if place == LOCAL else msgspec.structs.replace(mount.api, login_shared_at=place)
