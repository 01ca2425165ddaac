"""One computer on which the product runs: its parts as daemon.py runs them, but for the kernel's session."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio

from procorefs.cache.chunk_cache import ChunkCache
from procorefs.config import MountOptions, Paths, ResolvedMount, private_dir
from procorefs.config.login_user import find_login_user
from procorefs.kernel.bridge.notifications import Notifier as KernelNotifier
from procorefs.limiter import budget_key, open_limiter
from procorefs.procore.api.client import Client
from procorefs.procore.auth.token_renewal import Auth
from procorefs.procore.auth.token_store import open_store
from procorefs.procore.http._httpx import httpx
from procorefs.procore.http.http_client import Http, origin_of
from procorefs.procore.settings import ApiSettings
from procorefs.service.log_detail import LogDetail
from procorefs.storage import clocks, processes
from procorefs.storage.refused_calls import RefusedCalls
from procorefs.tree.tree_store import TreeStore
from procorefs.upload.mount_access import MountAccess
from procorefs.upload.planning import due
from procorefs.wiring.mount import Assembly, DaemonHooks, Parts
from tests.simulation.disk import Disk
from tests.simulation.kernel import Kernel, Notifier

CACHE_BYTES = 64 << 20

HELD_S = 600.0
"""A temporary name is held so long here: the product's hour would only cost turns of tasks."""

due.HELD_S = HELD_S


def _mount_at(directory: Path, api: ApiSettings, options: MountOptions) -> ResolvedMount:
    """The mount whose state, cache and configuration lie below a directory."""
    paths = Paths(
        config_file=directory / "config.toml",
        cache_dir=directory / "cache",
        state_dir=directory / "state",
        runtime_dir=directory / "run",
    )
    return ResolvedMount(api, directory / "mnt", options, paths, "simulated")


@asynccontextmanager
async def _client(
    settings: ApiSettings, transport: httpx.AsyncBaseTransport, limiter: Any
) -> AsyncIterator[Client]:
    """As procore.client.open_client, over another transport."""
    async with httpx.AsyncClient(
        transport=transport, follow_redirects=False, headers={"User-Agent": "procorefs"}
    ) as connections:
        http = Http(connections, origin_of(settings.api_url))
        yield Client(settings, http, Auth(settings, http, open_store(settings)), limiter)


def begin_boot(directory: Path, number: int) -> None:
    """Let the computer have been started once more: what asks the kernel for its boot finds another one."""
    boot = f"{number:08x}-0000-4000-8000-000000000000"
    file = directory / "boot_id"
    file.write_text(f"{boot}\n")
    processes.BOOT_ID = file


class _Line(httpx.AsyncBaseTransport):
    """One life's way to the network: a dead computer sends nothing more."""

    def __init__(self, network: httpx.AsyncBaseTransport) -> None:
        self._network = network
        self.is_cut = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.is_cut:
            raise httpx.ConnectError("the computer is dead", request=request)
        return await self._network.handle_async_request(request)


class Life:
    """One run of the daemon over one state directory, in the order of daemon.py; `run` must run."""

    def __init__(
        self,
        directory: Path,
        api: ApiSettings,
        options: MountOptions,
        network: httpx.AsyncBaseTransport,
        now_s: Callable[[], float],
        on_disk: dict[str, bytes],
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.disk = Disk(directory, now_s, on_disk)
        self.is_dead = False
        self.ended = trio.Event()
        self.scope = trio.CancelScope()
        """Of the daemon."""
        self.programs = trio.CancelScope()
        """Of the system call that waits now: it ends with the daemon."""
        self._mount = _mount_at(directory, api, options)
        self._line = _Line(network)
        self._stop = trio.Event()
        self._notifier = Notifier()
        self._parts: Parts | None = None
        self._kernel: Kernel | None = None

    @property
    def parts(self) -> Parts:
        assert self._parts is not None
        return self._parts

    @property
    def says_unsynced(self) -> bool:
        """Whether the log says that what was written can't be brought to disk."""
        return self._parts is None or self._parts.writing.durability.failed_syncs > 0

    @property
    def kernel(self) -> Kernel:
        assert self._kernel is not None
        return self._kernel

    def begin_call(self) -> trio.CancelScope:
        """For a system call of a program: it ends with the daemon."""
        self.programs = trio.CancelScope()
        return self.programs

    def die(self) -> None:
        """Nothing of it reaches anybody from now on."""
        self.is_dead = True
        self._line.is_cut = True
        self.scope.cancel()
        self.programs.cancel()

    async def end(self) -> None:
        """An orderly end."""
        self._stop.set()
        await self.ended.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """From start to end. What a dead daemon still does goes to files that nobody will read."""
        try:
            with self.scope:
                await self._run(task_status)
        except Exception:
            if not self.is_dead:
                raise
        finally:
            self.ended.set()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        clocks.begin_run()
        mount = self._mount
        with ExitStack() as stack:
            key = budget_key(mount.api.api_url, mount.api.client_id)
            async with (
                open_limiter(mount.api.budget_dir, key, mount.options.limiter) as limiter,
                _client(mount.api, self._line, limiter) as client,
            ):
                me = await find_login_user(client, mount.api, private_dir(mount.paths.state_dir))
                state_dir = private_dir(mount.state_dir(me.id))
                store = TreeStore.open(state_dir / "tree.sqlite")
                stack.callback(store.close)
                cache = ChunkCache(private_dir(mount.cache_dir(me.id)) / "chunks", CACHE_BYTES)
                with ExitStack() as inner:
                    hooks = DaemonHooks(
                        self._notifier.invalidate,
                        cast(KernelNotifier, self._notifier),
                        RefusedCalls(),
                        lambda reporter: reporter.status("mounted"),
                    )
                    access = MountAccess(is_read_only=mount.options.ro)
                    detail = LogDetail("info", logging.getLogger("simulated"))
                    assembly = Assembly(mount, client, store, cache, state_dir, me.id, hooks, access, detail)
                    parts = assembly.build(inner)
                    await parts.rights.learn(parts.project.brief_wait)
                    if not parts.follower.complete:
                        await parts.display_names.learn()
                        await parts.follower.list_root()
                    await self._serve(parts, task_status)

    async def _serve(self, parts: Parts, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as rooms:
            for part in parts.running:
                await rooms.start(part)
            rooms.start_soon(parts.display_names.complete, parts.follower.listed)
            await rooms.start(parts.writing.scheduler.run)
            self._parts = parts
            self._kernel = self._notifier.kernel = Kernel(parts.kernel.operations, parts.kernel.flocks)
            task_status.started()
            await self._stop.wait()
            with trio.CancelScope(shield=True), trio.move_on_after(3.0):
                await parts.writing.workers.finish()
            rooms.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.move_on_after(2.0):
            await parts.writing.durability.flush()
