"""Runs a sandbox: fills it when it is new, binds both ports, serves until cancelled."""

import socket

import trio

from .app import create_app, create_storage_app
from .config import SandboxConfig
from .conformance import Checker
from .fill import fill
from .state import Sandbox
from .wire import serve_http


async def serve(
    config: SandboxConfig, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; `task_status.started(url)` when both ports answer."""
    sandbox = Sandbox(config)
    try:
        await run(sandbox, task_status=task_status)
    finally:
        sandbox.close()


async def run(sandbox: Sandbox, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
    """Serve a sandbox that somebody else owns."""
    config = sandbox.config
    fill(sandbox, config.documents)
    checker = Checker(config.openapi_path) if config.openapi_path else None
    api = await trio.open_tcp_listeners(config.port, host="127.0.0.1")
    storage = await trio.open_tcp_listeners(config.storage_port, host="127.0.0.1")
    storage += await _also_ipv6(_port(storage))
    sandbox.urls.api = f"http://127.0.0.1:{_port(api)}"
    sandbox.urls.storage = f"http://{config.storage_host}:{_port(storage)}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, create_app(sandbox, checker), api)
        nursery.start_soon(serve_http, create_storage_app(sandbox), storage)
        task_status.started(sandbox.urls.api)


def _port(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def _also_ipv6(port: int) -> list[trio.SocketListener]:
    """The name localhost may mean ::1 first; where there is no IPv6, nobody asks it."""
    try:
        return await trio.open_tcp_listeners(port, host="::1")
    except (OSError, socket.gaierror):
        return []
