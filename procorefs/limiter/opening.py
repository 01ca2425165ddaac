"""Opens the budget of one API host and client id: shared by the user's processes, or by hosts through Redis."""

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

from procorefs.limiter.budget_store import MemoryStore, Store, WithFallback
from procorefs.limiter.file_store import FileStore
from procorefs.limiter.gate import Gate

log = logging.getLogger(__name__)

LOCAL = "local"

Part = Callable[[], Awaitable[None]]


def budget_key(api_url: str, client_id: str) -> str:
    """Names a budget: Procore counts by client id."""
    host = urlsplit(api_url).netloc.lower()
    return hashlib.sha256(f"{host}\0{client_id}".encode()).hexdigest()[:32]


def known_hourly_limit(folder: Path, key: str) -> int | None:
    """What Procore last said an hour holds, as far as processes of this user have heard it; asks nobody."""
    file = folder / f"{key}.budget"
    if not file.exists():
        return None
    try:
        store = FileStore(file)
        try:
            state = store.peek()[0]
        finally:
            store.close()
    except OSError:
        return None
    return state.limit if state.told else None


@asynccontextmanager
async def open_limiter(
    folder: Path | None, key: str, where: str = LOCAL, calls_per_hour: int = 0
) -> AsyncIterator[Gate]:
    """The gate to the budget `key`, for as long as the context lasts.

    `folder` is where processes of this user share it (None: nobody does); `where` is `local` or the address of a
    Redis; `calls_per_hour` is what this process uses at most (0: as many as there are). Raises ValueError when
    `where` is neither.
    """
    async with AsyncExitStack() as stack:
        store, parts = (
            _local(stack, folder, key) if where == LOCAL else _through_redis(stack, folder, key, where)
        )
        gate = Gate(store, calls_per_hour=calls_per_hour)
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            for part in (gate.run, *parts):
                nursery.start_soon(part)
            try:
                yield gate
            except trio.Cancelled:
                raise
            except BaseException as error:
                failure = error  # raised below: a nursery would put it into a group
            finally:
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure


def _through_redis(
    stack: AsyncExitStack, folder: Path | None, key: str, url: str
) -> tuple[Store, list[Part]]:
    from procorefs.limiter.redis_store import RedisStore, parse_address  # ssl takes its time to import

    address = parse_address(url)
    shared = RedisStore(address, key)
    stack.push_async_callback(shared.aclose)
    alone, parts = _local(stack, folder, f"{key}-alone")
    store = WithFallback(shared, alone, f"Redis at {address}")
    return store, [store.run, *parts]


def _local(stack: AsyncExitStack, folder: Path | None, key: str) -> tuple[Store, list[Part]]:
    if folder is None:
        return MemoryStore(), []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        shared = FileStore(folder / f"{key}.budget")
    except OSError as error:
        log.warning("the call budget cannot be shared in %s (%s)", folder, error.strerror)
        return MemoryStore(), []
    stack.callback(shared.close)
    store = WithFallback(shared, MemoryStore(), f"The call budget in {folder}")
    return store, [store.run]
