"""`procorefs sandbox`: runs the embedded Procore in the foreground."""

import signal
import sqlite3
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import trio

from procorefs.cli.support.terminal import say
from procorefs.sandbox.api.conformance import DESCRIPTION, Checker, NotTheDescription
from procorefs.sandbox.api.refusals import ApiError
from procorefs.sandbox.config import PUBLISHED_HOURLY_CALLS, PUBLISHED_SPIKE_CALLS, SandboxConfig
from procorefs.sandbox.fill import announcement_line
from procorefs.sandbox.server import Hosts, prepare, serve_prepared
from procorefs.sandbox.state import Sandbox

PORT = click.IntRange(0, 65535)
COUNT = click.IntRange(min=0)


@click.command("sandbox")
@click.option(
    "--port",
    default=0,
    show_default=True,
    metavar="PORT",
    type=PORT,
    help="Port of API and login on 127.0.0.1; 0: any free one.",
)
@click.option(
    "--storage-port",
    default=0,
    show_default=True,
    metavar="PORT",
    type=PORT,
    help="Port of the file store; 0: any free one.",
)
@click.option(
    "--storage-host",
    default="localhost",
    show_default=True,
    metavar="HOST",
    help="Host name for clients of the file store.",
)
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep everything in this directory; without it nothing is kept.",
)
@click.option(
    "--seed",
    "documents",
    default=0,
    metavar="N",
    type=COUNT,
    help="Invent a construction project of N documents.",
)
@click.option(
    "--random-seed",
    "seed",
    default=1,
    show_default=True,
    metavar="N",
    help="Each number invents another project.",
)
@click.option(
    "--import",
    "import_dir",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Add this directory tree to the project.",
)
@click.option(
    "--big-file",
    "big_file_mib",
    default=0,
    metavar="MIB",
    type=COUNT,
    help="Add one generated file of that size.",
)
@click.option(
    "--hourly",
    "hourly_calls",
    default=PUBLISHED_HOURLY_CALLS,
    show_default=True,
    metavar="CALLS",
    type=COUNT,
    help="Calls an hour; 0: no limit.",
)
@click.option(
    "--spike",
    "spike_calls",
    default=PUBLISHED_SPIKE_CALLS,
    show_default=True,
    metavar="CALLS",
    type=COUNT,
    help="Calls in 10 seconds; 0: no limit.",
)
@click.option(
    "--hour-seconds",
    "hour_s",
    default=3600,
    show_default=True,
    metavar="S",
    type=click.IntRange(min=1),
    help="Length of the hour in seconds, to try limits.",
)
@click.option(
    "--version-urls",
    type=click.Choice(["api", "api_bytes", "storage"]),
    default="api",
    show_default=True,
    help="Where version urls point: the API's host, which redirects or sends the bytes itself, or the store.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse more and tell less, wherever Procore's documentation leaves that open.",
)
@click.option(
    "--openapi",
    "openapi_path",
    is_flag=False,
    flag_value=str(DESCRIPTION),
    metavar="[FILE]",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check all calls against this OpenAPI description; without FILE against the one that comes with ProcoreFS.",
)
def sandbox(big_file_mib: int, **options: Any) -> None:  # noqa: ANN401 - click's values, one a field of SandboxConfig
    """Run an embedded Procore until Ctrl-C; prints one JSON line when it is ready."""
    config = SandboxConfig(big_file_bytes=big_file_mib * 1024 * 1024, **options)
    checker = None if config.openapi_path is None else _checker(config.openapi_path)
    try:
        parts = Sandbox(config)
    except (OSError, sqlite3.DatabaseError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.ClickException(
            f"the data directory {config.data_dir} cannot be used ({reason}); name another one"
        ) from error
    try:
        trio.run(_run_until_signal, parts, checker)
    finally:
        parts.close()


def _checker(description: Path) -> Checker:
    if find_spec("openapi_core") is None:
        raise click.ClickException(
            "--openapi needs the Python package openapi-core; run: pip install openapi-core"
        )
    try:
        return Checker(description)
    except NotTheDescription as error:
        raise click.BadParameter(f"{description} cannot be used: {error}", param_hint="--openapi") from error


async def _run_until_signal(parts: Sandbox, checker: Checker | None) -> None:
    hosts = await _prepared(parts)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_prepared, parts, hosts, checker)
            say(announcement_line(parts))
            sys.stdout.flush()
            async for _signal in signals:
                nursery.cancel_scope.cancel()
                break


async def _prepared(parts: Sandbox) -> Hosts:
    config = parts.config
    try:
        return await prepare(parts)
    except OSError as error:
        ports = ", ".join(str(port) for port in (config.port, config.storage_port) if port)
        raise click.ClickException(
            f"Cannot listen on 127.0.0.1 port {ports or 'any'}: {error.strerror}. Choose another with --port."
        ) from error
    except ApiError as error:
        raise click.ClickException(f"Cannot import {config.import_dir}: {error.errors}") from error


if __name__ == "__main__":
    sandbox()
