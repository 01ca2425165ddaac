"""Starts, runs and stops one mount: decides when the daemon ends, and what it does after an unmount from outside.

signal or stop request ─▶ the session ends ─▶ all parts are cancelled ─▶ stores close
unmount from outside ───▶ the session ends ─▶ unsent changes are sent without a mount point ─▶ the same
"""

import gc
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
from procorefs.config.login_user import find_login_user
from procorefs.kernel.bridge.native import Bridge
from procorefs.kernel.bridge.notifications import Notifier
from procorefs.kernel.operations import Operations
from procorefs.kernel.session import MountRefused, Session
from procorefs.limiter import LOCAL, budget_key, open_limiter
from procorefs.procore.api.client import Client, open_client
from procorefs.procore.errors import ProcoreError
from procorefs.procore.settings import ApiSettings, documents_page
from procorefs.procore.wire.models import UserId
from procorefs.procore.wire.rights import restriction
from procorefs.service import control_socket
from procorefs.service.details import KernelFigures, MountDetails, RequestTimes
from procorefs.service.file_facts import FileFactsReader
from procorefs.service.log_detail import LogDetail
from procorefs.service.request_handler import RequestHandler
from procorefs.service.service_manager import ServiceManager
from procorefs.service.state_lock import StateLock, end_detached_owner, locked_state
from procorefs.service.status import MountStatus
from procorefs.service.status_report import Reporter
from procorefs.storage import clocks, processes
from procorefs.storage.failures import Failure, first_cause
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.nodes import EntryGone, InodeChanged, Invalidation, ListingChanged
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.commands import Commands
from procorefs.upload.items import Counts
from procorefs.upload.mount_access import MountAccess
from procorefs.upload.scheduler import Scheduler
from procorefs.wiring.desktop import DesktopView, open_desktop
from procorefs.wiring.mount import Assembly, DaemonHooks, Parts

log = logging.getLogger(__name__)

_TREE = "tree.sqlite"
_CHUNKS = "chunks"

LAST_CALLS_S = 3.0
"""How long calls under way may take to end; the next mount confirms the calls that are cut off."""

LAST_SYNC_S = 2.0
"""How long the last sync of changes to disk may take."""


_DOCUMENTS_OFF = (
    "{} cannot be mounted: the Documents tool of this project is off for this account (its permission level is None); "
    "ask an administrator of the project for a higher level"
)


class MountFailed(Failure):
    """The mount could not start."""


