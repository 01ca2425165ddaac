"""`procorefs serve` and `open`: a status page and metrics of all mounts, on loopback, and the browser that shows it."""

import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path

import click
import msgspec
import uvicorn

from procorefs.cli.support.terminal import say
from procorefs.cli.web.app import make_app
from procorefs.config import Failure, Paths, find_paths, private_dir
from procorefs.config.paths import write_private
from procorefs.storage.failures import UNDECODABLE
from procorefs.storage.private_files import read_private_file

PORT = 8911


class NotServed(Failure):
    """The page is not served, or cannot be."""


class Served(msgspec.Struct, frozen=True):
    """Where the page is served; a file in the runtime directory has it for `open`."""

    port: int
    token: str

    @property
    def address(self) -> str:
        """The first address; it logs the browser in."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


@click.command(short_help="Serve a status page and metrics of all mounts, on this machine only.")
@click.option("--port", metavar="PORT", type=click.IntRange(1, 65535), default=PORT, help=f"Default: {PORT}.")
def serve(port: int) -> None:
    """Serve a status page and Prometheus' /metrics of all mounts of this user until Ctrl-C.

    The address that it prints contains a token, which the browser and Prometheus (as bearer token) must send.
    """
    paths = find_paths(os.environ)
    served = Served(port, _token(paths))
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise NotServed(
            f"port {port} of this machine cannot be used ({error.strerror}); give another one with --port"
        ) from error
    with listener:
        write_private(_file(paths), msgspec.json.encode(served))
        try:
            say(served.address)
            app = make_app(paths, served.token, port)
            with suppress(KeyboardInterrupt):  # the usual end
                uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
        finally:
            _file(paths).unlink(missing_ok=True)


@click.command("open", short_help="Open the status page in a browser.")
def open_page() -> None:
    """Open the page of a running `procorefs serve` in a browser."""
    try:
        served = msgspec.json.decode(read_private_file(_file(find_paths(os.environ))), type=Served)
    except (OSError, *UNDECODABLE) as error:
        raise NotServed("the status page is not served; run `procorefs serve` first") from error
    click.launch(served.address)


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
