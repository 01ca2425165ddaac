"""One computer on which the product runs: its parts as daemon.py runs them, but for the kernel's session."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import trio

from procorefs.config import MountOptions, Paths, ResolvedMount, private_dir
from procorefs.content.cache import ChunkCache
from procorefs.identity import who_am_i
from procorefs.kernel.notify import Notifier
from procorefs.kernel.refusals import Refusals
from procorefs.limiter import budget_key, open_limiter
from procorefs.parts import Assembly, Outer, Parts
from procorefs.procore._httpx import httpx
from procorefs.procore.auth import Auth
from procorefs.procore.client import Client
from procorefs.procore.http import Http, origin_of
from procorefs.procore.settings import ApiSettings
from procorefs.procore.tokens import open_store
from procorefs.tree.nodes import Forget
from procorefs.tree.store import TreeStore

CACHE_BYTES = 64 << 20


def mount_at(directory: Path, api: ApiSettings, options: MountOptions) -> ResolvedMount:
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


Started = Callable[[Parts], object]


async def run_daemon(
    mount: ResolvedMount,
    transport: httpx.AsyncBaseTransport,
    notifier: object,
    forget: Callable[[Sequence[Forget]], None],
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[Parts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """One run of the daemon, until `stop`; in the order of daemon.py."""
    with ExitStack() as stack:
        key = budget_key(mount.api.api_url, mount.api.client_id)
        async with (
            open_limiter(mount.api.budget_dir, key, mount.options.limiter) as limiter,
            _client(mount.api, transport, limiter) as client,
        ):
            me = await who_am_i(client, mount.api, private_dir(mount.paths.state_dir))
            state_dir = private_dir(mount.state_dir(me.id))
            store = TreeStore.open(state_dir / "tree.sqlite")
            stack.callback(store.close)
            cache = ChunkCache(private_dir(mount.cache_dir(me.id)) / "chunks", CACHE_BYTES)
            with ExitStack() as inner:
                outer = Outer(
                    forget,
                    cast(Notifier, notifier),
                    Refusals(),
                    lambda reporter: reporter.status("serving"),
                )
                parts = Assembly(mount, client, store, cache, state_dir, me.id, outer).build(inner)
                if not parts.follower.complete:
                    await parts.titles.learn()
                    await parts.follower.list_root()
                async with trio.open_nursery() as rooms:
                    for part in parts.running:
                        await rooms.start(part)
                    rooms.start_soon(parts.titles.complete, parts.follower.listed)
                    await rooms.start(parts.writing.outbox.run)
                    task_status.started(parts)
                    await stop.wait()
                    with trio.CancelScope(shield=True), trio.move_on_after(3.0):
                        await parts.writing.outbox.finish()
                    rooms.cancel_scope.cancel()
                with trio.CancelScope(shield=True), trio.move_on_after(2.0):
                    await parts.writing.durability.flush()
