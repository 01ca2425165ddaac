"""Runs a sandbox: binds both ports, fills it when it is new, serves until cancelled."""

from dataclasses import dataclass

import trio

from procorefs.sandbox.api.conformance import Checker
from procorefs.sandbox.app import create_app, create_storage_app
from procorefs.sandbox.fill import fill
from procorefs.sandbox.state import Sandbox
from procorefs.sandbox.storage.asgi_server import serve_http


@dataclass(frozen=True, slots=True)
class Hosts:
    """The bound ports of the API and of the store."""

    api: list[trio.SocketListener]
    storage: list[trio.SocketListener]


async def prepare(sandbox: Sandbox) -> Hosts:
    """Bind and fill. Raises OSError: a port is taken; ApiError: the tree to import cannot be read."""
    config = sandbox.config
    hosts = Hosts(
        await trio.open_tcp_listeners(config.port, host="127.0.0.1"),
        await trio.open_tcp_listeners(config.storage_port, host="127.0.0.1"),
    )
    hosts.storage.extend(await _also_ipv6(_port(hosts.storage)))
    sandbox.urls.api = f"http://127.0.0.1:{_port(hosts.api)}"
    sandbox.urls.storage = f"http://{config.storage_host}:{_port(hosts.storage)}"
    fill(sandbox, config.documents)
    return hosts


async def serve_prepared(sandbox: Sandbox, hosts: Hosts, checker: Checker | None) -> None:
    """Serve until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, create_app(sandbox, checker), hosts.api)
        nursery.start_soon(serve_http, create_storage_app(sandbox), hosts.storage)


def _port(listeners: list[trio.SocketListener]) -> int:
    port: int = listeners[0].socket.getsockname()[1]
    return port


async def _also_ipv6(port: int) -> list[trio.SocketListener]:
    """The name localhost may mean ::1 first; where there is no IPv6, nobody asks it."""
    try:
        return await trio.open_tcp_listeners(port, host="::1")
    except OSError:
        return []
