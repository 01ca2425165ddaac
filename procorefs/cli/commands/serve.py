"""`procorefs serve` and `open`: a status page and metrics of all mounts, and the browser that shows it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

import click
import msgspec
import uvicorn

from procorefs.cli.desktop.browser import open_address
from procorefs.cli.mounts.processes import birth
from procorefs.cli.support.local_peers import is_own_user
from procorefs.cli.support.terminal import say
from procorefs.cli.web.access import Access
from procorefs.cli.web.app import make_app
from procorefs.cli.web.listener import NotServed, listen_at_file, listen_at_port
from procorefs.config import Paths, find_paths, private_dir
from procorefs.config.paths import write_private
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.private_files import read_private_file

PORT = 8911


class Served(msgspec.Struct, frozen=True):
    """Where the page is served; a file in the runtime directory has it for `open`."""

    port: int
    """On loopback; 0: at a socket file."""
    code: str
    pid: int
    born: str
    """`processes.birth` of that pid."""
    socket: str = ""
    """The path of the socket file."""

    @property
    def place(self) -> str:
        """Where it listens, for people."""
        return self.socket or f"port {self.port}"

    @property
    def address(self) -> str:
        """The first address; it logs the browser in."""
        return f"http://127.0.0.1:{self.port or PORT}/?code={self.code}"


@click.command(short_help="Serve a status page and metrics of all mounts, on this machine only.")
@click.option("--port", metavar="PORT", type=click.IntRange(1, 65535), default=PORT, help=f"Default: {PORT}.")
@click.option(
    "--socket",
    "file",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Listen at a socket file that only you can open, and at no port.",
)
def serve(port: int, file: Path | None) -> None:
    """Serve a status page and Prometheus' /metrics of all mounts of this user until Ctrl-C.

    The page is for browsers of this user, who open the address that it prints. Prometheus sends the token in
    serve.token of the state directory as bearer token.

    With --socket, `ssh -L 8911:PATH HOST` leads a browser on another machine to the socket file.
    """
    paths = find_paths(os.environ)
    if (other := _running(paths)) is not None:
        raise NotServed(
            f"the status page is already served at {other.place} (process {other.pid}); "
            "`procorefs open` opens it"
        )
    code, born = secrets.token_urlsafe(32), birth(os.getpid()) or ""
    if file is None:
        served, listener = Served(port, code, os.getpid(), born), listen_at_port(port)
        access = Access(port, code, _token(paths), is_own_user)
    else:
        file = file.absolute()
        served, listener = Served(0, code, os.getpid(), born, str(file)), listen_at_file(file)
        access = Access(None, code, _token(paths), is_own_user)
    with listener:
        write_private(_file(paths), msgspec.json.encode(served))
        try:
            if file is not None:
                say(
                    f"Listening at {served.socket}. After `ssh -L {PORT}:{served.socket} HOST`, or the like, open:"
                )
            say(served.address)
            # With `proxy_headers` any client could name another address as its own.
            config = uvicorn.Config(make_app(paths, access), log_level="warning", proxy_headers=False)
            with suppress(KeyboardInterrupt):  # the usual end
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            _file(paths).unlink(missing_ok=True)
            if file is not None:
                file.unlink(missing_ok=True)


@click.command("open", short_help="Open the status page in a browser.")
def open_page() -> None:
    """Open the page of a running `procorefs serve` in a browser."""
    served = _running(find_paths(os.environ))
    if served is None:
        raise NotServed("the status page is not served; run `procorefs serve` first")
    if served.socket:
        raise NotServed(
            f"the status page is served at {served.socket}, which browsers cannot open: run "
            f"`ssh -L {PORT}:{served.socket} HOST` where the browser is, and open {served.address}"
        )
    open_address(served.address)


def _running(paths: Paths) -> Served | None:
    """The server of this user that runs."""
    try:
        served = msgspec.json.decode(read_private_file(_file(paths)), type=Served)
    except (OSError, *UNDECODABLE):
        return None
    # After the end of the server another user may listen at its port.
    return served if birth(served.pid) == served.born else None


def _file(paths: Paths) -> Path:
    return private_dir(paths.runtime_dir) / "serve.json"


def _token(paths: Paths) -> str:
    """The token of this user; it stays the same, so that Prometheus' configuration can name its file."""
    file = private_dir(paths.state_dir) / "serve.token"
    try:
        token = read_private_file(file).decode().strip()
    except OSError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(32)
        write_private(file, token.encode())
    return token