def run_daemon(mount: ResolvedMount, *, ready: Callable[[str], None], detached: Callable[[], None]) -> None:
    """Serve the mount until it is unmounted or told to stop; blocks. Calls `ready` once the mount answers.

    `ready` gets what the account may not do, as a clause; empty: nothing is known to be refused.
    If another program unmounts it while changes wait, the daemon continues to send them, and calls `detached` when it
    answers at its other socket. Raises Failure, with a sentence for people, if the mount cannot start.
    """
    processes.raise_limit()
    processes.forbid_core_dumps()
    os.umask(0o077)
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
    """Runs one mount."""

    def __init__(
        self, mount: ResolvedMount, ready: Callable[[str], None], detached: Callable[[], None]
    ) -> None:
        self._mount = mount
        self._ready = ready
        self._register_detached = detached
        self._is_detached = False
        self._continues_unmounted = True
        self._notifier = Notifier()
        self._refusals = RefusedCalls()
        self._service_manager = ServiceManager.of_environment(os.environ)
        self._access = MountAccess(is_read_only=mount.options.ro)
        self._log_detail = LogDetail(mount.options.log_level)
        self._stop = trio.Event()
        self._operations: Operations | None = None
        """None while there is no session to notify."""

    async def run(self) -> None:
        mount = self._mount
        with ExitStack() as stack:
            key = budget_key(mount.api.api_url, mount.api.client_id)
            async with (
                open_limiter(
                    mount.api.budget_dir, key, mount.options.limiter, mount.calls_per_hour
                ) as limiter,
                open_client(_api_settings(mount), limiter=limiter) as client,
            ):
                me = await find_login_user(client, mount.api, private_dir(mount.paths.state_dir))
                state_dir = private_dir(mount.state_dir(me.id))
                await trio.to_thread.run_sync(end_detached_owner, state_dir, abandon_on_cancel=True)
                state_lock = stack.enter_context(locked_state(state_dir, mount.mountpoint))
                store = TreeStore.open(state_dir / _TREE)
                stack.callback(store.close)
                cache = ChunkCache(
                    private_dir(mount.cache_dir(me.id)) / _CHUNKS, mount.options.cache_size_bytes
                )
                await self._serve(client, store, cache, state_dir, me.id, state_lock)

    async def _serve(
        self,
        client: Client,
        store: TreeStore,
        cache: ChunkCache,
        state_dir: Path,
        me: UserId,
        state_lock: StateLock,
    ) -> None:
        with ExitStack() as stack:
            hooks = DaemonHooks(self._invalidate, self._notifier, self._refusals, self._status)
            assembly = Assembly(
                self._mount, client, store, cache, state_dir, me, hooks, self._access, self._log_detail
            )
            parts = assembly.build(stack)
            await parts.rights.learn(parts.project.brief_wait)
            if parts.rights.current.read is False:
                raise MountFailed(_DOCUMENTS_OFF.format(self._mount.source))
            if not parts.follower.complete:
                await parts.display_names.learn()
                await parts.follower.list_root()
            async with trio.open_nursery() as signals:
                await signals.start(self._handle_signals)
                await self._run(parts, state_lock)
                signals.cancel_scope.cancel()

    async def _run(self, parts: Parts, state_lock: StateLock) -> None:
        view = DesktopView(
            self._mount,
            parts.reporter.client,
            parts.display_names,
            parts.writing.commands,
            parts.writing.guard,
            self._refusals,
        )
        desktop = open_desktop(view)
        async with trio.open_nursery() as running:
            await self._start(running, parts)
            if desktop is not None:
                await running.start(desktop.run)
            if await self._mounted(parts):
                if desktop is not None and self._continues_unmounted and self._access.sends:
                    running.start_soon(desktop.show_last, view.unsent(continues=True))
                await self._detached(parts, state_lock)
            with trio.CancelScope(shield=True), trio.move_on_after(LAST_CALLS_S):
                await parts.writing.workers.finish()
            if desktop is not None:
                await desktop.show_last(view.unsent(continues=False))
            running.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_SYNC_S):
            await parts.writing.durability.flush()

    async def _mounted(self, parts: Parts) -> bool:
        """Answer requests until the session ends. Returns True if another program unmounted the mount point.

        After an aborted connection the mount point is still mounted and programs were cut off: the next mount treats
        what they wrote as after a crash.
        """
        with Session(
            parts.kernel.operations, parts.kernel.flocks, self._mount.mountpoint, self._mount.fuse_words
        ) as session:
            self._operations = parts.kernel.operations
            try:
                await self._answer(session, parts)
            finally:
                self._operations = None
            return not self._stop.is_set() and not session.is_mounted

    async def _detached(self, parts: Parts, state_lock: StateLock) -> None:
        """Send without a mount point until nothing is left that is sent automatically, or a new mount takes over."""
        await parts.kernel.operations.release_all()
        parts.locking.check_outs.drop_all()
        outbox = parts.writing.commands
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel_on_stop, scope)
                if self._continues_unmounted and self._access.sends and outbox.moves():
                    self._is_detached = True
                    log.info(
                        "%s was unmounted with %d changes to send: they are sent without a mount point; a new mount "
                        "takes over, `procorefs umount --now` ends it.",
                        self._mount.mountpoint,
                        outbox.counts().moving,
                    )
                    socket = self._mount.detached_socket(os.getpid())
                    await nursery.start(partial(control_socket.serve, socket, self._request_handler(parts)))
                    outbox.hurry(("",))  # no program can add changes
                    state_lock.detached(socket)
                    self._register_detached()
                    await outbox.drained()
                nursery.cancel_scope.cancel()
        self._log_what_is_left(
            outbox.counts(), is_expected=self._stop.is_set() or not self._continues_unmounted
        )
        self._stop.set()

    def _log_what_is_left(self, left: Counts, *, is_expected: bool) -> None:
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

    async def _start(self, running: trio.Nursery, parts: Parts) -> None:
        """Start all parts; each is ready before the next one starts."""
        await running.start(self._notifier.run)
        for part in parts.running:
            await running.start(part)
        running.start_soon(parts.display_names.complete, parts.follower.listed)
        running.start_soon(self._service_manager.run, partial(self._summary, parts.writing.commands))
        if self._access.sends:
            await running.start(parts.writing.scheduler.run)
        else:
            parts.writing.scheduler.take_up()
            running.start_soon(self._send_once_writable, parts.writing.scheduler)

    async def _send_once_writable(self, scheduler: Scheduler) -> None:
        await self._access.writable()
        await scheduler.run()

    async def _answer(self, session: Session, parts: Parts) -> None:
        """Serve the kernel and the control socket until the session ends or the daemon is told to stop."""
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    control_socket.serve,
                    self._mount.control_socket,
                    self._request_handler(parts),
                )
            )
            nursery.start_soon(self._cancel_on_stop, nursery.cancel_scope)
            await nursery.start(session.run)
            await trio.to_thread.run_sync(os.statvfs, self._mount.mountpoint, abandon_on_cancel=True)
            session.answered()
            gc.freeze()  # what lives as long as the mount is not looked at by each full collection
            log.info("%s is mounted at %s.", self._mount.source, self._mount.mountpoint)
            self._ready(restriction(parts.rights.current))
            self._service_manager.ready()
            await session.ended()
            nursery.cancel_scope.cancel()
        log.info("%s is not mounted any more.", self._mount.mountpoint)

    def _summary(self, outbox: Commands) -> str:
        """What the mount does, for the service manager."""
        counts = outbox.counts()
        waiting = [
            f"{number} {word}"
            for number, word in ((counts.moving, "waiting"), (counts.held, "held"), (counts.failed, "failed"))
            if number
        ]
        state = "detached from" if self._is_detached else "mounted at"
        return f"{self._mount.source} {state} {self._mount.mountpoint}; {', '.join(waiting) or 'everything sent'}"

    def _request_handler(self, parts: Parts) -> RequestHandler:
        reporter = parts.reporter
        return RequestHandler(
            status=partial(self._status_now, reporter),
            details=partial(self._details_now, reporter),
            stop=self._stop.set,
            unmounting=self._set_continues,
            outbox=reporter.outbox,
            settings=reporter.settings,
            files=FileFactsReader(
                parts.project.view,
                parts.writing.states.of_file,
                parts.locking.claims.holder_name,
                documents_page(self._mount.api.login_url, self._mount.project_id),
            ),
        )

    def _set_continues(self, continues: bool) -> None:
        self._continues_unmounted = continues

    async def _status_now(self, reporter: Reporter) -> MountStatus:
        await reporter.update()
        return self._status(reporter)

    async def _details_now(self, reporter: Reporter) -> MountDetails:
        await reporter.update()
        bridge = Bridge()
        times = {
            kind: RequestTimes(list(counts), seconds)
            for kind, (counts, seconds) in bridge.request_times().items()
        }
        kernel = KernelFigures(list(bridge.latency_bounds_s), times, self._notifier.sent)
        return reporter.details(self._state, kernel)

    def _status(self, reporter: Reporter) -> MountStatus:
        return reporter.status(self._state)

    @property
    def _state(self) -> str:
        if self._stop.is_set():
            return "closing"
        return "detached" if self._is_detached else "mounted"

    async def _cancel_on_stop(self, nursery: trio.CancelScope) -> None:
        await self._stop.wait()
        self._service_manager.stopping()
        nursery.cancel()

    async def _handle_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        ending = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        with trio.open_signal_receiver(*ending, signal.SIGUSR1) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGUSR1:
                    self._log_detail.toggle()
                else:
                    log.info("Ending on %s.", signal.Signals(number).name)
                    self._stop.set()

    def _invalidate(self, changes: Sequence[Invalidation]) -> None:
        """Send invalidations to the kernel. Returns immediately: the notifier's threads make calls that may block."""
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


def _api_settings(mount: ResolvedMount) -> ApiSettings:
    """The API settings; daemons that share the call budget through Redis share the renewal of a person's login too."""
    address = mount.options.limiter
    return mount.api if address == LOCAL else msgspec.structs.replace(mount.api, login_shared_at=address)
