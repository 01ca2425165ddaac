"""`procorefs retry` and `procorefs discard`: send failed changes again, or discard them."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

from procorefs.cli.mounts.locate import by_mount, find_location
from procorefs.cli.mounts.registry import Entry
from procorefs.cli.support.formatting import counted, full_path
from procorefs.cli.support.terminal import say
from procorefs.config import Failure, find_paths
from procorefs.journal.states import ChangeState
from procorefs.service.control_socket import DiscardRequest, Remaining, RetryRequest, ask
from procorefs.storage.printable import printable

_TIMEOUT_S = 60.0
"""The daemon changes the journal and staged files of many items before it answers."""


class NothingThere(Failure):
    """No change below the paths can be retried or discarded."""


@click.command(short_help="Send failed changes again.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def retry(paths: tuple[str, ...]) -> None:
    """Send again what failed or was cut off at or below PATH…, and let pass what the delete guard holds there.

    PATH may be gone from the mount. `procorefs sync` waits for the result.
    """
    done = [
        (daemon, ask(Path(daemon.socket), RetryRequest(below), Remaining, timeout_s=_TIMEOUT_S))
        for daemon, below in _wanted(paths)
    ]
    number = sum(remaining.total for _, remaining in done)
    if not number:
        raise NothingThere(f"nothing failed at or below {_named(paths)}; `procorefs status` lists failures")
    say(f"{counted(number, 'change')} will be sent again.")


@click.command(short_help="Throw failed changes away.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def discard(paths: tuple[str, ...]) -> None:
    """Throw away what failed, was cut off or is held at or below PATH…. The mount then shows what Procore has.

    Deletions that the delete guard holds are taken back: PATH may be gone from the mount.
    It does not ask before. Uploads in progress continue.
    """
    done = [
        (daemon, ask(Path(daemon.socket), DiscardRequest(below), Remaining, timeout_s=_TIMEOUT_S))
        for daemon, below in _wanted(paths)
    ]
    if not any(remaining.total for _, remaining in done):
        raise NothingThere(
            f"nothing failed or is held at or below {_named(paths)}, so nothing was thrown away; "
            "`procorefs status` lists failures"
        )
    for daemon, remaining in done:
        thrown = [item for item in remaining.items if item.state is not ChangeState.GUARDED]
        for item in thrown:
            why = f" ({printable(item.reason)})" if item.reason else ""
            say(f"Thrown away: {full_path(item, Path(daemon.mountpoint))}{why}")
        if len(thrown) < len(remaining.items):  # what the delete guard holds comes last
            number = remaining.total - len(thrown)
            say(f"Taken back: {counted(number, 'deletion or overwrite', 'deletions and overwrites')}")
        elif remaining.total > len(thrown):
            say(f"Thrown away: {remaining.total - len(remaining.items):,} more in {daemon.mountpoint}")


def _wanted(texts: tuple[str, ...]) -> Iterator[tuple[Entry, tuple[str, ...]]]:
    paths = find_paths(os.environ)
    yield from by_mount([find_location(text, paths) for text in texts]).items()


def _named(texts: tuple[str, ...]) -> str:
    return " or ".join(printable(text) for text in texts)
